"""Recorded sessions of agents: who waits for whom, how long, and with which prompts."""
