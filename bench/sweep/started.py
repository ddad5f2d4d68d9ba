"""The plans of sweeps that were started, kept in ``RESULTS/sweeps``: how every verb knows a sweep by its name.

``NAME.json`` is the first plan that was started under a name. Another plan under the same name gets an entry of its own
(``NAME@2.json``); the same plan started again only renews the date and command of its entry. Files appear complete, and
two processes that start different plans at once get different entries.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr

from bench.config import FrozenModel, validated
from bench.errors import UsageError
from bench.files import create_once, explain_write_errors, write_bytes
from bench.sweep.spec import Sweep

LARGEST_FILE = 50_000_000  # bytes


class StartedSweep(FrozenModel):
    """A sweep as it was started.

    Attributes:
        version: of this layout.
        sweep: the fields of the sweep, with the flags of the command line applied.
        data: folders of data roots by name.
        executor: "inline", "local" or "slurm".
        command: the command line.
        started: when it was started last, in UTC.
    """

    version: Literal[1] = Field(1, alias="schema")
    sweep: Sweep
    data: Mapping[str, str]
    executor: str
    command: str
    started: str

    _key: str = PrivateAttr("")

    @property
    def key(self) -> str:
        """What a user calls this entry: the name of the sweep, or NAME@2 and so on."""
        return self._key

    @property
    def roots(self) -> dict[str, Path]:
        """The folders of data roots by name."""
        return {name: Path(path) for name, path in self.data.items()}


def keep(results: Path, sweep: Sweep, roots: Mapping[str, Path], executor: str, command: str) -> str | None:
    """Keep the plan of a sweep that is being started; return what its entry is called.

    A plan that another person has started, and that this one may not write, keeps its date. Where this person may not
    add a plan to the folder of another, there is no entry, and None is returned.

    Raises:
        UsageError: the results folder cannot be written.
    """
    plan = {
        "schema": 1,
        "sweep": sweep.content(),
        "data": {name: str(path) for name, path in sorted(roots.items())},
        "executor": executor,
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="microseconds"),
    }
    content = (json.dumps(plan, indent=1) + "\n").encode("ascii")
    folder = _folder(results)
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for key, path in _entries(results, sweep.name):
            try:
                if not path.exists() and create_once(path, content):
                    return key
            except PermissionError:
                return None
            with suppress(UsageError):  # a broken entry is another one's, and stays
                kept = _read(path, key)
                if kept.sweep.content() == plan["sweep"] and dict(kept.data) == plan["data"]:
                    with suppress(PermissionError):
                        write_bytes(path, content)
                    return key
    raise AssertionError("the entries of a name have no end")


def started_sweeps(results: Path, name: str) -> list[StartedSweep]:
    """Return the plans that were started under a name, the latest last; a name with ``@`` means one entry.

    Raises:
        UsageError: an entry cannot be read; the message names the file.
    """
    if "@" in name:
        path = _folder(results) / f"{name}.json"
        return [_read(path, name)] if re.fullmatch(r"[^/\\\0]+@[0-9]+", name) and path.is_file() else []
    if not name or "/" in name or "\0" in name:
        return []
    plans = []
    for key, path in _entries(results, name):
        if not os.path.lexists(path):
            break
        plans.append(_read(path, key))
    return sorted(plans, key=lambda plan: plan.started)


def started_names(results: Path) -> list[str]:
    """Return the names of all sweeps that were started."""
    with suppress(OSError):
        return sorted({entry.stem.partition("@")[0] for entry in _folder(results).glob("[!.]*.json")})
    return []


def _folder(results: Path) -> Path:
    return results / "sweeps"


def _entries(results: Path, name: str) -> Iterator[tuple[str, Path]]:
    number = 1
    while True:
        key = name if number == 1 else f"{name}@{number}"
        yield key, _folder(results) / f"{key}.json"
        number += 1


def _read(path: Path, key: str) -> StartedSweep:
    remedy = "mend it or remove it"
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"{path}: is no plan of a sweep; {remedy}")
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as the plan of a sweep ({type(error).__name__}); {remedy}") from None
    plan = validated(StartedSweep, content, f"{path} ({remedy})")
    plan._key = key
    return plan
