"""SLURM: job scripts, submission, status and node checks."""
