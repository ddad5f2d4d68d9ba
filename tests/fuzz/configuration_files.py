"""Mutations of TOML files: sweeps, recipes and Slurm profiles, by field and as files."""

import json
import os
import random
import re
from pathlib import Path
from typing import Any

from tests.fuzz.registry import Plan, Step, mutation
from tests.fuzz.sandbox import Outcome
from tests.fuzz.world import SETTINGS, Box

SWEEP: dict[str, str] = {
    "question": '"What?"',
    "backbones": '["mini-bart"]',
    "methods": '["bitfit"]',
    "suites": '["image-text"]',
    "tasks": '["gqa"]',
    "seeds": "[1]",
    "recipe": '"mini"',
    "data": '"mini"',
    "set": "{steps = 2, batch_size = 2}",
    "per": '{"image-text" = {beams = 1}}',
    "variant": '[{label = "ours", method = "bitfit", set = {lr = 1e-3}}]',
    "axes": "{lr = [1e-3]}",
    "zip": "[]",
    "only": "[]",
    "except": "[]",
    "drop": "[]",
    "add": "[]",
    "deltas": "{}",
    "plot": '"bars"',
}
RECIPE: dict[str, str] = {
    "steps": "2",
    "batch_size": "2",
    "lr": "1e-3",
    "beams": "1",
    "warmup": "0.1",
    "bart": "{lr = 1e-3}",
}
PROFILE: dict[str, str] = {
    "time_minutes": "10",
    "cpus": "1",
    "partition": '"p"',
    "env": "{A = 1}",
    "extra": "{gres = 'x'}",
}
#: values of every type of TOML; those that a field can take are left out by its own type
VALUES = (
    "5",
    "-1",
    "1.5",
    "nan",
    "inf",
    "true",
    '"text"',
    '""',
    "[5]",
    '["nosuch"]',
    "[[1]]",
    "{a = 1}",
    "[{a = 1}]",
    "1979-05-27",
    "1" + "0" * 40,
)
_TEXT = {'"text"', '""'}
#: field -> values of VALUES that it can take, or whose meaning is another mutation's
CAN_BE: dict[str, set[str]] = {
    "question": _TEXT,
    "data": _TEXT,
    "recipe": {'""'},
    "set": set(),
    "seeds": {"[5]"},
}


def write_toml(box: Box, fields: dict[str, str], name: str = "case.toml") -> Path:
    """Write a TOML file of fields whose values are TOML already."""
    return box.write(box.cwd / name, "".join(f"{key} = {value}\n" for key, value in fields.items()))


def _dry(file: str, *words: str, seconds: int = 10) -> list[Step]:
    return [Step(["sweep", file, "--dry-run", *words], seconds=seconds)]


@mutation("configuration", weight=10)
def sweep_field_of_wrong_type(box: Box, rng: random.Random) -> Plan:
    field = rng.choice(list(SWEEP))
    value = rng.choice([v for v in VALUES if v not in CAN_BE.get(field, set())])
    write_toml(box, SWEEP | {field: value})
    return Plan(
        _dry("case.toml"), names=("case.toml", field, "nosuch"), fields=(field, value.strip('"[]'), field.rstrip("s"))
    )


