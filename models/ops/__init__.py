"""Operators of the local branch: one interface, several backends."""
