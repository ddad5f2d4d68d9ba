"""Mutations of checkpoints: a run that goes on from one ends as if nobody had stopped it, or refuses it by name."""

import random
from pathlib import Path
from typing import Any

import torch

from tests.fuzz.feature_formats import Payload
from tests.fuzz.judge import Verdict, crash, different, recorded_crash, refusal
from tests.fuzz.registry import Plan, Step, mutation
from tests.fuzz.world import Box, long_run, scores


def _continued(box: Box, plan: Plan, expected: frozenset[str]) -> Verdict:
    outcome = box.execute(plan.steps[0])
    if fault := crash(outcome) or recorded_crash(box):
        return fault
    if box.marker.exists():
        return Verdict("silent", "code of the checkpoint ran")
    if outcome.code:
        return refusal(outcome, plan, expected)
    told = "checkpoint" in outcome.text
    after = {key: value for key, value in scores(box.results).items()}
    changed = different(box.world.continued, after)
    if changed and not told:
        return Verdict("silent", f"went on from it and ended with other scores: {changed}")
    if told:
        return Verdict("error" if "error" in expected else "harmless", "named, and the run began anew")
    return Verdict("harmless", "the same scores as without the mutation")


def _start(box: Box) -> tuple[Path, Plan]:
    box.use_results(box.world.interrupted)
    path = next(path for path in sorted(box.results.glob("runs/*/checkpoint.pt")) if "-s1-" in path.parent.name)
    plan = Plan([Step(long_run(1, box.world.root), seconds=25)], names=("checkpoint",), judge=_continued)
    return path, plan


@mutation("records", "harmless")
def checkpoint_as_it_was(box: Box, rng: random.Random) -> Plan:
    """No mutation at all: the control of the others."""
    return _start(box)[1]


@mutation("records", weight=2)
def checkpoint_of_another_run(box: Box, rng: random.Random) -> Plan:
    path, plan = _start(box)
    other = next(p for p in sorted(box.results.glob("runs/*/checkpoint.pt")) if "-s2-" in p.parent.name)
    box.write(path, other.read_bytes())
    return plan


@mutation("records", weight=2)
def checkpoint_is_no_checkpoint(box: Box, rng: random.Random) -> Plan:
    path, plan = _start(box)
    content = path.read_bytes()
    kind = rng.choice(["empty", "cut", "noise", "folder", "loop"])
    if kind in ("folder", "loop"):
        path.unlink()
        path.mkdir() if kind == "folder" else path.symlink_to(path.name)
        return plan
    box.write(path, {"empty": b"", "cut": content[: len(content) // 2], "noise": b"\xff" * 999}[kind])
    return plan


@mutation("records")
def checkpoint_with_code(box: Box, rng: random.Random) -> Plan:
    path, plan = _start(box)
    state = torch.load(path, weights_only=True)
    state["more"] = Payload(box.marker)
    path.unlink()
    torch.save(state, path)
    return plan


@mutation("records", weight=6)
def checkpoint_content_mutated(box: Box, rng: random.Random) -> Plan:
    """Missing or further tensors, NaN, another shape, a step that cannot be, missing keys, another type."""
    path, plan = _start(box)
    state: Any = torch.load(path, weights_only=True)
    tensors = state.get("tensors", {})
    first = sorted(tensors)[0] if tensors else ""
    kind = rng.choice(
        ["missing tensor", "nan", "inf", "shape", "more", "step", "negative step", "missing key", "list", "optimizer"]
    )
    if kind == "missing tensor":
        tensors.pop(first, None)
    elif kind in ("nan", "inf"):
        tensors[first].reshape(-1)[0] = float(kind)
    elif kind == "shape":
        tensors[first] = torch.zeros(3, 3)
    elif kind == "more":
        tensors["pet.more"] = torch.zeros(2)
    elif kind == "step":
        state["step"] = rng.choice([10**6, "x", None, 1.5])
    elif kind == "negative step":
        state["step"] = -3
    elif kind == "missing key":
        del state[rng.choice(sorted(state))]
    elif kind == "list":
        state = [1, 2]
    else:
        state["optimizer"] = {"state": {}, "param_groups": []}
    path.unlink()
    torch.save(state, path)
    return plan
