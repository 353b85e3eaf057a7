"""What chaos.py and soak.py share. None of it imports what it judges: files are read anew here."""
