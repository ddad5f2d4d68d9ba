"""The page of all figures: ``python -m benchmarks.page`` runs the benchmarks and writes docs/performance.md.

It takes about 20 minutes on two cores that do nothing else. The figures are kept in figures.json in this folder, with
machine, date and commit. ``--render`` writes the page from them again. ``--json FILE`` takes the outcome of ``pytest
benchmarks/SOME --benchmark-only --benchmark-json FILE``, and leaves the figures of other benchmarks as they are, with
their own machine, date and commit. What stands between the marks of the GPU section is not touched: ``make bench-gpu``
writes it. docs/scaling.md, which is computed from these figures, is written as well.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu import BEGIN, END
from benchmarks.measuring import KINDS

ROOT = Path(__file__).resolve().parents[1]
FIGURES = Path(__file__).with_name("figures.json")
PAGE = ROOT / "docs" / "performance.md"

HEAD = """# Performance

Written by `python -m benchmarks.page` from `benchmarks/figures.json`; `make bench` prints the same. To compare
commits: `pytest benchmarks --benchmark-only --benchmark-save NAME` at one and `--benchmark-compare NAME` at the other.

Seconds depend on the machine. A ratio is that of two medians: before every round of ours the rival has one, in the same
process, on the same data, and equal outputs are asserted first (without dropout; losses and gradients to rounding).
*Fraction* is the part of the machine's rate of matrix products, measured in the same rounds, that goes into useful
work: the products of the backbone and the projector for tokens that are no padding, forward and for the gradient of
what enters them. *Peak* is the highest number of bytes that torch's allocator holds during an update above the model's
weights: what autograd keeps, gradients, temporary tensors, and the optimiser's state.

*HF PEFT* is PEFT's layers in HF's own modules, with the same rank, places and biases, called as one calls them: the
padded batch at once, all logits, cross-entropy. *The plain path* is the same with our method. Both rivals read visual
tokens through the same wrapper.
"""

STEPS = """\
The last columns of steps say into what kind of work the time of ours goes. Matrix products with frozen weights every
method has to do, forward and for the gradient of what enters them, and the random numbers of dropout stay those of the
official order. Where an fp32 step misses its bar of time, these columns say why: both together are about nine tenths of
it, the rival has the same ones, and a step without anything else would still miss. Memory is another matter: logits
where there are labels only, and what is cheap to compute is computed again. Micro-batches buy memory with time.
"""

GPU_HEAD = """## Training steps on a GPU

