"""What runs, levels and series say together."""
