"""``convbert study``: variants of one model on equal training FLOPs, several seeds, one page."""
