"""The suites, one file each. A new suite is a new module here that defines ``SUITE``, or an entry point
``vlpet_bench.suites``.

>>> from bench import suites
>>> suites.names()
['image-text', 'video-text']
>>> suites.get("image-text").official_tasks
('vqa', 'gqa', 'nlvr', 'caption')
"""

from functools import lru_cache

from bench.errors import unknown
from bench.plugins import Registry, discover
from bench.suites.suite import Features, Miniature, Suite

__all__ = ["Features", "Miniature", "Suite", "built_in", "get", "names", "official_tasks"]


@lru_cache
def _registry() -> Registry[Suite]:
    return discover(Suite, __name__, __path__, "SUITE", "vlpet_bench.suites", order=lambda suite: suite.name)


def names() -> list[str]:
    """Return the names of all suites: the built-in ones, then those of plug-ins."""
    return list(_registry().entries)


def built_in() -> tuple[str, ...]:
    """Return the names of the suites that come with this distribution, whatever plug-ins are installed."""
    return _registry().built_in


def official_tasks() -> list[str]:
    """Return the names of the official tasks of the built-in suites, whatever plug-ins are installed."""
    return [name for suite in built_in() for name in get(suite).official_tasks]


def get(name: str) -> Suite:
    """Return a suite; UsageError with near matches for an unknown name."""
    if name not in _registry().entries:
        raise unknown("suite", name, names())
    return _registry().entries[name]
