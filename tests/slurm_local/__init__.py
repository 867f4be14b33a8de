"""A real SLURM of several nodes on this machine, for tests and for `make slurm-local`."""
