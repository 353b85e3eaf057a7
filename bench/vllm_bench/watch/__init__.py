"""Samplers beside a run: GPUs, and what the server says of itself."""
