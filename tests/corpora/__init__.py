"""More English text that ships in packages, for benchmarks and for trying large corpora."""
