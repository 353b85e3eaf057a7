"""The progress of a run, as lines or as a screen."""
