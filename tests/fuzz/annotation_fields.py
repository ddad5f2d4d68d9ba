"""Mutations of single fields: missing keys, wrong types, numbers that are none, texts that cannot be written again."""

import json
import random
from typing import Any

from tests.fuzz import layout
from tests.fuzz.registry import Plan, mutation
from tests.fuzz.world import Box

#: every character at which str.splitlines breaks a line and JSON does not escape without being asked
SEPARATORS = ("\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r", "\n")
WRONG: dict[type, list[Any]] = {
    str: [None, 5, 1.5, True, ["a"], {"a": 1}],
    int: [None, "x", 1.5, True, [1], {"a": 1}],
    float: [None, "x", True, [1.0], {"a": 1}],
    list: [None, 5, 1.5, {"a": 1}, True],
    dict: [None, 5, "x", [], [1], True],
}
OFFICIAL = "the official files contain such records; the check and the record count them"


def _edit(box: Box, annotation: layout.Annotation, rng: random.Random, field: str, value: Any) -> Plan:
    def edit(rows: list) -> None:
        rows[rng.randrange(len(rows))][field] = value

    plan = layout.change(box, annotation, edit)
    plan.fields = layout.ALIASES.get(field, (field,))
    return plan


@mutation("data", weight=8)
def field_missing(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng)
    field = rng.choice(list(annotation.fields))

    def edit(rows: list) -> None:
        del rows[rng.randrange(len(rows))][field]

    plan = layout.change(box, annotation, edit)
    plan.fields = (*layout.ALIASES.get(field, (field,)), "'question'" if field == "sent" else field)
    return plan


@mutation("data", weight=10)
def field_of_wrong_type(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng)
    field = rng.choice(list(annotation.fields))
    values = [
        v for v in WRONG[annotation.fields[field]] if not (field == "qid" and isinstance(v, str))
    ]  # ids: texts too
    return _edit(box, annotation, rng, field, rng.choice(values))


@mutation("data", weight=3)
def nested_value_of_wrong_type(box: Box, rng: random.Random) -> Plan:
    """A sentence, an answer, a description or a line of subtitles that is no object, or whose text is none."""
    annotation = layout.start(box, rng, field=rng.choice(["sentences", "answers", "descs", "sub"]))
    field = next(f for f in ("sentences", "answers", "descs", "sub") if f in annotation.fields)
    inner = {"sentences": "raw", "answers": "answer", "descs": "desc", "sub": "text"}[field]

    def edit(rows: list) -> None:
        items = rng.choice(rows)[field]
        value = rng.choice([None, 5, "x", [], {}, {inner: 5}, {inner: None}, {inner: ["a"]}])
        items[rng.randrange(len(items))] = value

    plan = layout.change(box, annotation, edit)
    plan.fields = (field, inner)
    return plan


@mutation("data", weight=5)
def lone_surrogate(box: Box, rng: random.Random) -> Plan:
    """A text or an id with half of a character, which no UTF-8 file can hold."""
    annotation = layout.start(box, rng)
    names = [
        field for field, kind in annotation.fields.items() if kind is str and field not in ("split", "answer_type")
    ]
    field = rng.choice(names)
    half = rng.choice(["\ud83d", "\udc80", "\udcff"])

    def edit(rows: list) -> None:
        row = rng.choice(rows)
        row[field] = f"{row[field]} {half}"

    plan = layout.change(box, annotation, edit)
    plan.fields = layout.ALIASES.get(field, (field,))
    return plan


@mutation("data", weight=3)
def lone_surrogate_in_a_reference(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, field=rng.choice(["sentences", "answers", "descs", "sub", "label"]))

    def edit(rows: list) -> None:
        text = "a dog \ud83d"
        row = rng.choice(rows)
        if "sentences" in row:
            row["sentences"][0]["raw"] = text
        elif "answers" in row:
            row["answers"][0]["answer"] = text
        elif "descs" in row:
            row["descs"][0]["desc"] = text
        elif "sub" in row:
            row["sub"][0]["text"] = text
        elif isinstance(row.get("label"), dict):
            row["label"][text] = 1.0
        else:
            row["sent"] = text

    return layout.change(box, annotation, edit)


