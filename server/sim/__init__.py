"""A vLLM server without a GPU: its engine, its wire, its faults, and the truth of what it did."""
