"""Documents to token ids to rows of equal length."""