@mutation("data", "harmless", weight=5)
def line_separator_in_a_text(box: Box, rng: random.Random) -> Plan:
    """A separator that str.splitlines knows, in a text: the run ends, and its predictions can be read again."""
    references = ["sentences", "answers", "descs", "label", "show_name"]  # they are written beside the predictions
    field = rng.choice([*references, *references, "sent", "q", "sub"])
    annotation = layout.start(box, rng, field="q" if field == "show_name" else field, evaluated=True)
    character = rng.choice([*SEPARATORS, "\u2028", "\u2029", "\x85", "\u2028"])  # json.dumps escapes the others

    def edit(rows: list) -> None:
        row = rng.choice(rows)
        inner = {"sentences": "raw", "answers": "answer", "descs": "desc", "sub": "text"}
        if field in inner:
            row[field][0][inner[field]] = f"a red{character}circle"
        elif field == "label" and isinstance(row["label"], dict):
            row["label"] = {f"red{character}": 1.0}
        else:
            text = "sent" if field == "label" else field
            row[text] = f"{row.get(text, 'Show')}{character}more"

    plan = layout.change(box, annotation, edit)
    plan.facts["rescore"] = True
    return plan


@mutation("data", weight=4)
def soft_label_not_finite(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, "vqa", "gqa", field="label")
    value = rng.choice(["NaN", "Infinity", "-Infinity", "1e308", "1e400", "-1", "-0.5"])
    plan = layout.spliced(box, annotation, rng.randrange(4), "label", f'{{"yes": {value}}}')
    plan.fields = ("label",)
    return plan


@mutation("data", "error tolerance", weight=3, why=OFFICIAL)
def soft_label_above_one(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, "vqa", "gqa", field="label")
    return _edit(box, annotation, rng, "label", {"yes": rng.choice([1.0000001, 1.5, 5, 1e6])})


@mutation("data", weight=2)
def soft_label_of_wrong_type(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, "vqa", "gqa", field="label")
    return _edit(
        box, annotation, rng, "label", rng.choice([{"yes": "1"}, {"yes": None}, {"yes": [1]}, {"yes": True}, {"": 1.0}])
    )


@mutation("data", "error tolerance", why=OFFICIAL)
def soft_label_without_answers(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, "vqa", "gqa", field="label")
    return _edit(box, annotation, rng, "label", {})


@mutation("data", "error tolerance", weight=2, why="ids may repeat in files joined of pieces; each repetition counts")
def identical_ids(box: Box, rng: random.Random) -> Plan:
    """The same id for two different records, or for all."""
    field = rng.choice(["question_id", "uid", "qid", "clip_id"])
    annotation = layout.start(box, rng, field=field)

    def edit(rows: list) -> None:
        if len(rows) == 1:
            rows.append(dict(rows[0]))
        for row in rows if rng.random() < 0.5 else rows[1:2]:
            row[field] = rows[0][field]

    plan = layout.change(box, annotation, edit)
    plan.fields = (field, "id")
    return plan


@mutation("data", "error tolerance", why="a description may stand in two clips; each repetition counts")
def identical_description_ids(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, field="descs")

    def edit(rows: list) -> None:
        rows[1]["descs"][0]["desc_id"] = rows[0]["descs"][0]["desc_id"]

    plan = layout.change(box, annotation, edit)
    plan.fields = ("desc_id", "id")
    return plan


@mutation("data", "error tolerance", weight=4, why=OFFICIAL)
def empty_text(box: Box, rng: random.Random) -> Plan:
    field = rng.choice(["sent", "q", "descs", "sentences"])
    annotation = layout.start(box, rng, field=field)
    text = rng.choice(["", " ", "\n"])

    def edit(rows: list) -> None:
        row = rng.choice(rows)
        if field in ("descs", "sentences"):
            row[field][0][{"descs": "desc", "sentences": "raw"}[field]] = text
        else:
            row[field] = text

    return layout.change(box, annotation, edit)


@mutation("data", weight=3)
def empty_list_of_references(box: Box, rng: random.Random) -> Plan:
    field = rng.choice(["sentences", "answers"])
    annotation = layout.start(box, rng, field=field, evaluated=True)

    def edit(rows: list) -> None:
        row = rows[-1]  # of the split that is evaluated
        row[field] = []

    plan = layout.change(box, annotation, edit)
    plan.fields = (field,)
    return plan


@mutation("data", "error tolerance", weight=2, why="a clip without descriptions gives no example; it is counted")
def clip_without_descriptions(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, field="descs")
    return _edit(box, annotation, rng, "descs", [])


@mutation(
    "data", "error tolerance", weight=2, why="fewer than ten answers are scored by those that there are, and counted"
)
def few_human_answers(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, field="answers")

    def edit(rows: list) -> None:
        row = rows[-1]
        row["answers"] = row["answers"][: rng.choice([1, 3, 9])]

    return layout.change(box, annotation, edit)


@mutation("data", weight=2)
def question_without_human_answers(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, field="answers")

    def edit(rows: list) -> None:
        del rows[-1]

    plan = layout.change(box, annotation, edit)
    plan.names = (*plan.names, "karpathy_test.json")
    return plan


@mutation("data", "error tolerance", weight=2, why="videos without a transcript exist (silent ones); each is counted")
def video_without_subtitles(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, field="sub")

    def edit(rows: list) -> None:
        if rng.random() < 0.5:
            rows.pop(rng.randrange(len(rows)))
        else:
            rng.choice(rows)["sub"] = []

    return layout.change(box, annotation, edit)


