"""From a scenario to the parts of its plans."""
