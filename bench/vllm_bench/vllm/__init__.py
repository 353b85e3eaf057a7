"""A vLLM server off the timing path: control calls, and its metrics page."""
