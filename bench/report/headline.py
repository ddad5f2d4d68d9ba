"""What a report says first: who is ahead, who cannot be told apart from the first, and at what cost."""

from collections.abc import Sequence

from bench.report.run_entries import RunEntry
from bench.report.standing import MEAN_RANK, Standing, standings
from bench.report.stats import mean

NAMED = 6  # rows that a sentence names


def headlines(entries: Sequence[RunEntry]) -> list[str]:
    """Return a few sentences for each backbone and suite on which rows are ranked."""
    return [line for standing in standings(entries) if (line := _headline(standing))]


def _headline(standing: Standing) -> str:
    leader = standing.leader
    if leader is None:
        return ""
    first = standing.rows[leader][0]
    key = MEAN_RANK if standing.mean_ranks else standing.tasks[0]
    level = [label for label in standing.ranked if label in standing.level_with_best(key) and label != leader]
    what = f"the best mean rank over {len(standing.tasks)} tasks" if standing.mean_ranks else "the best score"
    sentences = [f"{first.backbone}, {first.suite}: {leader} has {what} of {len(standing.ranked)} rows"]
    if level:
        names = ", ".join(level[:NAMED]) + (f" and {len(level) - NAMED} more" if len(level) > NAMED else "")
        sentences.append(f"it cannot be told apart from {names}")
    elif standing.level_with_best(key):
        sentences.append("no other row is level with it")
    else:
        sentences.append("how sure that is cannot be said: nothing is known of the spread")
    shares = {label: share for label in [leader, *level] if (share := _share(standing, label)) is not None}
    if leader in shares:
        cheapest = min(shares, key=lambda label: shares[label])
        cost = f"it trains {shares[leader]:.2f} % of the parameters"
        sentences.append(cost + (f", {cheapest} {shares[cheapest]:.2f} %" if cheapest != leader else ""))
    seeds = "one seed, so that nothing is known of another" if standing.seeds == 1 else f"{standing.seeds} seeds"
    return "; ".join(sentences) + f" ({seeds})."


def _share(standing: Standing, label: str) -> float | None:
    shares = [entry.measured["percent"] for entry in standing.rows[label] if "percent" in entry.measured]
    return mean(shares) if shares else None
