"""Training curves as reports take them: only points that are numbers."""

from collections.abc import Mapping

import numpy as np
import pandas as pd


def usable_points(curve: pd.DataFrame, value: str = "loss") -> pd.DataFrame:
    """Return the columns ``step`` and ``value`` of a curve, without the points where one of them is no finite number.

    Updates count from 1. A curve without these columns has no such points.
    """
    if not {"step", value} <= set(curve.columns):
        return pd.DataFrame(columns=["step", value], dtype=float)
    points = curve[["step", value]].map(_number)
    return points[(np.isfinite(points.to_numpy(dtype=float)).all(axis=1)) & (points["step"] >= 1).to_numpy()]


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float | np.number) and not isinstance(value, bool) else float("nan")


def unusable(curves: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return a line for every curve that has points, but none that can be drawn."""
    return [
        f"training curve of {run_id}: no point has a step and a finite loss"
        for run_id, curve in curves.items()
        if len(curve) and usable_points(curve).empty
    ]
