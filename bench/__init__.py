"""Benchmark and ablation suite for parameter-efficient tuning of vision-and-language models.

>>> import bench
>>> results = bench.load_results("results")  # a tidy DataFrame: one row per run and task

The names of this package are listed once, in ``__init__.pyi``; each is imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
