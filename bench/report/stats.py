"""Means, standard deviations and ranks as the tables print them.

What is no finite number takes part in none of them.
"""

from collections.abc import Iterable, Sequence
from math import isfinite, sqrt

DECIMALS = (
    9  # means that agree to so many decimals tie, because sums of equal scores differ by their order of summation
)


def finite_only(values: Iterable[float | None]) -> list[float]:
    """Return the values without None, NaN and infinities.

    >>> finite_only([1.0, float("nan"), None, float("inf")])
    [1.0]
    """
    return [value for value in values if value is not None and isfinite(value)]


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean. Raises ZeroDivisionError on an empty sequence.

    >>> mean([64.0, 66.0])
    65.0
    """
    return sum(values) / len(values)


def sample_std(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation (ddof 1), or None for fewer than two values or where it is not finite.

    >>> sample_std([64.0, 66.0])
    1.4142135623730951
    """
    if len(values) < 2:
        return None
    centre = mean(values)
    try:
        std = sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))
    except OverflowError:
        return None
    return std if isfinite(std) else None


def rank_marks(means: Sequence[float | None], better: int) -> list[int]:
    """Return the rank of each mean among the distinct means: 1 best, 2 second best, 0 all others.

    ``better`` is +1 where more is better, -1 where less is, 0 where nothing is ranked; None, NaN and infinities take no
    part. Equal means share a rank. Best is only marked among at least two means, second best among at least three.

    >>> rank_marks([70.0, 72.0, None, 72.0, 69.0], better=+1)
    [2, 1, 0, 1, 0]
    """
    rounded = [round(value, DECIMALS) if value is not None and isfinite(value) else None for value in means]
    present = [value for value in rounded if value is not None]
    order = sorted(set(present), reverse=better > 0)
    marked = order[: min(2, len(present) - 1)] if better else []
    return [marked.index(value) + 1 if value in marked else 0 for value in rounded]
