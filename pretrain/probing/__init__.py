"""Cheap measures of a checkpoint: the objective on held-out text, and a linear probe."""
