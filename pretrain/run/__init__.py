"""A run as files and numbers: its directory, its timeline, its order; importable without torch."""
