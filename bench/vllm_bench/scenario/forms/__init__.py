"""Which form the answers to a request must have: a JSON schema, or a call of a tool."""
