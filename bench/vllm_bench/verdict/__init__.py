"""Whether to believe a run, and what to do about each doubt."""
