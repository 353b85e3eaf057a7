"""How the head of a load and its foremen find each other: an address, a key, and who is who."""
