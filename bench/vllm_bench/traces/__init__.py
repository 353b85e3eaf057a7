"""Recorded traffic: when its requests came, how long they were, and texts of these lengths."""
