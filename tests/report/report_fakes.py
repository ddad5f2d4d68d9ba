"""Believable sweeps without training anything: seeded scores around a level per method."""

import random
import shutil
import subprocess
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

SUITES = {"image-text": ("vqa", "gqa", "nlvr", "caption"), "video-text": ("tvqa", "how2qa", "tvc", "yc2c")}
# method: (trainable %, quality in 0..1, step milliseconds)
METHODS = {
    "full": (100.0, 0.95, 61),
    "projector-only": (0.92, 0.15, 30),
    "lora": (5.93, 0.62, 44),
    "adapter": (4.32, 0.66, 42),
    "vl-adapter": (4.18, 0.68, 41),
    "vl-pet-small": (2.98, 0.74, 40),
    "vl-pet-middleX": (2.98, 0.77, 41),
    "vl-pet-large": (4.16, 0.86, 46),
    "vl-adapter+vl-pet-large": (4.16, 0.82, 45),
}
LEVELS = {"vqa": (52, 67), "gqa": (43, 57), "nlvr": (51, 74), "caption": (95, 122)} | {
    "tvqa": (60, 76), "how2qa": (65, 75), "tvc": (30, 46), "yc2c": (90, 152)
}  # fmt: skip
FAMILIES = {
    **{"full": "reference", "projector-only": "reference", "lora": "low rank", "peft:dora": "low rank"},
    **{"adapter": "adapter", "vl-adapter": "adapter", "compacter": "adapter", "lst": "side network"},
    **{"vl-pet-small": "VL-PET", "vl-pet-middleX": "VL-PET", "vl-pet-large": "VL-PET"},
    **{"vl-adapter+vl-pet-large": "enhanced", "bitfit": "scale and bias", "ia3": "scale and bias", "prompt": "prompt"},
}
LABELS = {"vqa": "VQAv2", "gqa": "GQA", "nlvr": "NLVR2", "caption": "COCO Cap."} | {
    "tvqa": "TVQA", "how2qa": "How2QA", "tvc": "TVC", "yc2c": "YC2C"
}  # fmt: skip
MIB = 2**20


def has_latex() -> bool:
    """Whether pdflatex is here with the packages that tables need."""
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return bool(subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True).stdout.strip())


def headings(suite: str) -> dict[str, dict[str, str]]:
    """What a plan says of the columns of its tasks."""
    metrics = {task: "CIDEr" if task in ("caption", "tvc", "yc2c") else "accuracy" for task in SUITES[suite]}
    splits = dict.fromkeys(SUITES[suite], "test" if suite == "image-text" else "validation")
    return {"task_labels": {task: LABELS[task] for task in metrics}, "metrics": metrics, "splits": splits}


def many_methods(count: int) -> dict[str, tuple[float, float, int]]:
    """Names, shares and costs of a big registry, crowded the way real ones are (many near 1 % and 4 %)."""
    draw = random.Random(count)
    stems = [
        "lora",
        "vl-pet-large",
        "adapter",
        "compacter",
        "bitfit",
        "prompt",
        "ia3",
        "lst",
        "peft:dora",
        "vl-adapter",
    ]
    methods = dict(METHODS)
    while len(methods) < count:
        name = f"{stems[len(methods) % len(stems)]}[rank={2 ** draw.randint(1, 8)},seedling={len(methods)}]"
        share = draw.choice([1.0, 4.0, 4.0, 7.5]) * draw.uniform(0.9, 1.1)
        methods[name] = (share, draw.betavariate(4, 2), draw.randint(28, 60))
    return dict(list(methods.items())[:count])


