"""The parent process of a run: starts senders, reads replies, writes rows."""
