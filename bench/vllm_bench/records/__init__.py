"""What a run leaves on disk: one type for each file, its writer and its reader side by side."""
