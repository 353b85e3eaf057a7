"""Where prompts come from, how long they are, and how a run draws them."""
