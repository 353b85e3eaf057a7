"""The files of a run: the type of each, its writer and its reader."""
