"""How far a run is, as lines or as a screen."""