def sweep(
    methods: Mapping[str, tuple[float, float, int]] = METHODS,
    *,
    suites: Sequence[str] = tuple(SUITES),
    seeds: Sequence[int] = (1, 2, 3),
    backbone: str = "mini-bart",
    failed: Mapping[str, str] | None = None,
    missing: Sequence[str] = (),
    synthetic: bool = True,
    gpu: bool = False,
    hardware: str = "cpu-2core",
    precision: str = "fp32",
    batch_size: int = 32,
) -> tuple[pd.DataFrame, list[dict]]:
    """(frame of records, plan); ``failed`` maps run ids ("lora/image-text/1") to causes, ``missing`` lists run ids."""
    failed = failed or {}
    rows, plan = [], []
    for suite in suites:
        for label, (percent, quality, milliseconds) in methods.items():
            for seed in seeds:
                run_id = f"{label}/{suite}/{seed}"
                cause = failed.get(run_id)
                status = "missing" if run_id in missing else "failed" if cause else "done"
                plan.append(
                    {
                        **{"run_id": run_id, "method": label.split("[")[0], "label": label, "backbone": backbone},
                        **{"suite": suite, "seed": seed, "status": status, "cause": cause, "tasks": SUITES[suite]},
                        "family": FAMILIES.get(label.split("[")[0], "other"),
                        **headings(suite),
                    }
                )
                if status == "missing":
                    continue
                draw = random.Random(zlib.crc32(run_id.encode()))
                trainable = int(1_480_000 * percent / 100)
                common = {
                    **{
                        "run_id": run_id,
                        "method": label.split("[")[0],
                        "family": FAMILIES.get(label.split("[")[0], "other"),
                        "label": label,
                        "backbone": backbone,
                        "suite": suite,
                        "seed": seed,
                    },
                    **{
                        "status": status,
                        "cause": cause,
                        "trainable": trainable,
                        "total": 1_480_000,
                        "percent": percent,
                    },
                    "train_seconds": milliseconds * 0.8 if not cause else None,
                    "step_seconds": milliseconds / 1000 * draw.uniform(0.97, 1.03) if not cause else None,
                    "samples_per_second": 32_000 / milliseconds if not cause else None,
                    "peak_memory_bytes": (900 + 8 * percent) * MIB if gpu and not cause else None,
                    "host_memory_bytes": (610 + percent) * MIB,
                    **{"hardware": hardware, "precision": precision, "batch_size": batch_size},
                    **{"synthetic": synthetic, "limited": False, "tuning": False, "lr": 1e-3},
                    **{"data": "mini" if synthetic else "official", "overrides": "{}", "settings": "{}"},
                    "finished": "2026-01-02T03:04:05Z",
                    **{"analytic_weights": 5.9 * MIB + 4.0 * trainable, "analytic_trainable": 4.0 * trainable},
                    **{"analytic_gradients": 4.0 * trainable, "analytic_optimizer": 8.0 * trainable},
                    "analytic_activations": (30 + 14 * quality) * MIB,
                }
                for task in SUITES[suite]:
                    low, high = LEVELS[task]
                    score = low + (high - low) * quality + draw.gauss(0, 0.4)
                    labels, metrics, splits = (by_task[task] for by_task in headings(suite).values())
                    facts = {"task_label": labels, "metric": metrics, "split": splits}
                    rows.append({**common, "task": task, **facts, "score": None if cause else score})
    return pd.DataFrame(rows), plan


def curves(plan: Sequence[Mapping], steps: int = 400) -> dict[str, pd.DataFrame]:
    """A falling, noisy loss and a rising validation score at every tenth update for every run that has finished."""
    by_run = {}
    for cell in plan:
        if cell["status"] != "done":
            continue
        draw = random.Random(zlib.crc32(cell["run_id"].encode()))
        floor, pace = draw.uniform(0.4, 1.2), draw.uniform(30, 90)
        loss = [floor + 3.5 * 2.718 ** (-step / pace) + draw.gauss(0, 0.12) for step in range(1, steps + 1)]
        score = [80 - 10 * value if step % 10 == 9 else float("nan") for step, value in enumerate(loss)]
        seconds = [0.05 * step for step in range(steps)]
        by_run[cell["run_id"]] = pd.DataFrame(
            {"step": range(1, steps + 1), "loss": loss, "lr": 1e-3, "seconds": seconds, "validation": score}
        )
    return by_run


def ablation(
    points: Sequence[Mapping[str, object]],
    effects: Sequence[float],
    *,
    seeds: Sequence[int] = (1, 2, 3),
    tasks: Sequence[str] = ("vqa", "gqa"),
    examples: int = 200,
    noise: tuple[float, float] = (0.5, 8.0),
    base: str = "vl-pet-large",
    plot: str | None = None,
    missing: Sequence[str] = (),
    draw: np.random.Generator | None = None,
) -> tuple[pd.DataFrame, list[dict], dict[str, dict[str, pd.Series]]]:
    """(frame, plan, scores of examples) of a base and its cells: cell ``i`` scores ``effects[i]`` more than the base.

    The first point is the base's; one without values is a delta's. ``noise`` is the standard deviation of a run and of
    an example in a run; examples also differ among each other, and in how much a cell changes them.
    """
    draw = draw or np.random.default_rng(0)
    rows, plan, each = [], [], {}
    common = sweep({base: (4.0, 0.5, 40)}, suites=["image-text"], seeds=(1,))[0].iloc[0].to_dict()
    hardness = {task: draw.normal(60, 10, examples) for task in tasks}
    for at, (point, effect) in enumerate(zip(points, effects, strict=True)):
        words = [f"{key}={value}" for key, value in point.items()] or [f"-part{at}"]
        label = ",".join([base, *words]) if at else base
        change = {task: draw.normal(effect, noise[1] / 2 if at else 0.0, examples) for task in tasks}
        for seed in seeds:
            run_id = f"{label}/{seed}"
            status = "missing" if run_id in missing else "done"
            plan.append(
                {
                    **{"run_id": run_id, "method": base, "label": label, "backbone": "mini-bart", "seed": seed},
                    **{"suite": "image-text", "status": status, "cause": None, "tasks": list(tasks)},
                    **{"family": FAMILIES.get(base, "other"), "base": base, "point": dict(point), "plot": plot},
                    **headings("image-text"),
                }
            )
            if status == "missing":
                continue
            for task in tasks:
                scores = hardness[task] + change[task] + draw.normal(0, noise[0]) + draw.normal(0, noise[1], examples)
                each.setdefault(run_id, {})[task] = pd.Series(scores, index=[f"e{i}" for i in range(examples)])
                run_facts = {
                    "run_id": run_id,
                    "label": label,
                    "method": base,
                    "seed": seed,
                    "task": task,
                    "percent": 4.0 + at,
                }
                rows.append({**common, **run_facts, "score": scores.mean()})
    return pd.DataFrame(rows), plan, each
