"""Planted cases: situations whose truth is known, and whether the verdict on them is right."""
