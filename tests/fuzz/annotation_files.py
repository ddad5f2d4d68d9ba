"""Mutations of whole annotation files: what stands in their place, how they are encoded, what they hold."""

import gzip
import json
import os
import random

from tests.fuzz import layout
from tests.fuzz.registry import Plan, mutation
from tests.fuzz.world import Box

HARMLESS = "harmless"


def _file(box: Box, rng: random.Random) -> tuple[layout.Annotation, Plan]:
    annotation = layout.start(box, rng)
    return annotation, layout.plan(box.root / annotation.path, annotation.tasks)


@mutation("data")
def annotation_deleted(box: Box, rng: random.Random) -> Plan:
    annotation, plan = _file(box, rng)
    (box.root / annotation.path).unlink()
    return plan


@mutation("data", weight=2)
def annotation_replaced(box: Box, rng: random.Random) -> Plan:
    """Nothing, noise, or another kind of JSON in the place of the file."""
    annotation, plan = _file(box, rng)
    noise = bytes(rng.randrange(256) for _ in range(200))
    choices = [
        b"",
        b"\0" * 300,
        noise,
        b"null",
        b"5",
        b'"text"',
        b"true",
        b"[1, 2]",
        b'{"a": 1}',
        b"[[]]",
        b"<html></html>",
    ]
    box.write(box.root / annotation.path, rng.choice(choices))
    return plan


@mutation("data", weight=2)
def annotation_truncated(box: Box, rng: random.Random) -> Plan:
    annotation, plan = _file(box, rng)
    content = (box.root / annotation.path).read_bytes()
    lines = [i for i, byte in enumerate(content) if byte == 10]
    end = rng.randrange(1, len(content) - 2)
    while any(abs(end - line) < 2 for line in lines):  # whole lines would be a shorter file, and a right one
        end -= 1
    box.write(box.root / annotation.path, content[: max(end, 1)])
    return plan


@mutation("data")
def annotation_without_records(box: Box, rng: random.Random) -> Plan:
    annotation, _ = _file(box, rng)
    return layout.change(box, annotation, lambda rows: rows.clear())


@mutation("data", weight=2)
def annotation_is_no_file(box: Box, rng: random.Random) -> Plan:
    """A folder, a loop of links, a link to nowhere, or a device in the place of the file."""
    annotation, plan = _file(box, rng)
    path = box.root / annotation.path
    path.unlink()
    kind = rng.choice(["folder", "loop", "dangling", "null device"])
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        path.symlink_to("/nowhere/at-all" if kind == "dangling" else "/dev/null")
    return plan


@mutation("data")
def annotation_is_fifo(box: Box, rng: random.Random) -> Plan:
    annotation, plan = _file(box, rng)
    (box.root / annotation.path).unlink()
    os.mkfifo(box.root / annotation.path)
    return plan


@mutation("data", weight=2)
def annotation_in_another_encoding(box: Box, rng: random.Random) -> Plan:
    """Latin-1 text, UTF-16, UTF-32, or compressed."""
    annotation, plan = _file(box, rng)
    path = box.root / annotation.path
    text = path.read_text(encoding="utf-8")
    kind = rng.choice(["latin-1", "utf-16", "utf-32", "gzip"])
    if kind == "latin-1":
        first = text.index('": "') + 4
        content = (text[:first] + "é" + text[first:]).encode("latin-1")
    else:
        content = gzip.compress(text.encode()) if kind == "gzip" else text.encode(kind)
    box.write(path, content)
    return plan


@mutation("data", HARMLESS)
def annotation_with_byte_order_mark(box: Box, rng: random.Random) -> Plan:
    annotation, plan = _file(box, rng)
    path = box.root / annotation.path
    box.write(path, b"\xef\xbb\xbf" + path.read_bytes())
    return plan


@mutation("data", HARMLESS)
def annotation_with_carriage_returns(box: Box, rng: random.Random) -> Plan:
    annotation, plan = _file(box, rng)
    path = box.root / annotation.path
    content = path.read_bytes()
    if annotation.container != "lines":
        content = json.dumps(json.loads(content), indent=1).encode()
    box.write(path, content.replace(b"\n", b"\r\n"))
    return plan


