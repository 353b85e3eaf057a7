"""How much can it take: which load to try next, and when to stop. Pure."""
