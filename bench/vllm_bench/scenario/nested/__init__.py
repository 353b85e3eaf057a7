"""Keys of a scenario that have keys of their own, and what all keys have in common."""
