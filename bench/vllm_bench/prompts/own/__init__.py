"""People's own files of prompts: their formats, their rows, their pictures."""
