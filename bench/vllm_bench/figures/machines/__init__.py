"""The machines of a run that several sent: what each of them says, sent, and saw."""