@mutation("configuration", weight=6)
def sweep_nested_value_of_wrong_type(box: Box, rng: random.Random) -> Plan:
    field, value, *names = rng.choice(
        [
            ("axes", "{method = [5]}", "method"),
            ("axes", "{tasks = [5]}", "tasks"),
            ("axes", "{tasks = ['gqa']}", "tasks"),
            ("axes", "{recipe = [5]}", "recipe"),
            ("axes", "{data = [5]}", "data"),
            ("axes", "{lr = []}", "lr"),
            ("axes", "{lr = 5}", "lr"),
            ("axes", "{lr = [{a = 1}]}", "lr"),
            ("axes", "{lr = [nan]}", "lr"),
            ("axes", "{lr = ['=1/0']}", "lr"),
            ("axes", "{nosuch = [1]}", "nosuch"),
            ("axes", "{'' = [1]}", "axes"),
            ("set", "{nosuch = 1}", "nosuch"),
            ("set", "{lr = 'x'}", "lr"),
            ("set", "{lr = inf}", "lr"),
            ("per", "{nosuch = {lr = 1}}", "nosuch"),
            ("per", "{mini = {nosuch = 1}}", "nosuch"),
            ("per", "{mini = 5}", "per"),
            ("variant", "[{label = 'x'}]", "method"),
            ("variant", "[{label = 5, method = 'bitfit'}]", "label"),
            ("variant", "[{label = 'x', method = 'nosuch'}]", "nosuch"),
            ("variant", "[{label = 'x', method = 'bitfit', nosuch = 1}]", "nosuch"),
            ("variant", "[{label = 'x', method = 'bitfit', set = {nosuch = 1}}]", "nosuch"),
            (
                "variant",
                "[{label = 'a', method = 'lora', set = {rank = 4}}, {label = 'a', method = 'lora', set = {rank = 8}}]",
                "label",
            ),
            ("variant", "[{label = 'bitfit', method = 'lora'}]", "label"),
            ("deltas", "{x = 5}", "deltas"),
            ("deltas", "{x = {nosuch = {}}}", "nosuch"),
            ("zip", "[['lr', 'nosuch']]", "nosuch"),
            ("zip", "[['lr'], ['lr']]", "lr"),
            ("given", "{lr = 1e-2}", "given"),
            ("nosuch", "1", "nosuch"),
            ("steps", "[['lr']]", "steps"),
        ]
    )
    write_toml(box, SWEEP | {field: value})
    return Plan(_dry("case.toml"), names=("case.toml", *names), fields=tuple(names))


@mutation("configuration", weight=4)
def sweep_that_asks_too_much(box: Box, rng: random.Random) -> Plan:
    """Axes of 10^9 cells, and expressions whose value or nesting fills the memory."""
    thousand = list(range(1, 1001))
    axes: dict[str, Any] = rng.choice(
        [
            {"steps": thousand, "batch_size": thousand, "eval_batch_size": thousand},
            {"lr": ['="a"*99999999999']},
            {"lr": ["=" + "-" * 20_000 + "1"]},
            {"lr": ["=" + "(" * 3_000 + "1" + ")" * 3_000]},
            {"steps": ["=" + "*".join(["9" * 40] * 3_000)]},
            {"lr": ["=1e308*10"]},
            {"steps": ["=" + "+".join("1" * 5000)]},
        ]
    )
    text = ", ".join(f"{key} = {json.dumps(values)}" for key, values in axes.items())
    write_toml(box, SWEEP | {"axes": f"{{{text}}}"})
    return Plan(_dry("case.toml", seconds=10), names=("cell", "axis", "lr", "steps", "expression"))


@mutation("configuration", weight=2)
def sweep_name_leads_outside(box: Box, rng: random.Random) -> Plan:
    name = rng.choice(["../../x", "/dev/null/x", "..", ".", "", "a/b", "x" * 300, "a\nb", "nul\0byte", "\x1b[31m"])
    write_toml(box, {"name": json.dumps(name)} | SWEEP)
    before = set(box.folder.iterdir())

    def check(box: Box, outcomes: list[Outcome]) -> str | None:
        outside = {p.name for p in set(box.folder.iterdir()) - before} - {"cwd.out", "cwd.err"}
        return f"wrote outside of --reports: {sorted(outside)}" if outside else None

    return Plan(
        [Step(["report", "case.toml", "--reports", "r/s"])], names=("case.toml", "name"), fields=("name",), check=check
    )


