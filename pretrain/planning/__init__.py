"""What a run will need, before it is queued: memory, time and money."""
