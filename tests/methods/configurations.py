"""Random configurations of any registered method, drawn from the types of the method's own options."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import FAMILIES, config

import methods
from methods import MethodError, Shape, Spec
from methods.core.options import At, Biases, Encoder, Layers, Norms
from methods.core.shape import LAYER_SITES
from methods.core.spec import BIASES, NORMS

# Small sizes, some of which do not go together; those are not kept.
ENCODER = tuple(site for site in LAYER_SITES if site.startswith("enc."))
NUMBERS: dict[type, tuple[Any, ...]] = {int: (0, 1, 2, 4, 6, 8), float: (0.25, 0.5, 1.0, 3.0), bool: (True, False)}


def _joined(names: tuple[str, ...], *short: str) -> st.SearchStrategy[str]:
    some = st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True).map("+".join)
    return st.sampled_from(["none", *short]) | some


OF_KIND: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (At, st.lists(st.sampled_from(LAYER_SITES), min_size=1, max_size=3, unique=True).map(tuple)),
    (Norms, _joined(NORMS, "all")),
    (Biases, _joined(BIASES, "all")),
    (Encoder, _joined(ENCODER, "both", "sa", "ff")),
    (Layers, st.sampled_from(["all", (0,), (1,), (0, 1)])),
]


@dataclass(frozen=True)
class Configuration:
    """A method with overrides, for a backbone family."""

    family: str
    name: str
    overrides: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return "-".join([self.family, self.name, *(f"{key}={value}" for key, value in self.overrides)])

    @property
    def chosen(self) -> methods.ResolvedMethod:
        return methods.get(self.name, **dict(self.overrides))

    @property
    def options(self) -> dict[str, Any]:
        return self.chosen.options(shape(self.family))

    @property
    def spec(self) -> Spec:
        return self.chosen.spec(shape(self.family))

    @property
    def fits(self) -> bool:
        """Whether a tiny backbone can have it, and anything is left to train."""
        try:
            spec = self.spec
        except MethodError:
            return False
        return bool(spec.parts) or spec.trainable != methods.Spec().trainable or spec.projector.train != "frozen"


@cache
def shape(family: str) -> Shape:
    return Shape.of(config(family))


def values(kind: Any) -> st.SearchStrategy[Any] | None:
    """What an option of this type may be; None where that cannot be told."""
    for known, strategy in OF_KIND:
        if kind == known:
            return strategy
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    plain = get_args(kind)[0] if hasattr(kind, "__metadata__") else kind
    return st.sampled_from(NUMBERS[plain]) if plain in NUMBERS else None


@st.composite
def configurations(
    draw: Any,
    names: tuple[str, ...] = tuple(methods.names()),
    options: Callable[[str], bool] = lambda option: True,
    fewest: int = 3,
    most: int = 8,
) -> Configuration:
    """A method and some overrides that fit it and each other; methods with many options come up more often.

    Options are tried in the order of the method's signature, where what one needs of another comes first.
    """
    drawable = {
        name: [key for key, kind in methods.get(name).entry.types.items() if options(key) and values(kind) is not None]
        for name in names
    }
    name = draw(st.sampled_from([name for name in names for _ in range(len(drawable[name]))]))
    found = Configuration(draw(st.sampled_from(FAMILIES)), name)
    fewest = min(fewest, len(drawable[name]))
    wanted = draw(st.sets(st.sampled_from(drawable[name]), min_size=fewest, max_size=most))
    for key in drawable[name]:
        if key in wanted:
            strategy = values(methods.get(name).entry.types[key])
            assert strategy is not None
            more = Configuration(found.family, name, (*found.overrides, (key, draw(strategy))))
            found = more if more.fits else found
    return found


DEFAULTS = [Configuration(family, name) for family in FAMILIES for name in methods.names()]
DEFAULTS = [configuration for configuration in DEFAULTS if configuration.fits]


def random(examples: int) -> Callable[[Any], Any]:
    """Settings of a property test: the same examples every time."""
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    return settings(max_examples=examples, derandomize=True, database=None, suppress_health_check=quiet)


def on_every_method(
    examples: int,
    *also: tuple[str, dict[str, Any]],
    where: Callable[[Configuration], bool] = lambda configuration: True,
) -> Callable[[Any], Any]:
    """Run a test on every method's defaults in both families, on random overrides, and on what must not be missed."""
    defaults = [configuration for configuration in DEFAULTS if where(configuration)]
    names = tuple(dict.fromkeys(configuration.name for configuration in defaults))

    def decorate(check: Callable[[Configuration], None]) -> Any:
        @random(examples)
        @given(configurations(names).filter(where))
        @wraps(check)  # whose name seeds the draws
        def overridden(configuration: Configuration) -> None:
            check(configuration)

        named = [Configuration(family, name, tuple(o.items())) for family in FAMILIES for name, o in also]

        @pytest.mark.parametrize("configuration", [*defaults, *named, None], ids=lambda c: str(c or "overridden"))
        def test(configuration: Configuration | None) -> None:
            overridden() if configuration is None else check(configuration)

        return test

    return decorate
