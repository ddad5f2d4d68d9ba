"""Mutated inputs for the whole program: ``python -m tests.fuzz --seed 1`` says how each of them ends."""
