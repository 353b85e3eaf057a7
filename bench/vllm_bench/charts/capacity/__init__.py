"""Charts of how much a server takes."""
