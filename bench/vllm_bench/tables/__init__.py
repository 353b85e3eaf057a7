"""The figures as CSV, JSON, Markdown and terminal tables."""
