"""Exact and near duplicates, and documents that overlap evaluation sets."""
