"""Samplers that run beside the load."""
