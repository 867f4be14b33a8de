"""Training state on disk: named fp32 fragments, verified, free of stage and world size."""
