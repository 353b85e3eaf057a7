"""From samples and counters to figures of the server and its GPUs."""
