"""Clocks of machines."""
