"""What a run leaves on disk."""

from bench.config import Run

BYTES = 4  # per trained number: weights are kept in single precision
PREDICTION = 100  # compressed bytes of a prediction with its reference and its score, rounded up
RECORDS = 200_000  # record, curve, configuration, segments, attempts


def disk(run: Run, trainable: int, reported: int) -> dict[str, int]:
    """Return the bytes of a run's directory by purpose.

    ``weights`` are the trained numbers, twice where the best epoch is selected; ``predictions`` those of the reported
    splits with their scores; ``records`` everything else. ``checkpoint``, with Adam's two moments, is there while the
    run trains only and is not in ``total``.

    Args:
        run: the run.
        trainable: its number of trained parameters.
        reported: number of examples of the reported splits.
    """
    copies = 2 if run.recipe.select == "best" else 1
    parts = {"weights": copies * BYTES * trainable, "predictions": PREDICTION * reported, "records": RECORDS}
    return parts | {"total": sum(parts.values()), "checkpoint": 3 * BYTES * trainable}
