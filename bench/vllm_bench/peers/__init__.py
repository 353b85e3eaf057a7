"""Other load generators beside this one: what each tells of a server whose own record is known."""
