"""Sweeps: from a specification to runs, how these are executed, and the states that they are in."""
