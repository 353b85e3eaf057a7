"""One kind of traffic of a run: what goes when, what names it, what the JSON says of it. Pure."""
