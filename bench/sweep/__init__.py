"""From a sweep to its runs, and how they are executed."""
