"""Weights in and out: Hugging Face directories, TensorFlow checkpoints, published vocabularies."""
