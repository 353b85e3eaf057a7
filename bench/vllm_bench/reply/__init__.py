"""From the bytes of a reply to the record of its request. Pure."""
