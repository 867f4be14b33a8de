"""One process's part of a run: engine, loop, optimizer, schedule, launching and stopping."""
