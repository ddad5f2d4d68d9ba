"""The annotation files and feature folders of the eight tasks, as the mutations of data roots see them."""

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz import judge
from tests.fuzz.registry import Plan
from tests.fuzz.world import Box

FEATURES = "clip_features/data_clip_RN101_att"


@dataclass(frozen=True)
class Annotation:
    """One annotation file: who reads it, where its records are, and the fields that are read, with their types.

    ``container`` is the key of the list of records, "" for a list at the top, "lines" for JSON lines.
    """

    path: str
    tasks: tuple[str, ...]
    container: str
    fields: dict[str, type]
    evaluated: bool = False


_VQA = {"question_id": int, "img_id": str, "sent": str, "label": dict}
_HUMAN = {"question_id": int, "answers": list, "question_type": str, "answer_type": str}
_GQA = {"question_id": str, "img_id": str, "sent": str, "label": dict}
_NLVR = {"uid": str, "identifier": str, "img0": str, "img1": str, "label": int, "sent": str}
_COCO = {"split": str, "filename": str, "sentences": list}
_SUBS = {"vid_name": str, "sub": list}


def _choices(number: int, answered: bool) -> dict[str, type]:
    fields: dict[str, type] = {"vid_name": str, "qid": int, "q": str, "ts": str}
    fields |= {f"a{i}": str for i in range(number)}
    return fields | ({"answer_idx": int} if answered else {})


def _captions(spans: bool, described: bool) -> dict[str, type]:
    fields: dict[str, type] = {"vid_name": str, "duration": float}
    fields |= {"ts": list} if spans else {}
    return fields | ({"descs": list} if described else {"clip_id": int})


ANNOTATIONS = [
    Annotation("vqa/karpathy_train.json", ("vqa",), "", _VQA),
    Annotation("vqa/karpathy_val.json", ("vqa",), "", _VQA),
    Annotation("vqa/karpathy_test.json", ("vqa",), "", _VQA, True),
    Annotation("vqa/v2_mscoco_val2014_annotations.json", ("vqa",), "annotations", _HUMAN, True),
    Annotation("GQA/train.json", ("gqa",), "", _GQA),
    Annotation("GQA/valid.json", ("gqa",), "", _GQA),
    Annotation("GQA/testdev.json", ("gqa",), "", _GQA, True),
    Annotation("nlvr/train.json", ("nlvr",), "", _NLVR),
    Annotation("nlvr/valid.json", ("nlvr",), "", _NLVR),
    Annotation("nlvr/test.json", ("nlvr",), "", _NLVR, True),
    Annotation("COCO/dataset_coco.json", ("caption",), "images", _COCO, True),
    *(
        Annotation(
            f"video/ann/{task}/{task}_{name}.jsonl", (task,), "lines", _choices(n, "test" not in name), "val" in name
        )
        for task, n, names in (
            ("tvqa", 5, ("train", "val", "test_public", "test_release")),
            ("how2qa", 4, ("train_release", "val_release", "test_public_release")),
        )
        for name in names
    ),
    *(
        Annotation(
            f"video/ann/{task}/{task}_{split}_release.jsonl",
            (task,),
            "lines",
            _captions(task == "tvc", split != "test"),
            split == "val",
        )
        for task in ("tvc", "yc2c")
        for split in ("train", "val", "test")
    ),
    Annotation("video/ann/tv_subtitles.jsonl", ("tvqa",), "lines", _SUBS, True),
    Annotation("video/ann/how2_subtitles.jsonl", ("how2qa",), "lines", _SUBS, True),
    Annotation("video/ann/yc2_subtitles.jsonl", ("yc2c",), "lines", _SUBS, True),
]
TABLES = tuple(f"{folder}/trainval_{name}.json" for folder in ("vqa", "GQA") for name in ("label2ans", "ans2label"))
#: feature folder -> tasks that read it
GRIDS = {"COCO": ("vqa",), "VG": ("gqa",), "GQA": ("gqa",), "nlvr": ("nlvr",)}
FRAMES = {"tv": ("tvqa",), "how2": ("how2qa",), "yc2": ("yc2c",)}
#: what also names a place: a name that leads nowhere is reported as the file that is missing
ALIASES = {
    "img_id": ("feature file", "img_id"),
    "img0": ("feature file", "img0"),
    "img1": ("feature file", "img1"),
    "filename": ("feature file", "filename"),
    "vid_name": ("vid_name", "feature file", "subtitles"),
    "question_id": ("question_id", "ten answers"),
}
Records = list[dict[str, Any]]


def pick(rng: random.Random, *tasks: str, evaluated: bool = False, field: str = "") -> Annotation:
    """Return one annotation file, captions of images and clips more rarely: their scores need Java."""
    fitting = [
        a
        for a in ANNOTATIONS
        if (not tasks or set(a.tasks) & set(tasks))
        and (a.evaluated or not evaluated)
        and (not field or field in a.fields)
    ]
    weights = [1 if a.tasks[0] in ("caption", "tvc", "yc2c") else 2 for a in fitting]
    return rng.choices(fitting, weights)[0]


def load(box: Box, annotation: Annotation) -> Any:
    """Return the content of an annotation file of the box: its records, or the object that holds them."""
    text = (box.root / annotation.path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if annotation.container == "lines" else json.loads(text)


def records(annotation: Annotation, content: Any) -> Records:
    """Return the list of records in what :func:`load` returned."""
    return content if annotation.container in ("", "lines") else content[annotation.container]


def store(box: Box, annotation: Annotation, content: Any) -> Path:
    """Write what :func:`load` returned, changed."""
    if annotation.container == "lines":
        text = "".join(json.dumps(record) + "\n" for record in content)
    else:
        text = json.dumps(content)
    return box.write(box.root / annotation.path, text)


def change(box: Box, annotation: Annotation, edit: Callable[[Records], Any]) -> Plan:
    """Change the records of a file in place by a function, and return the plan of its case."""
    content = copy.deepcopy(load(box, annotation))
    edit(records(annotation, content))
    store(box, annotation, content)
    return plan(box.root / annotation.path, annotation.tasks)


def start(box: Box, rng: random.Random, *tasks: str, **wanted: Any) -> Annotation:
    """Copy the root into the box and draw an annotation file."""
    box.use_root()
    return pick(rng, *tasks, **wanted)


def plan(path: Path, tasks: tuple[str, ...], fields: tuple[str, ...] = (), rescore: bool = False) -> Plan:
    """Return the plan of a data case: a message has to name the file, and one of the fields where there are any."""
    return Plan(
        names=(path.name, path.stem), fields=fields, judge=judge.data, facts={"tasks": tasks, "rescore": rescore}
    )


def spliced(box: Box, annotation: Annotation, record: int, field: str, raw: str) -> Plan:
    """Put raw text in the place of a field's value: JSON that no encoder would write."""
    mark = "@@raw@@"
    content = load(box, annotation)
    rows = records(annotation, content)
    rows[record % len(rows)][field] = mark
    path = store(box, annotation, content)
    box.write(path, path.read_text(encoding="utf-8").replace(f'"{mark}"', raw))
    return plan(path, annotation.tasks)
