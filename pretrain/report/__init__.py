"""Accuracy against training FLOPs: measured, drawn, published."""
