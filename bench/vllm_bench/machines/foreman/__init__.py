"""One machine of several, as the process on it has it."""
