"""Pages and pictures of what runs cost and measured: accuracy against training FLOPs."""
