"""Every setting of a run, as pydantic sections; importable without torch."""
