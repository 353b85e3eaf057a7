"""Many runs with one question: servers by turns, a search."""
