"""Which requests, in which order, when: seeded and hashed. Pure."""
