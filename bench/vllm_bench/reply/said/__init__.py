"""What an event says: its type, and how each endpoint writes it."""
