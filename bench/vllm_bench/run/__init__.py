"""The parent of a run: starts senders, reads replies, writes rows."""
