"""What the folder of a sweep's report is called: as the sweep, or after what the command line has changed of it."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from bench.sweep.spec import MAX_NAME, Sweep

LISTED = 3  # names that are written out; more are counted
ROOM = 12  # for -tuning, @2 and the like behind a name
DIGITS = 8  # of the digest that a name ends with where it was too long


def report_name(base: Sweep, changed: Sweep) -> str | None:
    """Return what the report of a sweep is called whose plan differs from that of ``base``, None where it does not.

    Methods take the place of the name of the default sweep, and follow the name of any other:
    ``lora-vs-vl-pet-large-image-text``. What else differs follows: suites, tasks, backbones, seeds, settings, axes.
    """
    before, after = base.content(), changed.content()
    keys = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    keys -= {"name", "folder", "max_cells"}
    if not keys:
        return base.folder
    words = [base.folder or base.name]
    if keys & {"methods", "variant"}:
        labels = [*changed.methods, *(variant.label for variant in changed.variant)]
        words = [] if words == ["default"] else words
        words.append("-vs-".join(labels) if len(labels) <= LISTED else f"{len(labels)} methods")
    words += [_listed(key, getattr(changed, key)) for key in ("suites", "tasks", "backbones") if key in keys]
    if "seeds" in keys or "seeds_of" in keys:
        words.append("seeds " + _listed("seeds", changed.seeds))
    settings = {k: v for k, v in changed.given.items() if k not in base.given or base.given[k] != v}
    settings |= {key: value for key, value in changed.axes.items() if base.axes.get(key) != value}
    words += [f"{key} {_listed('values', value)}" for key, value in settings.items()]
    for key, title in (("drop", "drop"), ("add", "add"), ("only", "only"), ("but", "except"), ("data", "on")):
        if (title if key == "but" else key) in keys:
            words.append(f"{title} {_listed(key, getattr(changed, key))}")
    return _file_name("-".join(words), after)


def _listed(noun: str, value: Any) -> str:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return str(value)
    return "-".join(str(item).rpartition("/")[2] for item in value) if len(value) <= LISTED else f"{len(value)} {noun}"


def _file_name(text: str, content: Any) -> str:
    """Return a text as a name of a folder, which a digest completes where it is long."""
    name = re.sub(r"[^A-Za-z0-9+._]+", "-", text)
    name = re.sub(r"\.{2,}", ".", name).strip("-._+") or "sweep"
    if len(name) <= MAX_NAME - ROOM:
        return name
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:DIGITS]
    return f"{name[: MAX_NAME - ROOM - DIGITS - 1].strip('-._+')}-{digest}"
