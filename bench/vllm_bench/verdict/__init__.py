"""Whether a run is worth believing, and what to do about it."""
