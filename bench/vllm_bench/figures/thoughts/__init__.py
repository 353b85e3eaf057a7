"""What of a run's replies was thought, and what was answered."""
