"""Mutations of command lines: hostile values of every flag, one at a time."""

import random

from tests.fuzz.registry import Plan, Step, mutation
from tests.fuzz.sandbox import Outcome
from tests.fuzz.world import CELL, Box

DRY = ["sweep", *CELL, "--dry-run"]
BIG = "1" + "0" * 30


def _line(box: Box, words: list[str], *names: str, seconds: int = 12) -> Plan:
    return Plan([Step(words, seconds=seconds)], names=names)


def _run_line(box: Box, words: list[str], *names: str) -> Plan:
    """Plan a real sweep of one cell: the fault has to come up before its run, which must leave no failed record."""
    box.use_root()

    def check(box: Box, outcomes: list[Outcome]) -> str | None:
        return "a record was written" if list(box.results.glob("runs/*/record.json")) else None

    return Plan([Step(["sweep", *CELL, "--data", f"mini={box.root}", "--quiet", *words])], names=names, check=check)


@mutation("configuration", weight=3)
def execution_flag(box: Box, rng: random.Random) -> Plan:
    flag, values = rng.choice(
        [
            ("--device", ["cuda:99", "tpu", "", "cuda:-1", "meta", "\udcff"]),
            ("--threads", ["-5", BIG, "nan", "1.5", "100000000"]),
            ("--executor", ["cluster", ""]),
            ("--jobs", ["0", "-1", "x"]),
        ]
    )
    return _run_line(box, [f"{flag}={rng.choice(values)}"], flag.strip("-"))


@mutation("configuration", weight=3)
def seeds_flag(box: Box, rng: random.Random) -> Plan:
    value = rng.choice(["18446744073709551616", "-1", "3..1", "abc", "1..", "..", "1.5", "nan", BIG, "1..2..3"])
    return _run_line(box, [f"--seeds={value}"], "seed")


@mutation("configuration", weight=2)
def more_seeds_than_anybody_runs(box: Box, rng: random.Random) -> Plan:
    value = rng.choice(["1..1000000000", "0..10000000", "1,5..99999999999"])
    verb = rng.choice([DRY, ["status", *CELL], ["plan", *CELL], ["report", *CELL], ["cancel", *CELL]])
    return _line(box, [*verb, f"--seeds={value}"], "seed", seconds=10)


@mutation("configuration", weight=8)
def setting_of_wrong_value(box: Box, rng: random.Random) -> Plan:
    key, values = rng.choice(
        [
            ("lr", ["nan", "inf", "-1", "0", "1e400", "true", "[1]", "'x'", "{a = 1}", ""]),
            ("steps", ["0", "-1", "1.5", "true", "inf", "nan", "[]", "'1'", BIG]),
            ("batch_size", ["0", "-3", "nan", "1e3", "[]", BIG]),
            ("limit", ["0", "-1", "1.5", "'x'", "nan"]),
            ("warmup", ["2", "-0.1", "nan", "inf"]),
            ("clip", ["nan", "-1", "inf"]),
            ("dropout", ["1", "nan", "-1", "inf"]),
            ("weight_decay", ["nan", "-1", "inf"]),
            ("beams", ["0", "-1", "1.5", BIG]),
            ("epochs", ["0", "-1", "1e3", "nan"]),
            ("precision", ["fp64", "16", "[]"]),
            ("n_boxes", ["0", "-1", "nan"]),
            ("optimizer", ["sgd", "5"]),
            ("select", ["best", "first"]),
            ("visual", ["one", "0"]),
            ("projector_lr", ["nan", "inf", "-1", "0"]),
        ]
    )
    return _line(box, [*DRY, "--set", f"{key}={rng.choice(values)}"], key)


@mutation("configuration", weight=3)
def setting_malformed(box: Box, rng: random.Random) -> Plan:
    text, *names = rng.choice(
        [
            ("=3", "=3"),
            ("lr", "lr"),
            ("", "--set"),
            ("recipe.=3", "recipe.", "setting"),
            ("method.=3", "method.", "option"),
            ("nosuch=3", "nosuch"),
            ("lr=1e-3\nsteps=2", "lr"),
            ("lr=1e-3\n[table]\nsteps=2", "lr"),
            ("lr\n=3", "lr"),
            ("lr=\udcff", "lr"),
            ("lr=" + "[" * 5000, "lr"),
            ("steps=" + "9" * 5000, "steps"),
            ("name=x", "name"),
            ("lr=1979-05-27", "lr"),
        ]
    )
    return _line(box, [*DRY, "--set", text], *names)


