"""From raw files to verified shards in idempotent tasks, on one machine or on many."""
