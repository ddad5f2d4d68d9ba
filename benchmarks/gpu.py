"""Training steps at the size of BART-base on a GPU: ``python -m benchmarks.gpu [--json FILE] [--page FILE]``.

Weights are random (time and memory do not depend on their values). A batch has 20 text tokens and 36 visual tokens per
example, targets of 8 tokens, dropout 0.1. Methods are measured in turn, several rounds over, with device events; the
table shows medians. Without a CUDA device it says so and exits with code 0.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

import methods
from bench import backbones, device, optim

METHODS = ("projector-only", "bitfit", "lora", "adapter", "vl-adapter", "vl-pet-small", "vl-pet-large", "lst", "full")
BACKBONE = "bart-base"
BATCH, TEXT, VISUAL, TARGET, FEATURES = 500, 20, 36, 8, 2048
ROUNDS, STEPS = 7, 5
BEGIN, END = "<!-- gpu:begin (make bench-gpu) -->", "<!-- gpu:end -->"


class Step:
    """A model with a method and everything that one optimiser step needs."""

    def __init__(self, method: str, precision: str) -> None:
        cuda = torch.device("cuda")
        device.seed_everything(0)
        self.model = backbones.build(BACKBONE, feat_dim=FEATURES, device=cuda).train()
        self.model.set_dropout(0.1)
        self.percent = methods.attach(self.model, method).count().percent
        self.optimizer = optim.build(self.model, "adamw", 1e-4, 0.01)
        self.precision = precision
        self.ids = torch.randint(10, 50000, (BATCH, TEXT), device=cuda)
        self.features = torch.randn(BATCH, VISUAL, FEATURES, device=cuda)
        self.labels = torch.randint(10, 50000, (BATCH, TARGET), device=cuda)

    def __call__(self) -> None:
        """Do one update."""
        with device.autocast(torch.device("cuda"), self.precision):
            losses = self.model.token_losses(self.ids, self.features, self.labels)
        losses.mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def milliseconds(step: Step) -> float:
    """Return the time of one update, the mean over STEPS of them, measured with device events."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(STEPS):
        step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / STEPS


def measure(precision: str) -> list[dict[str, Any]]:
    """Return a row per method: trainable share, median step in ms, examples per second, peak memory above the model."""
    rows = []
    for method in METHODS:
        step = Step(method, precision)
        weights = torch.cuda.memory_allocated()
        for _ in range(3):
            step()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        above = torch.cuda.max_memory_allocated() - weights
        times = [milliseconds(step) for _ in range(ROUNDS)]
        median = statistics.median(times)
        rows.append(
            {
                "method": method,
                "precision": precision,
                "trainable_percent": round(step.percent, 2),
                "step_ms": round(median, 2),
                "examples_per_second": round(1000 * BATCH / median),
                "peak_mib_above_model": round(above / 2**20),
                "spread_percent": round(100 * (max(times) - min(times)) / median, 1),
            }
        )
        del step
        torch.cuda.empty_cache()
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table, with the step time relative to the projector alone."""
    lines = [
        "| method | precision | trainable (%) | step (ms) | to projector-only | examples/s | peak above model (MiB) |",
        "| :-- | :-- | --: | --: | --: | --: | --: |",
    ]
    for row in rows:
        base = next(r["step_ms"] for r in rows if r["precision"] == row["precision"])
        lines.append(
            f"| {row['method']} | {row['precision']} | {row['trainable_percent']:.2f} | {row['step_ms']:.1f} "
            f"| {row['step_ms'] / base:.2f} | {row['examples_per_second']:,} | {row['peak_mib_above_model']:,} |"
        )
    return "\n".join(lines)


def write_section(page: Path, text: str) -> None:
    """Replace what stands between the marks of this benchmark in a Markdown page."""
    content = page.read_text(encoding="utf-8")
    before, rest = content.split(BEGIN, 1)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def main() -> None:
    """Measure and print; write the figures where the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--page", type=Path, help="a Markdown page whose GPU section is replaced")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was measured")
        return
    rows = [row for precision in ("fp32", "bf16") for row in measure(precision)]
    machine: dict[str, Any] = {"device": torch.cuda.get_device_name(0), "torch": torch.__version__, "batch": BATCH}
    head = f"{machine['device']}, torch {machine['torch']}, batch {BATCH}, {TEXT} text + {VISUAL} visual tokens:"
    text = f"{head}\n\n{markdown(rows)}"
    print(text)
    if arguments.page:
        write_section(arguments.page, text)
    machine |= {"backbone": BACKBONE, "text": TEXT, "visual": VISUAL, "target": TARGET, "features": FEATURES}
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
