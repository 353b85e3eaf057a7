"""A simulated vLLM server: engine, HTTP interface, faults, and the record of its times."""
