"""Runs of several classes of users."""
