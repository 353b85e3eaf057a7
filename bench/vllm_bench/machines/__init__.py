"""Machines that send one load together: found, dealt the plan, kept on one clock, and lost."""
