"""Where prompts come from, how long they are, how a run draws them."""
