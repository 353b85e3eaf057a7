"""What a server serves besides one model: adapters, priorities, forms of answers."""
