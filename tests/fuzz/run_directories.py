"""Mutations of run directories: records, configurations, predictions, score files, curves, weights and claims."""

import gzip
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

from tests.fuzz.judge import Verdict, crash, different, recorded_crash, refusal, settle
from tests.fuzz.registry import Plan, Step, mutation
from tests.fuzz.world import SETTINGS, Box, scores

PLANNED = ["--methods", "bitfit", "--backbone", "mini-bart", "--suites", "image-text", "--seeds", "1,2", *SETTINGS]
STATUS = ["status", *PLANNED]
REPORT = ["report", *PLANNED]


def draw(box: Box, rng: random.Random, suite: str = "image-text") -> Path:
    """Copy finished runs into the box, and return the directory of one of a suite."""
    box.use_results()
    return rng.choice(sorted(path for path in box.results.glob("runs/*") if suite in path.name))


def tells(box: Box, plan: Plan, expected: frozenset[str]) -> Verdict:
    """Judge a broken file of a run: every command names it and goes on, or refuses; none ends with other scores."""
    before = scores(box.world.results)
    warned = False
    for step in plan.steps:
        outcome = box.execute(step)
        if fault := crash(outcome) or recorded_crash(box):
            return fault
        if box.marker.exists():
            return Verdict("silent", "code of the input ran")
        named = [line for line in outcome.text.splitlines() if any(name in line for name in (*plan.names, "corrupt"))]
        warned = warned or bool(named)
        if outcome.code == 2:
            return refusal(outcome, plan, expected)
    after = scores(box.results)
    kept = {key: value for key, value in before.items() if key in after}
    if plan.facts.get("scores", True) and (changed := different(kept, {key: after[key] for key in kept})):
        return Verdict("silent", f"a score was changed: {changed}")
    if warned and expected & {"error", "tolerance"}:
        return Verdict("error" if "error" in expected else "tolerance", "named in the output")
    return settle("harmless", f"{plan.steps[0].argv[0]} says nothing", expected)


def rescored(box: Box, plan: Plan, expected: frozenset[str]) -> Verdict:
    """Judge ``score`` over broken predictions: it ends with code 1 or 2 and a reason, and every score stands."""
    before = scores(box.results)
    outcome = box.execute(plan.steps[0])
    if fault := crash(outcome):
        return fault
    if changed := different(before, scores(box.results)):
        return Verdict("silent", f"a good score was replaced or lost: {changed}")
    if outcome.code:
        return refusal(outcome, plan, expected)
    return settle("harmless", "the same scores", expected)


def _rescoring(path: Path, task: str) -> Plan:
    step = Step(["score", "--all", "--task", task], seconds=25)
    return Plan([step], names=(path.name, "corrupt", "fail", "java", "Java"), judge=rescored)


def _plan(path: Path, *commands: list[str], **facts: Any) -> Plan:
    steps = [Step(list(words), seconds=25) for words in commands]
    return Plan(steps, names=(path.name, "corrupt"), judge=tells, facts=facts)


def edited(box: Box, path: Path, edit: Any) -> None:
    """Change the content of a JSON file of the box in place by a function."""
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    box.write(path, json.dumps(content))


@mutation("records", weight=5)
def record_is_no_record(box: Box, rng: random.Random) -> Plan:
    """Emptied, cut off, noise, a folder or a loop in the place of record.json."""
    path = draw(box, rng) / "record.json"
    content = path.read_bytes()
    kind = rng.choice(
        ["empty", "cut", "noise", "null", "list", "number", "deep", "digits", "folder", "loop", "latin-1", "fifo"]
    )
    if kind in ("folder", "loop", "fifo"):
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path.name)
        else:
            os.mkfifo(path)
    else:
        texts = {
            "empty": b"",
            "cut": content[: rng.randrange(1, len(content) - 3)],
            "noise": b"\xff\xfe\0" * 50,
            "null": b"null",
            "list": b"[]",
            "number": b"5",
            "deep": b"[" * 100_000,
            "digits": b'{"schema": ' + b"9" * 6_000 + b"}",
            "latin-1": content.replace(b'"done"', '"doné"'.encode("latin-1")),
        }
        box.write(path, texts[kind])
    return _plan(path, rng.choice([STATUS, REPORT]))


