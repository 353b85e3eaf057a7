"""Every figure that is shown: CSV, JSON, Markdown, terminal."""
