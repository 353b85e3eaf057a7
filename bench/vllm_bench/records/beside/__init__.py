"""Files that lie beside a run's rows."""
