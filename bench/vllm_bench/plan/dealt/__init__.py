"""Who sends which portion of a plan, where several machines send it together. Pure."""
