"""Answers to questions: how many are right, and which of them a load makes wrong."""
