"""Figures of runs, levels and series."""
