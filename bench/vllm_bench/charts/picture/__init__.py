"""Parts of the matplotlib pen: its style, its words, axes and legends."""
