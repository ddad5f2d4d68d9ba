"""How a case ended: the general judge, and the one of data roots."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.files import read_bytes
from tests.fuzz.registry import Plan, Step
from tests.fuzz.sandbox import Outcome
from tests.fuzz.world import SWEEP, Box, scores

#: a line that tells of something tolerated: one of these words, and a number
TOLERANCE = re.compile(r"warn|tolerat|\bnote\b|ignor|skip|left out|dropped|\bcut\b|repeated|duplicate", re.IGNORECASE)
BASELINE = ("stand in two files", ": extracted by mini (")  # what the check counts in the whole root, too
REFUSALS = (1, 2)


@dataclass(frozen=True)
class Verdict:
    """The ending of a case, and a line on it."""

    ending: str
    note: str


def told(text: str) -> bool:
    """Return whether a line tells of something tolerated, with its number."""
    lines = [line for line in text.splitlines() if not re.search(r"\.py:\d+: |^  \S", line)]  # no warning of a library
    return any(TOLERANCE.search(line) and re.search(r"\d", line) for line in lines)


def crash(outcome: Outcome) -> Verdict | None:
    """Return the verdict on a hang or a traceback, None where there is neither."""
    if outcome.hung:
        limit = "memory" if "MemoryError" in outcome.text else "time"
        return Verdict("hang", f"{outcome.argv[0]}: no {limit} left after {outcome.seconds:.0f} s")
    if outcome.crashed:
        lines = [line.strip() for line in outcome.text.splitlines() if line.strip()]
        places = [line for line in lines if (line.startswith("File ") and "/bench/" in line) or "/methods/" in line]
        place = (
            re.sub(r'^File ".*?((?:bench|methods)/[^"]*)", line (\d+), in (\S+).*$', r"\1:\2 \3", places[-1])
            if places
            else ""
        )
        return Verdict("traceback", f"{outcome.argv[0]}: {lines[-1][:160] if lines else outcome.code} [{place}]")
    return None


def refusal(outcome: Outcome, plan: Plan, expected: frozenset[str]) -> Verdict:
    """Return the verdict on a refusal: clear where it names the place, and where the input is to be refused."""
    lines = [
        line
        for line in outcome.text.splitlines()
        if re.search(r"error|fault|fail|corrupt|warning|not done", line, re.I)
    ]
    message = " ".join(lines) or outcome.stderr
    short = " ".join((next((line for line in lines if "fault" in line or "error" in line), message)).split())[:200]
    if "error" not in expected:
        return Verdict("unclear", f"refused although harmless: {short}")
    for wanted in (plan.names, plan.fields):
        if wanted and not any(word.lower() in message.lower() for word in wanted):
            return Verdict("unclear", f"names none of {', '.join(wanted)[:80]}: {short}")
    return Verdict("error", short)


def settle(ending: str, note: str, expected: frozenset[str]) -> Verdict:
    """Return the verdict on an input that was accepted: what nobody expected to be accepted is silent."""
    if ending in expected:
        return Verdict(ending, note)
    if ending == "harmless" and "tolerance" in expected:
        return Verdict("silent", f"{note}; tolerated without a line that counts it")
    if ending == "harmless":
        return Verdict("silent", f"{note}; accepted without a word")
    return Verdict("silent", f"{note}; only warned of, it is to be refused" if "error" in expected else note)


def general(box: Box, plan: Plan, expected: frozenset[str]) -> Verdict:
    """Judge a case whose steps are to be refused, or to pass with exit code 0."""
    outcomes: list[Outcome] = []
    for step in plan.steps:
        outcome = box.execute(step)
        outcomes.append(outcome)
        if fault := crash(outcome):
            return fault
        if outcome.code in REFUSALS:
            if fault := recorded_crash(box):
                return fault
            if plan.check and (wrong := plan.check(box, outcomes)):
                return Verdict("silent", wrong)
            return refusal(outcome, plan, expected)
        if outcome.code:
            return Verdict("unclear", f"exit code {outcome.code}")
    if plan.check and (wrong := plan.check(box, outcomes)):
        return Verdict("silent", wrong)
    warned = any(told(outcome.text) for outcome in outcomes) and "tolerance" in expected
    return settle("tolerance" if warned else "harmless", "exit code 0", expected)


def clear_types() -> set[str]:
    """Return the names of the exceptions that are meant for a user; any other in a record is a traceback in a file."""
    from bench.errors import UsageError
    from methods.core.errors import MethodError

    names, kinds = {"NotFinite"}, [UsageError, MethodError]
    while kinds:
        kind = kinds.pop()
        names.add(kind.__name__)
        kinds += kind.__subclasses__()
    return names


def recorded(box: Box) -> str:
    """Return the message of the first run that has failed."""
    for path in sorted(box.results.glob("runs/*/record.json")):
        content = json.loads(read_bytes(path))
        failed = [f"{name}: {score['error']}" for name, score in content["scores"].items() if score["error"]]
        if failed or content.get("error"):
            return failed[0] if failed else f"{content['error']['phase']}: {content['error']['message']}"
    return ""


def recorded_crash(box: Box) -> Verdict | None:
    """Return the verdict on a run that has failed of an exception that no user was meant to read."""
    for path in sorted(box.results.glob("runs/*/record.json")):
        try:
            error = json.loads(read_bytes(path)).get("error")  # a mutated record may be a pipe
        except (OSError, ValueError, AttributeError, RecursionError):
            continue
        if isinstance(error, dict) and error.get("type") not in clear_types():
            tail = [line.strip() for line in error.get("tail", []) if "/bench/" in line or "/methods/" in line]
            place = (
                re.sub(r'^File ".*?((?:bench|methods)/[^"]*)", line (\d+), in (\S+).*$', r"\1:\2 \3", tail[-1])
                if tail
                else ""
            )
            message = f"{error.get('type')}: {str(error.get('message'))[:120]} [{place}]"
            return Verdict("traceback", f"run failed in its phase {error.get('phase')!r} with {message}")
    return None


def data(box: Box, plan: Plan, expected: frozenset[str]) -> Verdict:
    """Judge a mutated data root: the check, then a very small sweep, then its scores beside those of the whole root."""
    tasks: Sequence[str] = plan.facts["tasks"]
    suite = "image-text" if set(tasks) & {"vqa", "gqa", "nlvr", "caption"} else "video-text"
    checked = box.execute(Step(["data", "check", str(box.root), "--suite", suite]))
    if fault := crash(checked):
        return fault
    if box.marker.exists():
        return Verdict("silent", "code of the input ran")
    if checked.code in REFUSALS:
        return refusal(checked, plan, expected)
    swept = box.execute(
        Step([*SWEEP, "--suites", suite, "--tasks", ",".join(tasks), "--data", f"mini={box.root}"], seconds=40)
    )
    if fault := crash(swept) or recorded_crash(box):
        return Verdict(fault.ending, f"check ok, then {fault.note}")
    if box.marker.exists():
        return Verdict("silent", "code of the input ran")
    if swept.code:
        line = next((line for line in swept.text.splitlines() if line.startswith("error")), "") or recorded(box)
        return Verdict("silent", f"check ok, then the sweep ends with {swept.code}: {line[:160]}")
    lines = [line for line in checked.text.splitlines() if not line.startswith("ok") or TOLERANCE.search(line)]
    warned = told("\n".join(line for line in lines if not any(words in line for words in BASELINE)))
    if warned or told(swept.stderr):
        return settle("tolerance", "counted by the check or the sweep", expected)
    after = scores(box.results)
    if plan.facts.get("rescore"):
        return _rescored(box, after, expected)
    if changed := different(box.baseline(suite, tasks), after):
        return Verdict("silent", f"check ok, scores changed without a word: {changed}")
    return settle("harmless", "check ok, the same scores", expected)


def _rescored(box: Box, before: dict[str, Any], expected: frozenset[str]) -> Verdict:
    """Judge a run on other texts: its predictions can be scored again, with the same scores."""
    again = box.execute(Step(["score", "--all", "--results", str(box.results)], seconds=40))
    if fault := crash(again):
        return fault
    if again.code or (changed := different(before, scores(box.results))):
        note = " ".join(again.text.split())[-160:] if again.code else changed
        return Verdict("silent", f"check and run ok, but the predictions cannot be scored again: {note}")
    return settle("harmless", "check, run and rescoring ok", expected)


def different(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Name the first score that differs, "" where none does; a score that is not finite differs from everything."""
    for key in sorted({*before, *after}):
        left, right = before.get(key), after.get(key)
        if left is None or right is None or not abs(left - right) < 1e-6:
            return f"{key} {left} -> {right}"
    return ""
