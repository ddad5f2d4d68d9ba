"""Vision-language wrappers over the unmodified encoder-decoders of transformers.

>>> from bench import backbones
>>> backbones.shape("bart-base").d
768

A backbone family (BART, T5) is one file in this folder that holds a ``FAMILY``;
:class:`bench.backbones.family.BackboneFamily` says what goes into it. A size of a family is one entry of its
``presets``, and any checkpoint of it can be named by its path.

The public names are listed once, in ``__init__.pyi``, and loaded when they are first used: importing this package
imports neither torch nor transformers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
