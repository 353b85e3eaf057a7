"""A vLLM server outside the timing path: control calls and its metrics page."""
