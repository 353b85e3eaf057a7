"""Whether to believe a run that several machines sent."""
