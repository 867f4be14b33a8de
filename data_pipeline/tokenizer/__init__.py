"""Tokenizers: training, use, export."""
