"""Mutations of what ``evaluate`` reads: the weights and the configuration of a run directory without a record."""

import copy
import random
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.fuzz.registry import Plan, Step, mutation
from tests.fuzz.run_directories import draw, edited
from tests.fuzz.world import Box


def _evaluated(box: Box, rng: random.Random) -> tuple[Path, Plan]:
    """Make a run directory without a record, as an imported one is, and the plan that evaluates it."""
    folder = draw(box, rng)
    (folder / "record.json").unlink()
    shutil.rmtree(folder / "predictions")
    step = Step(["evaluate", str(folder), "--quiet", "--data", f"mini={box.world.root}"], seconds=25)
    return folder, Plan([step], names=("weights.safetensors", "run.json", folder.name))


@mutation("records", weight=10)
def evaluated_weights_mutated(box: Box, rng: random.Random) -> Plan:
    """Weights of the right shape that are none, and weights of another shape, number or file."""
    folder, plan = _evaluated(box, rng)
    path = folder / "weights.safetensors"
    tensors = load_file(path)
    first = sorted(tensors)[0]
    kind = rng.choice(
        [
            "nan",
            "one nan",
            "inf",
            "missing",
            "more",
            "shape",
            "integers",
            "names",
            "empty",
            "cut",
            "noise",
            "pickle",
            "folder",
        ]
    )
    if kind == "nan":
        tensors = {name: torch.full_like(tensor, float("nan")) for name, tensor in tensors.items()}
    elif kind in ("one nan", "inf"):
        tensors[first].reshape(-1)[0] = float("inf" if kind == "inf" else "nan")
    elif kind == "missing":
        del tensors[first]
    elif kind == "more":
        tensors["pet.more"] = torch.zeros(2)
    elif kind == "shape":
        tensors[first] = torch.zeros(3, 3)
    elif kind == "integers":
        tensors[first] = tensors[first].to(torch.int64)
    elif kind == "names":
        tensors = {f"{name}.x": tensor for name, tensor in tensors.items()}
    elif kind == "empty":
        tensors = {}
    path.unlink()
    if kind in ("cut", "noise", "pickle"):
        box.write(path, {"cut": b"\x10\0\0\0\0\0\0\0{", "noise": b"\xff" * 99, "pickle": b"\x80\x04."}[kind])
    elif kind == "folder":
        path.mkdir()
    else:
        save_file(tensors, path)
    return plan


@mutation(
    "records",
    "tolerance error harmless",
    weight=3,
    why="checkpoints saved compiled or wrapped have prefixes, which are stripped, and said",
)
def evaluated_weights_with_prefixes(box: Box, rng: random.Random) -> Plan:
    folder, plan = _evaluated(box, rng)
    path = folder / "weights.safetensors"
    prefix = rng.choice(["_orig_mod.", "module.", "module._orig_mod."])
    tensors = {f"{prefix}{name}": tensor for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(tensors, path)
    plan.names = (prefix.split(".")[0],)
    return plan


@mutation("records", weight=6)
def evaluated_configuration_mutated(box: Box, rng: random.Random) -> Plan:
    folder, plan = _evaluated(box, rng)
    path = folder / "run.json"
    field, value = rng.choice(
        [
            ("tasks", ["x"]),
            ("tasks", "gqa"),
            ("tasks", [5]),
            ("suite", "nosuch"),
            ("suite", 5),
            ("method", "nosuch"),
            ("method", "lora"),
            ("backbone", "mini-nosuch"),
            ("backbone", "/nowhere"),
            ("recipe", {}),
            ("recipe", 5),
            ("seed", -1),
            ("seed", "x"),
            ("overrides", 5),
            ("overrides", {"nosuch": 1}),
            ("data", 5),
            ("data", "nosuch"),
            ("nosuch", 1),
        ]
    )
    if rng.random() < 0.2:
        box.write(path, rng.choice([b"", b"null", b"[]", b"{", b"\xff", b"[" * 50_000]))
        return plan
    edited(box, path, lambda content: content.update({field: copy.deepcopy(value)}))
    plan.names = ("run.json", "weights.safetensors", str(value) if isinstance(value, str) else field)
    return plan
