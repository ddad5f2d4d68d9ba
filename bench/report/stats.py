"""Means, standard deviations and ranks as the tables print them."""

from collections.abc import Sequence
from math import sqrt

DECIMALS = (
    9  # means that agree to so many decimals tie, because sums of equal scores differ by their order of summation
)


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean. Raises ZeroDivisionError on an empty sequence.

    >>> mean([64.0, 66.0])
    65.0
    """
    return sum(values) / len(values)


def sample_std(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation (ddof 1), or None for fewer than two values.

    >>> sample_std([64.0, 66.0])
    1.4142135623730951
    """
    if len(values) < 2:
        return None
    centre = mean(values)
    return sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))


def rank_marks(means: Sequence[float | None], better: int) -> list[int]:
    """Return the rank of each mean among the distinct means: 1 best, 2 second best, 0 all others.

    ``better`` is +1 where more is better, -1 where less is, 0 where nothing is ranked; None takes no part. Equal means
    share a rank. Best is only marked among at least two means, second best among at least three.

    >>> rank_marks([70.0, 72.0, None, 72.0, 69.0], better=+1)
    [2, 1, 0, 1, 0]
    """
    rounded = [None if value is None else round(value, DECIMALS) for value in means]
    present = [value for value in rounded if value is not None]
    order = sorted(set(present), reverse=better > 0)
    marked = order[: min(2, len(present) - 1)] if better else []
    return [marked.index(value) + 1 if value in marked else 0 for value in rounded]