@mutation("records", weight=8)
def record_field_of_wrong_type(box: Box, rng: random.Random) -> Plan:
    path = draw(box, rng) / "record.json"
    field, values = rng.choice(
        [
            ("id", [5, "", "another-run", None]),
            ("status", ["x", None, 5]),
            ("cause", ["x", 5]),
            ("run", [None, 5, {}, []]),
            ("scores", [None, 5, [], {"gqa": 5}, {"gqa": {}}]),
            ("parameters", [5, {"trainable": "x"}]),
            ("time", [5, {"train_seconds": "x"}, [1]]),
            ("memory", [5, "x"]),
            ("segments", [5, {}, [5]]),
            ("limited", ["x", []]),
            ("finished", [5, None]),
            ("schema", ["x", None, 99]),
            ("environment", [5, "x"]),
            ("data", [5, "x"]),
        ]
    )
    value = rng.choice(values)
    edited(box, path, lambda content: content.update({field: value}))
    return _plan(path, rng.choice([STATUS, REPORT]), scores=False)


@mutation("records", weight=5)
def record_with_nested_nonsense(box: Box, rng: random.Random) -> Plan:
    """Values of the right outer type that no run writes: a report names them and leaves them out."""
    path = draw(box, rng) / "record.json"
    edits: list[Any] = [
        lambda c: c["scores"]["gqa"]["metrics"].update(accuracy=float("nan")),
        lambda c: c["scores"]["gqa"]["metrics"].update(accuracy=float("inf")),
        lambda c: c["scores"]["gqa"]["metrics"].update(accuracy=458.33),
        lambda c: c["scores"]["gqa"]["metrics"].update(accuracy=-5),
        lambda c: c["scores"]["gqa"]["metrics"].clear(),
        lambda c: c["scores"]["gqa"].update(metric="nosuch"),
        lambda c: c["run"].update(tasks=["x"]),
        lambda c: c["run"].update(suite="nosuch"),
        lambda c: c["run"].update(method="nosuch"),
        lambda c: c["run"].update(seed=7),
        lambda c: c["run"]["recipe"].update(lr=float("nan")),
        lambda c: c["run"]["recipe"].update(steps=77),
        lambda c: c["memory"].update(phases=5),
        lambda c: c["memory"].update(phases={"train": 5}),
        lambda c: c["memory"].update(analytic=[1]),
    ]
    edited(box, path, rng.choice(edits))
    return _plan(path, REPORT, scores=False)


@mutation("records", weight=3)
def record_of_another_run(box: Box, rng: random.Random) -> Plan:
    """The record of seed 2 in the directory of seed 1, as it is or under the other id."""
    box.use_results()
    first, second = sorted(path for path in box.results.glob("runs/*") if "image-text" in path.name)
    content = json.loads((second / "record.json").read_text(encoding="utf-8"))
    if rng.random() < 0.5:
        content["id"] = first.name
    path = box.write(first / "record.json", json.dumps(content))
    return _plan(path, rng.choice([STATUS, REPORT]), scores=False)


@mutation("records", "error harmless", weight=3)
def configuration_of_a_run_broken(box: Box, rng: random.Random) -> Plan:
    """run.json of a finished run: the record has the configuration as well, so it may not matter."""
    path = draw(box, rng) / "run.json"
    content = rng.choice([b"", b"null", b"{", b"[]", b'{"tasks": ["x"]}', b"\xff"])
    box.write(path, content)
    return _plan(path, rng.choice([STATUS, REPORT]))


