"""What a checkpoint is worth: fine-tuning, probes, held-out text."""
