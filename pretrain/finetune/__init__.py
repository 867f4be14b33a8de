"""Fine-tuning: what a pretrained encoder is worth on labelled tasks."""