`make bench-gpu` measures one optimiser step of BART-base size per method, with random weights (time and memory do not
depend on their values): medians of seven rounds of five steps, timed with device events. The memory is the allocator's
peak during a step minus what the model takes before it.
"""

GPU_FOOT = """\
`make test-gpu` runs what only a GPU can show: a run that trains, evaluates and records its memory, the loss curve of
the CPU, an interrupted run that ends with the weights of an undisturbed one, bfloat16 autocast, and peak memory at real
size against the split that is computed from the model's tensors.
"""


def condensed(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is kept of every benchmark in a file of pytest-benchmark."""
    machine, commit = content["machine_info"], content["commit_info"]
    cpu = machine["cpu"]
    state = {
        "machine": f"{cpu['brand_raw']}, {cpu['count']} cores, Python {machine['python_version']}",
        "date": content["datetime"][:10],
        "commit": f"{(commit.get('id') or 'unknown')[:8]}{' and uncommitted changes' if commit.get('dirty') else ''}",
    }
    return [
        {
            "name": item["name"],
            "group": item["group"],
            **{key: _rounded(item["stats"][key]) for key in ("median", "min", "max")},
            "rounds": item["stats"]["rounds"],
            **state,
            "figures": {key: _rounded(value) for key, value in item["extra_info"].items()},
        }
        for item in content["benchmarks"]
    ]


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def merged(earlier: Iterable[dict[str, Any]], new: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the new figures, and of the earlier ones those that are not measured anew, by group and name."""
    by_name = {(item["group"], item["name"]): item for item in (*earlier, *new)}
    return [by_name[key] for key in sorted(by_name)]


def page(benchmarks: Sequence[dict[str, Any]], gpu_section: str) -> str:
    """Return the Markdown page."""
    has_steps = any("work" in item["figures"] for item in benchmarks)
    parts = [HEAD, *([STEPS] if has_steps else []), _states(benchmarks), _bars(benchmarks)]
    for group in dict.fromkeys(item["group"] for item in benchmarks):
        rows = [item for item in benchmarks if item["group"] == group]
        parts.append(f"## {group[:1].upper()}{group[1:]}\n\n{_table(rows)}\n")
    return "\n".join([*parts, GPU_HEAD, f"{BEGIN}{gpu_section}{END}\n", GPU_FOOT])


def _states(benchmarks: Sequence[dict[str, Any]]) -> str:
    lines = dict.fromkeys(f"- {b['machine']}; {b['date']}, commit {b['commit']}" for b in benchmarks)
    return "Measured on:\n\n" + "\n".join(lines) + "\n"


def _bars(benchmarks: Sequence[dict[str, Any]]) -> str:
    """Return the table of figures that have a bar."""
    lines = ["## Bars\n", "| benchmark | figure | measured | bar | |", "| :-- | :-- | --: | --: | :-- |"]
    for item in benchmarks:
        for bar in item["figures"].get("bars", []):
            low, high, value = bar["at_least"], bar["at_most"], bar["value"]
            is_met = value >= low if low is not None else value <= high
            limit = f"at least {_number(low)}" if low is not None else f"at most {_number(high)}"
            lines.append(
                f"| {_title(item)}: {item['group']} | {bar['figure']} | {_number(value)} | {limit} "
                f"| {'met' if is_met else 'not met'} |"
            )
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table of one group, with the columns that any of its rows has."""
    columns = {
        "examples/s": lambda f: f.get("examples_per_second"),
        "fraction": lambda f: f.get("fraction"),
        "peak (MiB)": lambda f: f["peak_bytes"] / 2**20 if "peak_bytes" in f else None,
        "rival": lambda f: f.get("rival"),
        "time to the rival's": lambda f: f.get("ratio"),
        "memory to the rival's": lambda f: f.get("memory_ratio"),
        "compilation (s)": lambda f: f.get("compilation_seconds"),
        "runs": lambda f: f.get("runs"),
        "mean score": lambda f: f.get("mean_score"),
        "loss of the last tenth": lambda f: f.get("last_loss"),
        "loss curve from that of fp32": lambda f: f.get("from_fp32"),
        "loss curves of seeds from each other": lambda f: f.get("between_seeds"),
        **{f"{kind} (%)": partial(_share_of_work, kind) for kind in (*KINDS, "other")},
    }
    used = {name: get for name, get in columns.items() if any(get(row["figures"]) is not None for row in rows)}
    lines = [
        "| | median (s) | range (s) | rounds |" + "".join(f" {name} |" for name in used),
        "| :-- | --: | --: | --: |" + " --: |" * len(used),
    ]
    for row in rows:
        span = f"{_number(row['min'])} to {_number(row['max'])}"
        cells = "".join(f" {_number(get(row['figures']))} |" for get in used.values())
        lines.append(f"| {_title(row)} | {_number(row['median'])} | {span} | {row['rounds']} |{cells}")
    return "\n".join(lines)


def _share_of_work(kind: str, figures: dict[str, Any]) -> float | None:
    return 100 * figures["work"][kind] if "work" in figures else None


def _title(item: dict[str, Any]) -> str:
    figures = item["figures"]
    if "micro_batch" not in figures:
        return str(item["name"]).removeprefix("test_").replace("_", " ").replace("[", " (").replace("]", ")")
    parts = f", micro-batches of {figures['micro_batch']}" if figures["micro_batch"] else ""
    return f"{figures['method']}{parts}"


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 or isinstance(value, int) else f"{value:.3g}"


def gpu_section(text: str) -> str:
    """Return what stands between the marks of the GPU section of a page."""
    return text.split(BEGIN, 1)[1].split(END, 1)[0]


def read_figures() -> list[dict[str, Any]]:
    """Return the figures that are kept."""
    content: list[dict[str, Any]] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return content


def measured(rounds: int) -> dict[str, Any]:
    """Run all benchmarks and return the content of pytest-benchmark's file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "benchmarks.json"
        command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-only", "--rounds", str(rounds)]
        subprocess.run([*command, f"--benchmark-json={file}"], cwd=ROOT, check=False)
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def main() -> None:
    """Measure, and write figures and pages."""
    from benchmarks import scaling

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="write the pages from figures.json, without measuring")
    parser.add_argument("--json", type=Path, help="take the figures of this file of pytest-benchmark")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (7)")
    arguments = parser.parse_args()
    if not arguments.render:
        source = arguments.json
        content = json.loads(source.read_text(encoding="utf-8")) if source else measured(arguments.rounds)
        figures = merged(read_figures() if source and FIGURES.exists() else [], condensed(content))
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(read_figures(), gpu_section(PAGE.read_text(encoding="utf-8"))), encoding="utf-8")
    scaling.PAGE.write_text(scaling.page(read_figures()), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)} and {scaling.PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
