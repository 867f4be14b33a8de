"""What keeps a run from failing silently: bad updates, diverging processes, hangs."""
