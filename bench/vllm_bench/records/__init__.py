"""What a run leaves on disk: a type a file, its writer and its reader side by side."""