@mutation("configuration", weight=5)
def configuration_is_no_file(box: Box, rng: random.Random) -> Plan:
    """A folder, a loop, noise, Latin-1, unclosed or deeply nested TOML in the place of a sweep, recipe or profile."""
    steps, names = _reading(box, rng)
    path = box.cwd / "case.toml"
    path.unlink()
    kind = rng.choice(
        ["deleted", "folder", "loop", "latin-1", "utf-16", "noise", "unclosed", "deep", "digits", "twice", "json"]
    )
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind != "deleted":
        texts = {
            "latin-1": "question = 'é'\n".encode("latin-1"),
            "utf-16": "steps = 1\n".encode("utf-16"),
            "noise": bytes(rng.randrange(256) for _ in range(100)) + b"\0",
            "unclosed": b"a = [1,\n",
            "deep": b"a = " + b"[" * 50_000 + b"]" * 50_000,
            "digits": b"steps = " + b"9" * 6_000,
            "twice": b"steps = 1\nsteps = 2\n",
            "json": b'{"steps": 1}',
        }
        box.write(path, texts[kind])
    return Plan(steps, names=names)


@mutation("configuration")
def configuration_is_fifo(box: Box, rng: random.Random) -> Plan:
    steps, names = _reading(box, rng)
    (box.cwd / "case.toml").unlink()
    os.mkfifo(box.cwd / "case.toml")
    return Plan(steps, names=names)


@mutation("configuration", "harmless", weight=2)
def configuration_with_other_bytes(box: Box, rng: random.Random) -> Plan:
    """A byte order mark or carriage returns."""
    steps, names = _reading(box, rng)
    path = box.cwd / "case.toml"
    content = path.read_bytes()
    box.write(path, b"\xef\xbb\xbf" + content if rng.random() < 0.5 else content.replace(b"\n", b"\r\n"))
    return Plan(steps, names=names)


def _reading(box: Box, rng: random.Random) -> tuple[list[Step], tuple[str, ...]]:
    """Write one of the three kinds of file, and return what reads it."""
    kind = rng.choice(["sweep", "recipe", "profile"])
    if kind == "sweep":
        write_toml(box, SWEEP)
        return _dry("case.toml"), ("case.toml",)
    if kind == "recipe":
        write_toml(box, RECIPE)
        write_toml(box, SWEEP | {"recipe": '"case.toml"'}, "sweep.toml")
        return _dry("sweep.toml"), ("case.toml",)
    write_toml(box, PROFILE)
    write_toml(box, SWEEP, "sweep.toml")
    return _dry("sweep.toml", "--executor", "slurm", "--profile", "case.toml"), ("case.toml",)


@mutation("configuration", weight=6)
def recipe_field_of_wrong_type(box: Box, rng: random.Random) -> Plan:
    field, value = rng.choice(
        [
            *(
                (table, value)
                for table in ("bart", '"image-text"', '"bart image-text"', "method")
                for value in ("5", '"x"', "[1]")
            ),
            ("method", "{bitfit = 3}"),
            ("method", '{bitfit = "x"}'),
            ("bart", "{nosuch = 1}"),
            ("bart", "{lr = nan}"),
            ("nosuch", "1"),
            ("lr", "inf"),
            ("lr", "0"),
            ("steps", "1.5"),
            ("steps", '"2"'),
            ("beams", "0"),
            ("warmup", "nan"),
            ("epochs", "[]"),
            ("select", '"best"'),
        ]
    )
    write_toml(box, RECIPE | {field: value})
    write_toml(
        box,
        {k: v for k, v in SWEEP.items() if k not in ("set", "per", "axes")} | {"recipe": '"case.toml"'},
        "sweep.toml",
    )
    return Plan(_dry("sweep.toml"), names=("case.toml",), fields=(field.strip('"'), "bitfit", "nosuch", "lr"))


