"""ConvBERT, its baselines and ablations, their counts and their checkpoint formats."""
