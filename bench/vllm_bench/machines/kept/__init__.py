"""What a machine keeps on its own disk of the runs that it sends, until the head has it."""
