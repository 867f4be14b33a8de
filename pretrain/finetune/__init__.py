"""Fine-tuning: what a pretrained encoder is worth on labeled tasks."""
