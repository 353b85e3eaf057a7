"""Who sends which part of a plan, where several machines send it together. Pure."""
