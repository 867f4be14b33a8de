"""Shard sets on disk: writing, reading, checking, mixing."""
