"""From samples and counters to what the server and its GPUs did."""
