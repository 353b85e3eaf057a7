"""Samplers during a run: GPUs, and the server's own metrics."""
