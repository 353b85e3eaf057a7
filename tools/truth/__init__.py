"""Servers of which the truth is known, to hold a search against."""
