"""A reader for each format of recorded sessions."""
