"""Which settings of a server suit a load: configurations, tried one after the other."""