@mutation("configuration", weight=6)
def axis_malformed(box: Box, rng: random.Random) -> Plan:
    words, *names = rng.choice(
        [
            (["--axis", "lr="], "lr"),
            (["--axis", "lr=[]"], "lr"),
            (["--axis", "=1"], "axis"),
            (["--axis", "nosuch=1,2"], "nosuch"),
            (["--axis", "method=[5]"], "method"),
            (["--axis", "tasks=[5]"], "tasks"),
            (["--axis", 'tasks=[["nosuch"]]'], "nosuch"),
            (["--axis", "recipe=[5]"], "recipe"),
            (["--axis", "data=[5]"], "data"),
            (["--axis", "seed=1,2"], "seed"),
            (["--axis", "lr=nan,inf"], "lr"),
            (["--axis", "lr=1,2", "--zip", "lr"], "zip"),
            (["--zip", "lr,steps"], "zip"),
            (["--axis", "lr=1,2", "--axis", "steps=1", "--zip", "lr,steps"], "zip"),
            (["--axis", "lr==1/0"], "1/0", "lr"),
            (["--axis", "lr==__import__('os')"], "__import__", "lr"),
            (["--axis", "lr==lr.real"], "lr"),
            (["--axis", "lr==" + "-" * 5000 + "1"], "lr"),
            (["--axis", 'lr=="a"*99999999999'], "lr"),
            (["--axis", "steps==" + "*".join(["99999999"] * 4000)], "steps"),
            (["--axis", "steps==nosuch*2"], "nosuch"),
            (["--drop", "nosuch"], "nosuch"),
            (["--add", "nosuch"], "nosuch"),
            (["--drop", ","], "drop"),
            (["--only", "nosuch=1"], "nosuch"),
            (["--except", "nosuch"], "nosuch"),
        ]
    )
    return _line(box, [*DRY, *words], *names, seconds=10)


@mutation("configuration", weight=2)
def grid_that_is_too_large(box: Box, rng: random.Random) -> Plan:
    """A million cells, or 10^9: what a plan may hold is bounded, and said."""
    side = rng.choice([1000, 32000])
    values = ",".join(str(number) for number in range(1, side + 1))
    words = [*DRY, "--axis", f"steps={values}", "--axis", f"batch_size={values}"]
    return _line(box, words, "cells", "too many", "at most", seconds=10)


@mutation("configuration", weight=4)
def unknown_name(box: Box, rng: random.Random) -> Plan:
    words, *names = rng.choice(
        [
            (["--methods", "bitfitt"], "bitfitt"),
            (["--methods", ","], "method"),
            (["--methods", ""], "method"),
            (["--methods", "a\nb"], "a"),
            (["--methods", "\udcff"], "method"),
            (["--suites", "image"], "image"),
            (["--suites", ""], "suite"),
            (["--tasks", "vqaa"], "vqaa"),
            (["--tasks", "tvqa"], "task", "nothing"),
            (["--backbone", "mini-nosuch"], "mini-nosuch"),
            (["--backbone", ""], "backbone"),
            (["--backbone", "/nowhere"], "/nowhere"),
            (["--backbone", "/etc/passwd"], "/etc/passwd"),
            (["--backbone", "x" * 5000], "backbone"),
            (["--methods", "peft:nosuch"], "peft:nosuch"),
            (["--format", "xml"], "xml"),
            (["--nosuch"], "--nosuch"),
            (["--dry"], "--dry"),
            (["nosuch"], "nosuch"),
            (["nosuch.toml"], "nosuch.toml"),
            (["a", "b"], "b"),
        ]
    )
    return _line(box, [*DRY, *words], *names)


@mutation("configuration", weight=3)
def data_flag(box: Box, rng: random.Random) -> Plan:
    box.write(box.cwd / "file", "x")
    (box.cwd / "loop").symlink_to("loop")
    value = rng.choice(
        ["=x", "mini=", "", "=", "mini=/nowhere", "mini=file", "mini=loop", "mini=" + "x" * 9999, "mini=.\n"]
    )
    return Plan([Step(["sweep", *CELL, "--quiet", "--data", value])], names=("--data",))


@mutation("configuration", weight=3)
def results_flag(box: Box, rng: random.Random) -> Plan:
    """A results or reports folder that is none, or cannot be made."""
    box.use_root()
    box.write(box.cwd / "file", "x")
    (box.cwd / "loop").symlink_to("loop")
    flag = rng.choice(["--results", "--reports"])
    value = rng.choice(["file", "loop", "/dev/null", "x" * 300, "/proc/nothing", "file/below"])
    words = ["sweep", *CELL, "--quiet", "--data", f"mini={box.root}", f"{flag}={value}"]
    return Plan([Step(words, seconds=40)], names=(flag, value[:40]))


@mutation("configuration", "harmless")
def folder_in_the_home_directory(box: Box, rng: random.Random) -> Plan:
    """``--results=~/x`` is below the home directory: a shell does not expand it there."""
    home = box.folder / "home"
    for folder in (home / "x", box.cwd / "results"):  # a report wants a results folder
        folder.mkdir(parents=True)

    def check(box: Box, outcomes: list[Outcome]) -> str | None:
        return "a folder called '~' was made" if (box.cwd / "~").exists() else None

    words = ["report", *CELL, f"--{rng.choice(['results', 'reports'])}=~/x"]
    return Plan([Step(words, env={b"HOME": str(home).encode()})], check=check)


