"""Weights in and out: Hugging Face directories and TensorFlow checkpoints."""
