"""Turns of sessions on the sending loop: what a play has done so far, and what was answered."""
