"""The machinery of the methods.

``registry`` gives methods their names, ``spec`` and ``deltas`` are the schema they are written in, ``sites`` finds
named places in an HF model, ``placement``, ``patching`` and ``attach`` put a method there, ``handle`` counts, saves and
detaches it. ``contracts`` says what a method's modules may ask of training, input and export.
"""
