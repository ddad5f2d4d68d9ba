"""Benchmark and ablation suite for parameter-efficient tuning of vision-and-language models.

>>> import bench
>>> results = bench.load_results("results")  # a tidy DataFrame: one row per run and task
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.records import load_results

__version__ = "0.1.0"
__all__ = ["__version__", "load_results"]


def __getattr__(name: str) -> Any:
    if name == "load_results":
        from bench.records import load_results

        return load_results
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