@mutation("data", "error tolerance", why="two transcripts of one video: which one is right nobody can say")
def subtitles_twice(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, field="sub")

    def edit(rows: list) -> None:
        row = rng.choice(rows)
        rows.append(row | {"sub": [{"text": "something else", "start": 0.0, "end": 1.0}]})

    return layout.change(box, annotation, edit)


@mutation("data", weight=3)
def answer_index_out_of_range(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, field="answer_idx")
    return _edit(box, annotation, rng, "answer_idx", rng.choice([-1, 5, 99, "a1", "", "１", 10**20]))


@mutation("data", "error tolerance", weight=2, why=OFFICIAL)
def equal_options(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, field="a0")

    def edit(rows: list) -> None:
        row = rng.choice(rows)
        row["a1"] = row["a0"]

    return layout.change(box, annotation, edit)


@mutation("data", "error tolerance harmless", why="the show only names a further column of TVQA's scores")
def show_name_of_wrong_type(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, "tvqa", field="q", evaluated=True)
    plan = _edit(box, annotation, rng, "show_name", rng.choice([["a"], {"a": 1}, 5]))
    plan.fields = ("show_name",)
    return plan


@mutation("data", "error tolerance", weight=3, why=OFFICIAL)
def time_span_is_none(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, field="ts")
    value: Any = rng.choice(["nan-nan", "", "5", "9-2", "-3--1", "inf-inf", "a-b"])
    if annotation.fields["ts"] is list:
        value = rng.choice([[], [1.0], [9, 2], ["a", "b"], [None, 1], [1, 2, 3]])
    plan = _edit(box, annotation, rng, "ts", value)
    return plan


@mutation("data", "error tolerance", weight=2, why=OFFICIAL)
def duration_is_none(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, field="duration")
    plan = layout.spliced(
        box, annotation, rng.randrange(4), "duration", rng.choice(["NaN", "Infinity", "-1", "0", "1e308"])
    )
    plan.fields = ("duration",)
    return plan


@mutation("data", weight=2)
def label_out_of_range(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, "nlvr")
    return _edit(box, annotation, rng, "label", rng.choice([2, -1, 10**30]))


@mutation("data", weight=2)
def identifier_malformed(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, "nlvr")
    return _edit(box, annotation, rng, "identifier", rng.choice(["", "dev", "a-b", "a-b-c-d-e"]))


@mutation("data", "error tolerance", why="an image of a split that no task reads is left out, and counted")
def unknown_coco_split(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, "caption")
    return _edit(box, annotation, rng, "split", rng.choice(["Test", "testing", "", "val ", "TRAIN"]))


@mutation(
    "data", "error tolerance", weight=4, why="subtitles under another name leave their video without, which is counted"
)
def name_leads_outside(box: Box, rng: random.Random) -> Plan:
    """A name of an image or a video that leads out of its folder, to nowhere, or is too long for a file."""
    field = rng.choice(["img_id", "img0", "filename", "vid_name"])
    annotation = layout.start(box, rng, field=field)
    name = rng.choice(
        ["../../../../etc/passwd", "/etc/passwd", "", ".", "nul\0byte", "x" * 300, "no-such-name", "a/b", "*"]
    )
    plan = _edit(box, annotation, rng, field, name)
    plan.names = (*plan.names, "feature file")  # a name that leads nowhere is reported as the file that is missing
    return plan


@mutation(
    "data",
    "harmless tolerance error",
    weight=2,
    why="texts are cut to the task's number of tokens, as the official code does",
)
def text_of_any_length(box: Box, rng: random.Random) -> Plan:
    field = rng.choice(["sent", "q", "sub", "a0"])
    annotation = layout.start(box, rng, field=field)
    word = rng.choice(["dog ", "é", "\U0001f600", "<s> </s> <pad> ", "[TS] "])

    def edit(rows: list) -> None:
        row = rng.choice(rows)
        if field == "sub":
            row["sub"] = [{"text": word, "start": 0.0, "end": 1.0}] * rng.choice([1_000, 100_000])
        else:
            row[field] = word * rng.choice([500, 20_000])

    plan = layout.change(box, annotation, edit)
    plan.facts["rescore"] = True
    return plan


@mutation("data", "harmless", weight=2)
def unread_field_of_any_type(box: Box, rng: random.Random) -> Plan:
    annotation = layout.start(box, rng, "vqa", "gqa", "tvc", "yc2c")

    def edit(rows: list) -> None:
        rng.choice(rows)["type"] = json.loads(rng.choice(["null", "[]", "{}", "1", '"x"']))

    return layout.change(box, annotation, edit)
