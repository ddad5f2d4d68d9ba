"""Mutations of the environment: variables, encodings of the output, and pipes that close."""

import os
import random

from tests.fuzz.registry import Plan, Step, mutation
from tests.fuzz.sandbox import Outcome
from tests.fuzz.world import CELL, SETTINGS, Box

REPORT = [
    "report",
    "--methods",
    "bitfit",
    "--backbone",
    "mini-bart",
    "--suites",
    "image-text",
    "--seeds",
    "1,2",
    *SETTINGS,
]


def _sweep(box: Box, env: dict[bytes, bytes | None]) -> Plan:
    box.use_root()
    return Plan([Step(["sweep", *CELL, "--quiet", "--data", f"mini={box.root}"], env=env, seconds=40)])


@mutation("configuration", "harmless", weight=5)
def output_encoding(box: Box, rng: random.Random) -> Plan:
    """A terminal that knows no line drawing, no ± and no Greek."""
    encoding = rng.choice(["latin-1", "ascii", "cp1252", "utf-16", "koi8-r"])
    box.use_results()
    words = rng.choice(
        [
            REPORT,
            ["status", *REPORT[1:]],
            ["methods", "--explain", "vl-pet-large"],
            ["tasks"],
            ["plan", *REPORT[1:]],
            ["score", "--all", "--task", "gqa"],
        ]
    )
    return Plan([Step(words, env={b"PYTHONIOENCODING": encoding.encode()}, stdout=encoding, seconds=40)])


@mutation("configuration", "harmless", weight=4)
def output_pipe_closes(box: Box, rng: random.Random) -> Plan:
    """``... | head``: the reader has gone before the first line, or before the last."""
    box.use_results()
    words = rng.choice(
        [
            REPORT,
            ["status", *REPORT[1:]],
            ["methods"],
            ["--help"],
            ["tasks"],
            ["sweep", "--help"],
            ["--version"],
            ["data", "check", str(box.world.root)],
        ]
    )
    return Plan([Step(words, stdout="closed pipe", seconds=40)], check=_quiet)


def _quiet(box: Box, outcomes: list[Outcome]) -> str | None:
    return f"exit code {outcomes[-1].code}" if outcomes[-1].code not in (0, 1, 141) else None


@mutation("configuration", weight=3)
def lease_variable(box: Box, rng: random.Random) -> Plan:
    value = rng.choice([b"nan", b"inf", b"-1", b"0", b"abc", b"\xff", b"1e400"])
    plan = _sweep(box, {b"VLPET_BENCH_LEASE_SECONDS": value})
    plan.names = ("VLPET_BENCH_LEASE_SECONDS",)
    return plan


@mutation("configuration", weight=4)
def cache_folder_is_none(box: Box, rng: random.Random) -> Plan:
    """The cache folder is a file, a loop, too long, or cannot be made."""
    box.write(box.cwd / "file", "x")
    (box.cwd / "loop").symlink_to("loop")
    value = rng.choice([b"file", b"loop", b"x" * 300, b"/proc/nothing", b"/dev/null", b"file/below"])
    variable = rng.choice([b"VLPET_BENCH_CACHE", b"XDG_CACHE_HOME"])
    env: dict[bytes, bytes | None] = {b"VLPET_BENCH_CACHE": None, variable: value}
    words = rng.choice([["data", "check"], ["sweep", *CELL, "--quiet"]])
    return Plan([Step(words, env=env)], names=("VLPET_BENCH_CACHE", "XDG_CACHE_HOME", "cache"))


@mutation("configuration", "harmless error", weight=8)
def variable_of_a_cluster(box: Box, rng: random.Random) -> Plan:
    """Stray, partial or undecodable variables of Slurm and Submitit."""
    env: dict[bytes, bytes | None] = rng.choice(
        [
            {b"SLURM_JOB_ID": b"\xff\xfe"},
            {b"SLURMD_NODENAME": b"\xffnode"},
            {b"SLURMD_NODENAME": b"../../x"},
            {b"SLURMD_NODENAME": b"a\nb"},
            {b"SLURM_ARRAY_JOB_ID": b"5"},
            {b"SLURM_ARRAY_TASK_ID": b"5"},
            {b"SLURM_JOB_ID": b"5", b"SLURM_ARRAY_JOB_ID": b"x"},
            {b"SLURM_JOB_ID": b""},
            {b"SLURM_RESTART_COUNT": b"x", b"SLURM_JOB_ID": b"7"},
            {b"SUBMITIT_FOLDER": b"/nowhere"},
            {b"SUBMITIT_EXECUTOR": b"slurm"},
            {b"SUBMITIT_EXECUTOR": b"nosuch"},
            {b"SUBMITIT_LOCAL_JOB_ID": b"x", b"SUBMITIT_EXECUTOR": b"local"},
        ]
    )
    plan = _sweep(box, env)
    plan.names = tuple(name.decode() for name in env)
    return plan


@mutation("configuration", "harmless error", weight=4)
def variable_of_the_system(box: Box, rng: random.Random) -> Plan:
    env: dict[bytes, bytes | None] = rng.choice(
        [
            {b"HOME": None},
            {b"HOME": b""},
            {b"HOME": b"\xff"},
            {b"COLUMNS": b"0"},
            {b"COLUMNS": b"nan"},
            {b"LINES": b"-1"},
            {b"TMPDIR": b"/nowhere"},
            {b"MPLBACKEND": b"nosuch"},
            {b"MPLCONFIGDIR": b"/dev/null/x"},
            {b"PATH": b""},
            {b"TERM": b"\xff"},
            {b"LC_ALL": b"nosuch"},
            {b"SOURCE_DATE_EPOCH": b"x"},
            {b"NO_COLOR": b"\xff"},
            {b"USER": b"\xff"},
        ]
    )
    plan = _sweep(box, env)
    plan.names = tuple(name.decode() for name in env)
    return plan


@mutation("configuration", "harmless error", weight=3)
def path_of_undecodable_bytes(box: Box, rng: random.Random) -> Plan:
    """Folders whose names are no UTF-8."""
    box.use_root()
    name = os.fsdecode(rng.choice([b"r\xff", b"\x80", "é".encode("latin-1")]))
    words = ["sweep", *CELL, "--quiet", "--data", f"mini={box.root}"]
    flag = rng.choice(["--results", "--reports", "--data"])
    if flag == "--data":
        moved = box.folder / name
        box.root.rename(moved)
        words[-1] = f"mini={moved}"
    else:
        words += [flag, name]
    return Plan([Step(words, seconds=40)], names=(flag, "\\xff", "\\x80", "\\udc"))
