"""Fair tuning: the same configurations for every method, scored on what no table reports, as an ordinary sweep."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from bench.config import parse_setting
from bench.errors import UsageError
from bench.sweep.axes import terms
from bench.sweep.spec import Sweep, changed
from bench.toml_files import shortened

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Sampler = Literal["random", "grid"]
LARGEST = 2**53  # the largest number of a range: beyond it, real numbers do not tell integers apart
REDRAWS = 200  # draws per configuration before the space counts as too small
DECADE = 10  # a range whose ends are a factor of so much apart is searched on a logarithmic scale


def space(texts: Sequence[str]) -> dict[str, "BaseDistribution"]:
    """Parse ``lr=1e-4..1e-2`` (a range: logarithmic where its ends are far apart) and ``rank=12,24`` (choices).

    Raises:
        UsageError: no KEY=VALUES, a key or choice that is there twice, or a range whose ends are no finite numbers, or
            the wrong way round.
    """
    from optuna.distributions import CategoricalDistribution

    distributions: dict[str, BaseDistribution] = {}
    for text in texts:
        key, _, values = text.partition("=")
        key = key.strip()
        if not key or not values.strip():
            raise UsageError(f"--space {shortened(repr(text))}: expected KEY=LOW..HIGH, or choices KEY=V,V")
        if key in distributions:
            raise UsageError(f"--space {key}: is given twice")
        first, dots, last = values.partition("..")
        if dots:
            distributions[key] = _range(key, first, last, text)
            continue
        choices = [parse_setting(f"{key}={value}", "--space")[1] for value in terms(values)]
        if "" in choices or len({repr(choice) for choice in choices}) < len(choices):
            raise UsageError(f"--space {shortened(repr(text))}: a choice is empty or there twice")
        distributions[key] = CategoricalDistribution(choices)
    return distributions


def _range(key: str, first: str, last: str, text: str) -> "BaseDistribution":
    from optuna.distributions import FloatDistribution, IntDistribution

    low, high = (parse_setting(f"{key}={end}", "--space")[1] for end in (first, last))
    if not all(type(end) in (int, float) and abs(end) <= LARGEST for end in (low, high)) or low >= high:
        example = "expected KEY=LOW..HIGH with two numbers, for example lr=1e-4..1e-2"
        raise UsageError(f"--space {shortened(repr(text))}: {example}")
    log = low > 0 and high >= DECADE * low
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def configurations(
    distributions: Mapping[str, "BaseDistribution"],
    count: int,
    sampler: Sampler,
    seed: int,
    defaults: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Draw configurations that differ; the same arguments give the same ones. A grid has all combinations of choices.

    Every method is to try ``count`` configurations besides its own default. So a draw that was there already, or that
    is the default of one of the methods, is made again.

    Args:
        distributions: the space by setting.
        count: the number of configurations.
        sampler: "random", or "grid" for all points of a space of choices.
        seed: seed of the search.
        defaults: the values of every base of the sweep.

    Raises:
        UsageError: a grid over a range, or a space with another number of points than a grid needs, or with fewer than
            random draws need.
    """
    if sampler == "grid":
        return _grid(distributions, count)
    import optuna

    size = _size(distributions)
    taken = {repr(point) for point in _points_of(defaults, distributions)} if size else set()
    if size and size - len(taken) < count:
        free = size - len(taken)
        besides = f" besides the defaults of the methods ({len(taken)} of them are in it)" if taken else ""
        remedy = f"give --trials {free}, or a wider --space" if free else "give a wider --space"
        message = f"the space of {', '.join(distributions)} has {free} points{besides}"
        remedy = f"budgets are equal only where all is spent: {remedy}"
        raise UsageError(f"--trials {count}: {message}; {remedy}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    drawn: list[dict[str, Any]] = []

    def draw(trial: Any) -> float:
        drawn.append({key: _rounded(_suggested(trial, key, among)) for key, among in distributions.items()})
        return 0.0  # the sampler does not learn from results

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    points: dict[str, dict[str, Any]] = {}
    while len(points) < count and len(drawn) < REDRAWS * count:
        begin = len(drawn)
        study.optimize(draw, n_trials=count - len(points))
        for point in drawn[begin:]:
            if not any(_is_default(point, default) for default in defaults):
                points.setdefault(repr(point), point)
    if len(points) < count:
        message = f"{len(drawn)} draws gave only {len(points)} configurations that differ in three digits"
        raise UsageError(f"--trials {count}: {message}; give a wider --space or fewer trials")
    return list(points.values())


def in_default(points: Sequence[Mapping[str, Any]], defaults: Sequence[Mapping[str, Any]]) -> int:
    """Return how many of the points are the default of a base."""
    return sum(any(_is_default(point, default) for default in defaults) for point in points)


def _grid(distributions: Mapping[str, "BaseDistribution"], count: int) -> list[dict[str, Any]]:
    from optuna.distributions import CategoricalDistribution

    choices = {key: list(d.choices) for key, d in distributions.items() if isinstance(d, CategoricalDistribution)}
    if len(choices) < len(distributions):
        raise UsageError("--sampler grid: write choices, for example --space lr=1e-3,3e-3,1e-2, not a range")
    number = math.prod(len(values) for values in choices.values())
    if number != count:
        raise UsageError(f"--sampler grid: the space has {number} points; give it --trials {number}")
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def _size(distributions: Mapping[str, "BaseDistribution"]) -> int | None:
    """Return the number of points of a space without ranges of real numbers; None for one with such."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    number = 1
    for distribution in distributions.values():
        if isinstance(distribution, CategoricalDistribution):
            number *= len(distribution.choices)
        elif isinstance(distribution, IntDistribution):
            number *= distribution.high - distribution.low + 1
        else:
            return None
    return number


def _points_of(
    defaults: Sequence[Mapping[str, Any]], distributions: Mapping[str, "BaseDistribution"]
) -> list[dict[str, Any]]:
    """Return the defaults as points, those that are in the space."""
    points = [
        {key: default[key] for key in distributions} for default in defaults if set(distributions) <= set(default)
    ]
    return [point for point in points if all(_contains(distributions[key], value) for key, value in point.items())]


def _contains(distribution: Any, value: Any) -> bool:
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        return value in choices
    return type(value) in (int, float) and distribution.low <= value <= distribution.high


def _is_default(point: Mapping[str, Any], default: Mapping[str, Any]) -> bool:
    return all(key in default and default[key] == value for key, value in point.items())


def _suggested(trial: Any, key: str, among: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(among, CategoricalDistribution):
        return trial.suggest_categorical(key, among.choices)
    suggest = trial.suggest_int if isinstance(among, IntDistribution) else trial.suggest_float
    return suggest(key, among.low, among.high, log=among.log)


def _rounded(value: Any) -> Any:
    """Round a number to three significant digits, which are enough for a setting and can be typed."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


def tuned(sweep: Sweep, points: Sequence[Mapping[str, Any]]) -> Sweep:
    """Return the sweep in which every method runs with its own settings and at every point, to tune.

    Raises:
        UsageError: the sweep has axes or deltas of its own.
    """
    if sweep.is_ablation:
        raise UsageError(f"sweep {sweep.name!r} has axes or deltas; tune one without")
    axes = {key: tuple(point[key] for point in points) for key in points[0]}
    given = {**sweep.given, "evaluate": "tuning"}
    steps = (tuple(axes),) if len(axes) > 1 else ()
    folder = sweep.folder and f"{sweep.folder}-tuning"
    return changed(sweep, name=f"{sweep.name}-tuning", folder=folder, axes=axes, steps=steps, given=given)
