"""Batches in a global order."""
