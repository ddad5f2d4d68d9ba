"""Small ``nn.Module`` classes that several families of methods share: mathematics on tensors, nothing else.

A block is built from plain numbers and strings and a :class:`~methods.blocks.layer_factory.LayerFactory`. It does not
know which backbone it is put into, nor which method it belongs to. It keeps nothing of a forward pass and gives the
same for the same inputs, task and random numbers, so that the backward pass may compute it again
(:mod:`methods.core.recompute`). Axes in docstrings: ``b`` examples, ``n`` tokens,
``d`` features, ``r`` the rank of a bottleneck.

The names of a block's submodules and parameters are the names of tensors in saved files, so they do not change.
"""
