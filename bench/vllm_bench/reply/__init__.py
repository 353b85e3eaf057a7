"""Bytes of a reply, what it says, the record of its request. Pure."""
