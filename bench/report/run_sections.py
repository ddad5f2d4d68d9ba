"""The parts of a page that tell everything about one run."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.report.curves import usable_points
from bench.report.escaping import html_text, printable

#: what is told of a run, in this order; the first ones are open
PARTS = {
    "scores": "Scores",
    "changed": "Settings that differ from the defaults",
    "recipe": "Recipe",
    "parameters": "Parameters",
    "time": "Time (s)",
    "memory": "Memory (bytes)",
    "diagnostics": "Diagnostics of the method",
    "environment": "Environment",
    "data_root": "Data",
    "fingerprints": "Fingerprints",
    "notes": "Notes",
    "attempts": "Attempts",
    "files": "Files",
}
OPEN = ("scores", "changed")
LONGEST = 4000  # letters of a value
WIDTH, HEIGHT = 460, 130


def run_sections(runs: Mapping[str, Mapping[str, Any]], curves: Mapping[str, pd.DataFrame]) -> str:
    """Return a part for every run.

    Args:
        runs: what :func:`bench.run_details.describe_run` says, and the end of the log as "log_tail", by run id.
        curves: training curves by run id.
    """
    if not runs:
        return ""
    search = '<p><input id="run-filter" type="search" placeholder="filter runs" aria-label="filter runs"></p>'
    return search + "".join(_section(run_id, run, curves.get(run_id)) for run_id, run in runs.items())


def _section(run_id: str, run: Mapping[str, Any], curve: pd.DataFrame | None) -> str:
    title = f"{run.get('title', '')} · {run.get('backbone', '')} · {run.get('suite', '')} · seed {run.get('seed', '')}"
    state = str(run.get("state", ""))
    parts = [_failure(run["failure"])] if run.get("failure") else []
    parts += [_curves(curve)] if curve is not None else []
    for key, heading in PARTS.items():
        if run.get(key):
            opened = " open" if key in OPEN else ""
            parts.append(f"<details{opened}><summary>{heading}</summary>{_value(run[key])}</details>")
    if run.get("log_tail"):
        parts.append(f"<details><summary>End of the log</summary><pre>{_lines(run['log_tail'])}</pre></details>")
    summary = f'{html_text(title)} <span class="state {html_text(state)}">{html_text(state)}</span>'
    return (
        f'<details class="run" id="run-{html_text(run_id)}"><summary>{summary}</summary>'
        f"<p><code>{html_text(run_id)}</code></p>{''.join(parts)}</details>"
    )


def _failure(failure: Mapping[str, Any]) -> str:
    trace = f"<pre>{_lines(failure['traceback'])}</pre>" if failure.get("traceback") else ""
    words = " ".join(str(failure.get(key) or "") for key in ("cause", "type", "message"))
    return (
        f'<p class="cause">failed in {html_text(failure.get("phase") or "?")}: {html_text(words)}</p>{trace}'
        f"<p>Again: <code>{html_text(failure.get('retry') or '')}</code></p>"
    )


def _lines(text: str) -> str:
    """Escape text of several lines."""
    return "\n".join(html_text(line) for line in str(text)[-LONGEST:].splitlines())


def _value(value: Any) -> str:
    """Return plain data as nested tables."""
    if isinstance(value, Mapping):
        rows = "".join(
            f'<tr><th scope="row">{html_text(str(key))}</th><td class="text">{_value(item)}</td></tr>'
            for key, item in value.items()
        )
        return (
            f'<div class="scroll" tabindex="0"><table class="facts"><tbody>{rows}</tbody></table></div>'
            if rows
            else "none"
        )
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return "".join(map(_value, value))
    if isinstance(value, list | tuple):
        return html_text(", ".join(map(str, value))[:LONGEST])
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return html_text("none" if value is None else str(value)[:LONGEST])


def _curves(curve: pd.DataFrame) -> str:
    """Draw the training loss of a run and, where it was validated on the way, its validation score."""
    return _curve(curve, "loss", "training loss") + _curve(curve, "validation", "validation score (mean over tasks)")


def _curve(curve: pd.DataFrame, value: str, words: str) -> str:
    points = usable_points(curve, value)
    if len(points) < 2:
        return ""
    steps, losses = points["step"].astype(float), points[value].astype(float)
    low, high = float(losses.min()), float(losses.quantile(0.98 if value == "loss" else 1.0))
    x = 40 + (steps - steps.min()) / (steps.max() - steps.min() or 1.0) * (WIDTH - 50)
    y = 10 + (high - losses.clip(low, high)) / ((high - low) or 1.0) * (HEIGHT - 40)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    first, last, below = f"{steps.min():.0f}", f"{steps.max():.0f}", HEIGHT - 12
    label = f"{words} from step {first} to {last}, from {losses.iloc[0]:.3g} to {losses.iloc[-1]:.3g}"
    texts = [(36, 16, "end", f"{high:.3g}"), (36, HEIGHT - 28, "end", f"{low:.3g}")]
    texts += [(40, below, "start", f"step {first}"), (WIDTH - 10, below, "end", last)]
    ticks = "".join(
        f'<text class="tick" x="{a}" y="{b}" text-anchor="{anchor}">{text}</text>' for a, b, anchor, text in texts
    )
    return (
        f"<figure><figcaption>{words}</figcaption>"
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html_text(label)}">'
        f'<polyline points="{line}" fill="none" stroke="#0b72b5" stroke-width="1.5"/>{ticks}</svg></figure>'
    )


def json_script(content: Any) -> str:
    """Return plain data in a script element that no text in it can end."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json">{printable(text)}</script>'
