"""The clocks of machines against the head's: asked for, followed by a line, translated."""
