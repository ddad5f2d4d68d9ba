"""Fair tuning: the same configurations for every method, scored on what no table reports, as an ordinary sweep."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from bench.config import parse_setting
from bench.errors import UsageError
from bench.sweep.axes import terms
from bench.sweep.spec import Sweep, changed

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Sampler = Literal["random", "grid"]
DECADE = 10  # a range whose ends are a factor of so much apart is searched on a logarithmic scale


def space(texts: Sequence[str]) -> dict[str, "BaseDistribution"]:
    """Parse ``lr=1e-4..1e-2`` (a range: logarithmic where its ends are far apart) and ``rank=12,24`` (choices).

    Raises:
        UsageError: a range whose ends are no numbers, or the wrong way round.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    distributions: dict[str, BaseDistribution] = {}
    for text in texts:
        key, _, values = text.partition("=")
        first, dots, last = values.partition("..")
        if not dots:
            distributions[key] = CategoricalDistribution(
                [parse_setting(f"{key}={value}")[1] for value in terms(values)]
            )
            continue
        low, high = parse_setting(f"{key}={first}")[1], parse_setting(f"{key}={last}")[1]
        if not isinstance(low, int | float) or not isinstance(high, int | float) or low >= high:
            raise UsageError(f"--space {text!r}: expected KEY=LOW..HIGH with two numbers, for example lr=1e-4..1e-2")
        log = low > 0 and high >= DECADE * low
        is_integer = isinstance(low, int) and isinstance(high, int)
        distributions[key] = (
            IntDistribution(int(low), int(high), log=log) if is_integer else FloatDistribution(low, high, log=log)
        )
    return distributions


def configurations(
    distributions: Mapping[str, "BaseDistribution"], count: int, sampler: Sampler, seed: int
) -> list[dict[str, Any]]:
    """Draw configurations; the same arguments give the same ones. A grid has all combinations of choices.

    Raises:
        UsageError: a grid over a range, or with another number of points than wanted.
    """
    import optuna
    from optuna.distributions import CategoricalDistribution
    from optuna.samplers import GridSampler, RandomSampler

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if sampler == "grid":
        choices = {k: list(d.choices) for k, d in distributions.items() if isinstance(d, CategoricalDistribution)}
        if len(choices) < len(distributions):
            raise UsageError("--sampler grid: write choices, for example --space lr=1e-3,3e-3,1e-2, not a range")
        points = 1
        for values in choices.values():
            points *= len(values)
        if points != count:
            raise UsageError(f"--sampler grid: the space has {points} points; give it --trials {points}")
        drawn: Any = GridSampler(choices, seed=seed)
    else:
        drawn = RandomSampler(seed=seed)

    def draw(trial: Any) -> float:
        for key, among in distributions.items():
            _suggested(trial, key, among)
        return 0.0  # neither sampler learns from results

    study = optuna.create_study(sampler=drawn)
    study.optimize(draw, n_trials=count)
    return [{key: _rounded(trial.params[key]) for key in distributions} for trial in study.trials]


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
    return changed(sweep, name=f"{sweep.name}-tuning", axes=axes, steps=(tuple(axes),), given=given)
