"""Sessions as a run plays them: which, in which order, from which turn, and with which waits."""
