"""From a run's rows to its figures."""