@mutation("data", HARMLESS)
def annotation_written_in_another_style(box: Box, rng: random.Random) -> Plan:
    """Indented or with blank lines, sorted keys, characters unescaped, further keys: the same content."""
    annotation, plan = _file(box, rng)
    content = layout.load(box, annotation)
    for record in layout.records(annotation, content):
        record["a_key_of_a_later_edition"] = rng.choice([None, 1, "é", [1], {"a": "b"}])
    style = {"sort_keys": rng.random() < 0.5, "ensure_ascii": rng.random() < 0.5}
    if annotation.container == "lines":
        text = "".join("\n" * rng.randrange(2) + json.dumps(row, **style) + " \n" for row in content)
    else:
        text = json.dumps(content, indent=rng.choice([None, 2]), **style)
    box.write(box.root / annotation.path, text)
    return plan


@mutation("data")
def annotation_nested_too_deep(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng)
    depth = rng.choice([2_000, 20_000, 200_000])
    raw = "[" * depth + "]" * depth
    field = rng.choice([*annotation.fields, "unused"])
    return layout.spliced(box, annotation, rng.randrange(4), field, raw)


@mutation("data")
def annotation_with_an_integer_of_many_digits(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng)
    field = rng.choice(list(annotation.fields))
    return layout.spliced(box, annotation, rng.randrange(4), field, "7" * rng.choice([5_000, 50_000]))


@mutation("data", weight=2)
def record_is_no_object(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng)
    value = rng.choice([None, 5, "text", [], [{}], True])

    def edit(rows: list) -> None:
        rows[rng.randrange(len(rows))] = value

    return layout.change(box, annotation, edit)


@mutation(
    "data", "error tolerance", why="files joined of pieces repeat records; each repetition counts once more", weight=3
)
def record_repeated(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng)

    def edit(rows: list) -> None:
        rows.append(dict(rng.choice(rows)))

    return layout.change(box, annotation, edit)


@mutation("data", "error tolerance", why="files joined of pieces repeat records; each repetition counts once more")
def annotation_content_twice(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng)
    return layout.change(box, annotation, lambda rows: rows.extend([dict(row) for row in rows]))


@mutation("data")
def annotation_of_another_task(box: Box, rng: random.Random) -> Plan:
    annotation, plan = _file(box, rng)
    others = [a for a in layout.ANNOTATIONS if a.fields is not annotation.fields and a.tasks != annotation.tasks]
    other = rng.choice([a for a in others if set(annotation.fields) - set(a.fields)])
    box.write(box.root / annotation.path, (box.world.root / other.path).read_bytes())
    return plan


@mutation("data", weight=3)
def answer_table_inconsistent(box: Box, rng: random.Random) -> Plan:
    box.use_root()
    name = rng.choice(layout.TABLES)
    path = box.root / name
    content = json.loads(path.read_text(encoding="utf-8"))
    kind = rng.randrange(6)
    if isinstance(content, list):
        changed = [
            content[:-1],
            content[::-1],
            [*content, content[0]],
            [["yes"], *content[1:]],
            [None, *content[1:]],
            dict.fromkeys(content),
        ]
    else:
        first = next(iter(content))
        changed = [
            {k: v for k, v in content.items() if k != first},
            content | {first: 10**6},
            content | {first: "0"},
            content | {first: [0]},
            list(content),
            content | {first: None},
        ]
    box.write(path, json.dumps(changed[kind]))
    return layout.plan(path, ("vqa",) if name.startswith("vqa") else ("gqa",))


@mutation("data")
def answer_table_is_no_file(box: Box, rng: random.Random) -> Plan:
    box.use_root()
    name = rng.choice(layout.TABLES)
    path = box.root / name
    path.unlink()
    kind = rng.choice(["deleted", "folder", "loop", "deep", "empty"])
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind != "deleted":
        box.write(path, "[" * 9999 if kind == "deep" else "")
    return layout.plan(path, ("vqa",) if name.startswith("vqa") else ("gqa",))