@mutation("configuration", weight=6)
def profile_field_of_wrong_value(box: Box, rng: random.Random) -> Plan:
    field, value = rng.choice(
        [
            *(("memory_gb", v) for v in ("inf", "nan", "-1", "0", "1e308", '"x"')),
            *(("time_minutes", v) for v in ("0", "-5", "1.5", "inf", '"1:00"', "1" + "0" * 40)),
            *(("conf", v) for v in (r'"a\u0000b"', "5", '""')),
            *(("env", v) for v in ('{"A-B" = 1}', "{A = [1]}", "5", '{"" = 1}', r'{A = "a\u0000b"}')),
            *(
                ("extra", v)
                for v in ("{array = 5}", "{time = 5}", "{x = [1]}", '{"A B" = 1}', r'{x = "a\nb"}', "{x = inf}")
            ),
            *(("partition", v) for v in (r'"a\nb"', "5", '""', r'"a\u0000b"')),
            *(("setup", v) for v in ("5", '"x"', "[5]", r'["a\u0000b"]')),
            ("scratch", r'"a`b"'),
            ("cpus", "0"),
            ("gpus", "-1"),
            ("pack", "0"),
            ("signal_seconds", "99999"),
            ("nosuch", "1"),
            ("requeue", '"no"'),
        ]
    )
    write_toml(box, PROFILE | {field: value})
    write_toml(box, SWEEP, "sweep.toml")
    steps = _dry("sweep.toml", "--executor", "slurm", "--profile", "case.toml")
    return Plan(steps, names=("case.toml",), fields=(field, "signal_seconds"))


LABELS = (
    "a\nb",
    "lora ($\\rank=8$)",
    "$a_$",
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    "\x1b[31mred",
    "a|b`c`",
    "[x]",
    "*",
    "λ-gate é 模",
    "\u202eabc",
    "\\input{/etc/passwd}",
    "%s {0} {x!r}",
    "a\u2028b",
    "&lt;b&gt; & _ # ~ ^",
    "x" * 400,
)


@mutation("configuration", "harmless error", weight=4)
def hostile_label(box: Box, rng: random.Random) -> Plan:
    """A label is text in the terminal, HTML, Markdown, LaTeX, CSV and plots, or is refused when it is planned."""
    label = rng.choice(LABELS)
    box.use_results()
    variant = f'[{{label = {json.dumps(label)}, method = "bitfit"}}]'
    write_toml(
        box, {"name": '"case"', "methods": "[]", "suites": '["image-text"]', "seeds": "[1, 2]", "variant": variant}
    )

    def check(box: Box, outcomes: list[Outcome]) -> str | None:
        if outcomes[-1].code:
            return None
        files = {
            path.name: path.read_text(encoding="utf-8")
            for path in box.cwd.glob("reports/case*/**/*.*")
            if path.suffix in (".md", ".tex", ".html", ".csv")
        }
        if not {"results.md", "results.tex", "report.html"} <= set(files):
            return f"no tables: {sorted(files)}"
        if "\x1b[31m" in outcomes[-1].stdout:
            return "an escape sequence of a label reached the terminal"
        shown = re.sub(
            r"<!--(?!-?>).*?--!?>", "", files["results.md"], flags=re.DOTALL
        )  # what no comment of HTML hides
        if "<script>alert" in files["report.html"] or "<script>" in shown:
            return "a label is markup in HTML"
        if any("\\input{/etc" in line for line in files["results.tex"].splitlines() if line[:1] != "%"):
            return "a label is a command in LaTeX"
        if any(
            cell.startswith("=cmd")
            for name, text in files.items()
            if name.endswith(".csv")
            for cell in text.replace("\n", ",").split(",")
        ):
            return "a label is a formula in CSV"
        rows = [line for line in files["results.md"].splitlines() if line.startswith("|")]
        if len({line.replace("\\|", "").count("|") for line in rows[:3]}) > 1 or len(rows) < 3:
            return "a label breaks a row of Markdown"
        return None

    return Plan(
        [Step(["report", "case.toml", *SETTINGS], seconds=60, plots=True)],
        names=("case.toml", "label"),
        fields=("label",),
        check=check,
    )