@mutation("configuration", weight=5)
def other_verb(box: Box, rng: random.Random) -> Plan:
    box.write(box.cwd / "file", "x")
    words, *names = rng.choice(
        [
            (["cancel", "--run", ""], "--run"),
            (["cancel"], "cancel"),
            (["cancel", "default", "--run", "nosuch"], "nosuch"),
            (["retry", "default"], "retry"),
            (["retry", "--run", ""], "--run"),
            (["logs", ""], "run"),
            (["logs", "nosuch"], "nosuch"),
            (["logs", "../.."], "../.."),
            (["score"], "--all"),
            (["score", "nosuch"], "nosuch"),
            (["score", "--all", "--task", "vqaa"], "vqaa"),
            (["score", "--all"], "results", "nothing"),
            (["evaluate", "nosuch"], "nosuch"),
            (["evaluate", "file"], "file"),
            (["evaluate", "."], "run.json"),
            (["methods", "--explain", "nosuch"], "nosuch"),
            (["methods", "--explain", ""], "method"),
            (["data", "check", "nosuch"], "nosuch"),
            (["data", "check", "file"], "file"),
            (["data", "check", ".", "--suite", "nosuch"], "nosuch"),
            (["data", "check", "."], "no such"),
            (["data", "mini"], "folder"),
            (["data", "mini", "file"], "file"),
            (["data", "mini", "new", "--seed=-1"], "seed"),
            (["data", "mini", "file/below"], "file"),
            (["import-official", "nosuch", "--method", "lora", "--backbone", "mini-bart", "--out", "o"], "nosuch"),
            (["import-official", "file", "--method", "lora", "--backbone", "mini-bart", "--out", "o"], "file"),
            (["ablate"], "ablat"),
            (["ablate", "nosuch"], "nosuch"),
            (["plan", *CELL, "--detect", "nan"], "--detect"),
            (["plan", *CELL, "--detect", "inf"], "--detect"),
            (["plan", *CELL, "--power", "nan"], "--power"),
            (["plan", *CELL, "--power", "1"], "--power"),
            (["\udcff"], "verb"),
            (["sweeep"], "sweep"),
        ]
    )
    return _line(box, words, *names)


@mutation("configuration", weight=4)
def verb_that_does_not_end(box: Box, rng: random.Random) -> Plan:
    words, *names = rng.choice(
        [
            (["mini", "pretrain", "mini-bart", "--steps", "0", "--out", "o"], "--steps"),
            (["mini", "pretrain", "mini-bart", "--steps=-1", "--out", "o"], "--steps"),
            (["watch", *CELL, "--every", "nan"], "--every"),
            (["watch", *CELL, "--every", "inf"], "--every"),
            (["watch", *CELL, "--every=-1"], "--every"),
            (["watch", *CELL, "--every", "1e300"], "--every"),
            (["tune", *CELL, "--space", "lr=1e-3..1e-2", "--trials", "100000000", "--dry-run"], "--trials"),
            (["tune", *CELL, "--space", "steps=1..999999999", "--trials", "9999999", "--dry-run"], "--trials"),
        ]
    )
    return _line(box, words, *names, seconds=10)


@mutation("configuration", weight=4)
def tuning_space(box: Box, rng: random.Random) -> Plan:
    words, *names = rng.choice(
        [
            (["--space", "lr=nan..inf"], "lr"),
            (["--space", "lr=1..nan"], "lr"),
            (["--space", "lr=2..1"], "lr"),
            (["--space", "lr=1e-3..1e400"], "lr"),
            (["--space", "lr=.."], "lr"),
            (["--space", "=1..2"], "space"),
            (["--space", "lr"], "lr"),
            (["--space", ""], "space"),
            (["--space", "nosuch=1,2"], "nosuch"),
            (["--space", "lr=1e-3..1e-2", "--trials", "0"], "trials"),
            (["--space", "lr=1e-3..1e-2", "--trials=-3"], "trials"),
            (["--space", "lr=1e-3..1e-2", "--sampler", "grid"], "grid"),
            (["--space", "lr=1e-3..1e-2", "--select", "test"], "--select"),
            (["--space", "lr=1e-3..1e-2", "--sampler-seed=-1"], "seed"),
            (["--space", "steps=1..99999999999999999999999"], "steps"),
            (["--space", "lr=a,b"], "lr"),
        ]
    )
    return _line(box, ["tune", *CELL, "--dry-run", *words], *names)


@mutation(
    "configuration", "error tolerance", why="a space with fewer points than trials is searched whole, and said so"
)
def tuning_space_smaller_than_its_budget(box: Box, rng: random.Random) -> Plan:
    words = ["tune", *CELL, "--space", rng.choice(["lr=1e-3,3e-3", "steps=2,4"]), "--trials", "6", "--dry-run"]
    return _line(box, words, "trials", "space")


@mutation("configuration", "harmless", weight=3)
def unusual_but_right(box: Box, rng: random.Random) -> Plan:
    words = rng.choice(
        [
            ["--seeds", "1,1"],
            ["--seeds", " 1 , 2 "],
            ["--methods", "bitfit,bitfit"],
            ["--set", "lr = 1e-3"],
            ["--set", "lr=0.001"],
            ["--set", "beams=1"],
            ["--backbones", "mini-bart"],
            ["--axis", "lr=1e-3"],
            ["--axis", "lr=[1e-3, 2e-3]"],
            ["--results", "not-there-yet"],
        ]
    )
    return _line(box, [*DRY, *words])
