"""What is drawn, and who draws it."""