@mutation("records", "error harmless", weight=10)
def predictions_broken(box: Box, rng: random.Random) -> Plan:
    """Predictions emptied, halved, doubled, cut off or of other examples: a good score is never replaced."""
    suite = rng.choice(["image-text", "image-text", "video-text"])
    task = rng.choice(["vqa", "gqa", "nlvr"] if suite == "image-text" else ["tvqa", "how2qa"])
    path = draw(box, rng, suite) / "predictions" / f"{task}.jsonl.gz"
    content = path.read_bytes()
    lines = gzip.decompress(content).decode("utf-8").split("\n")[:-1]
    rows = [json.loads(line) for line in lines]
    kind = rng.randrange(12)
    texts: list[Any] = [
        lines[: len(lines) // 2],
        [*lines, *lines],
        [],
        [*lines, "{"],
        [json.dumps({"id": row["id"]}) for row in rows],
        [json.dumps(row | {"reference": None}) for row in rows],
        [json.dumps(row | {"prediction": 5}) for row in rows],
        [json.dumps(row | {"id": "same"}) for row in rows],
        ["5" for _ in rows],
        ["null" for _ in rows],
        [json.dumps(row | {"id": f"other-{row['id']}"}) for row in rows],
        [json.dumps(row | {"reference": 5}) for row in rows],
    ]
    packed = gzip.compress("".join(f"{line}\n" for line in texts[kind]).encode())
    raw = rng.choice(
        [None, None, None, b"", content[: len(content) // 2], b"\0" * 40, "\n".join(lines).encode(), content + b"x"]
    )
    box.write(path, packed if raw is None else raw)
    return _rescoring(path, task)


@mutation("records", weight=3)
def predictions_are_no_file(box: Box, rng: random.Random) -> Plan:
    path = draw(box, rng) / "predictions" / "gqa.jsonl.gz"
    path.unlink()
    kind = rng.choice(["deleted", "folder", "loop", "fifo", "no folder"])
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "no folder":
        shutil.rmtree(path.parent)
    return _rescoring(path, "gqa")


@mutation("records", "error harmless", weight=2)
def java_does_not_start(box: Box, rng: random.Random) -> Plan:
    """Scoring captions again without a Java that starts: the score stays."""
    draw(box, rng)
    java = box.write(box.folder / "bin" / "java", "#!/bin/sh\nexit 1\n")
    java.chmod(0o755)
    plan = _rescoring(java, "caption")
    plan.steps[0].env.update(
        {b"PATH": f"{java.parent}:/usr/bin:/bin".encode(), b"JAVA_HOME": b"/nowhere", b"_JAVA_OPTIONS": b"-Xmx1"}
    )
    return plan


@mutation("records", "error harmless", weight=3)
def lines_of_a_run_broken(box: Box, rng: random.Random) -> Plan:
    """Curves, segments and score files: what only a plot needs costs that plot at most."""
    folder = draw(box, rng)
    names = ["curve.jsonl", "segments.jsonl", *(str(p.relative_to(folder)) for p in folder.glob("scores/*"))]
    path = folder / rng.choice(names)
    kind = rng.choice(["empty", "noise", "other", "folder", "types", "separator", "deep"])
    if path.exists() and kind == "folder":
        path.unlink()
    if kind == "folder":
        path.mkdir(parents=True)
    else:
        texts = {
            "empty": b"",
            "noise": b"\xff\0\n{",
            "other": b'5\nnull\n[]\n"x"\n',
            "types": b'{"step": "x", "loss": [], "task": 5, "lr": {}}\n',
            "separator": '{"step": 1, "loss": 1.0, "task": "a\u2028b", "lr": 0.1, "examples": 2}\n'.encode(),
            "deep": b"[" * 100_000 + b"\n",
        }
        box.write(path, texts[kind])
    return _plan(path, REPORT)


@mutation("records", "error harmless", weight=4)
def claims_or_attempts_broken(box: Box, rng: random.Random) -> Plan:
    folder = draw(box, rng)
    if rng.random() < 0.5:
        (folder / "record.json").unlink()  # otherwise nobody looks at them any more
    place = folder / rng.choice(["claim", "attempts", "progress.json", "cancelled"])
    if place.is_dir():
        shutil.rmtree(place)
    content = rng.choice(
        [b"", b"null", b"[" * 50_000, b"\xff", b'{"pid": "x"}', b"{}", b'{"owner": 5, "outcome": [], "number": "x"}']
    )
    if place.suffix or rng.random() < 0.3:
        box.write(place, content)
    else:
        name = rng.choice(["1", "1.json", "9" * 30, "x", "-1", "1" + "0" * 200])
        box.write(place / name, content)
    return _plan(place, STATUS, scores=False)


@mutation("records", weight=3)
def weights_of_a_record_broken(box: Box, rng: random.Random) -> Plan:
    path = draw(box, rng) / "weights.safetensors"
    content = path.read_bytes()
    kind = rng.randrange(6)
    header = (1 << 60).to_bytes(8, "little")
    box.write(path, [b"", content[:-9], content + b"x", header + content[8:], b"\0" * 99, content[:6]][kind])
    return _plan(path, STATUS)
