"""Who starts the foremen of a session: commands, Ray, or somebody by hand."""
