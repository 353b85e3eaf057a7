"""What operators do to scripts: signals at any moment, odd places, outputs that take nothing."""
