"""Distributions, errors and bounds of samples. Pure: of numbers, not of runs."""
