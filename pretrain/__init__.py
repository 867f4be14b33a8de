"""Training, recovery, tracking, fine-tuning and reports."""
