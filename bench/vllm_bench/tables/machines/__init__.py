"""The machines of a run, for people."""
