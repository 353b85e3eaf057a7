"""Sets of questions with answers, and how a model's answers are read and scored. Pure."""
