"""Registries of named objects: one module of a package each, and the entry points of installed distributions."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar

from bench.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Registry(Generic[T]):
    """What is registered, by name, and the names of what this distribution brings itself."""

    entries: dict[str, T]
    built_in: tuple[str, ...]


def discover(
    kind: type[T], package: str, folders: Iterable[str], attribute: str, group: str, order: Callable[[T], Any]
) -> Registry[T]:
    """Collect the objects of a kind: the built-in ones first, each in the order of ``order``.

    Args:
        kind: the class of the objects, which have a ``name``.
        package: a package whose modules may define such an object.
        folders: the folders of that package.
        attribute: what a module calls its object.
        group: the group of entry points whose values are such objects.
        order: the sort key within the built-in objects, and within those of plug-ins.

    A plug-in that cannot be loaded is left out with a warning that names it.

    Raises:
        UsageError: two objects have the same name; both providers are named.
    """
    modules = [import_module(f"{package}.{module.name}") for module in iter_modules(folders)]
    built_in = [(getattr(m, attribute), f"module {m.__name__}") for m in modules if hasattr(m, attribute)]
    plugins = list(_loaded(kind, group, order))
    providers: dict[str, str] = {}
    entries: dict[str, T] = {}
    for objects in (built_in, plugins):
        for item, provider in sorted(objects, key=lambda pair: order(pair[0])):
            name = _name(item)
            if name in entries:
                raise UsageError(
                    f"two {package.rpartition('.')[2]} are called {name!r}: that of {providers[name]}, and that of "
                    f"{provider}; rename one of them or uninstall its package"
                )
            entries[name], providers[name] = item, provider
    return Registry(entries, tuple(_name(item) for item, _ in built_in))


def _loaded(kind: type[T], group: str, order: Callable[[T], Any]) -> Iterator[tuple[T, str]]:
    for point in entry_points(group=group):
        provider = _provider(point)
        try:
            item = point.load()
            if not isinstance(item, kind):
                raise TypeError(f"it is a {type(item).__name__}, expected a {kind.__name__}")
            if not _name(item).isprintable() or not isinstance(order(item), int | float | str):
                raise TypeError("its name or its order is of a wrong type")
        except (Exception, SystemExit) as error:  # a broken plug-in must not take everything else away
            warnings.warn(f"{provider} is left out: {error}", stacklevel=2)
            continue
        yield item, provider


def _provider(point: EntryPoint) -> str:
    distribution = f" of {point.dist.name}" if point.dist else ""
    return f"entry point {point.value!r}{distribution}"


def _name(item: Any) -> str:
    return str(item.name)
