"""Which requests are sent, in which order, and when: seeded and hashed. Pure."""
