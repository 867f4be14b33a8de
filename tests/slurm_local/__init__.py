"""A real SLURM of several nodes on this machine, for trying things and for the tests."""
