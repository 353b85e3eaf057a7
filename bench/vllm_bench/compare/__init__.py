"""Which of two is better: runs in pairs, an effect with its interval, and one word."""
