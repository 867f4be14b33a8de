"""Metrics: a local log first, from there to MLflow."""
