"""Scores on the validation splits over the training, for runs that are validated after every epoch."""

from collections.abc import Mapping, Sequence

import pandas as pd

from bench.report.figure import Drawing
from bench.report.plots.training_curves import Curve
from bench.report.plots.training_curves import drawings as curve_drawings
from bench.report.run_entries import RunEntry

ORDER = 5
VALIDATION = Curve("validation", "mean score", "Validation score (mean over tasks)", "validation")


def drawings(entries: Sequence[RunEntry], curves: Mapping[str, pd.DataFrame]) -> list[Drawing]:
    """Return a plot if at least one run was validated on the way."""
    return curve_drawings(entries, curves, VALIDATION)
