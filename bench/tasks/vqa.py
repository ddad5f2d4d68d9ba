"""VQA v2 on the Karpathy split: open questions about one image, ten human answers."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from bench.metrics import vqa as metric
from bench.tasks.files import (
    ExampleList,
    ImageFiles,
    JsonRecord,
    added_folder,
    answer_tables,
    grid_folder,
    json_items,
    json_list,
    soft_label,
)
from bench.tasks.prediction_files import VQA_RESULTS
from bench.tasks.task import Decode, Example, Task, TaskScores
from bench.tasks.tolerance import Tolerance, tolerate

FILES = {"train": "karpathy_train", "validation": "karpathy_val", "test": "karpathy_test"}
#: the official questions without public answers; the evaluation server takes results of all of test for test-std
UNANSWERED = {
    "test-dev": "vqa/v2_OpenEnded_mscoco_test-dev2015_questions.json",
    "test-std": "vqa/v2_OpenEnded_mscoco_test2015_questions.json",
}
ANNOTATIONS = ("v2_mscoco_train2014_annotations.json", "v2_mscoco_val2014_annotations.json")


def read(root: Path, split: str) -> list[Example]:
    """Read a split; outside of training with the human answers that the metric needs, where they are public."""
    if split in UNANSWERED:
        return _questions(root, split)
    folder = root / "vqa"
    answer_tables(folder)
    human = {} if split == "train" else _human_answers(folder)
    images = ImageFiles(grid_folder(root, "COCO"))
    examples = ExampleList(split)
    for record in json_list(folder / f"{FILES[split]}.json"):
        examples.add(_example(record, human, split, images), record)
    return examples.examples


def _questions(root: Path, split: str) -> list[Example]:
    images, examples = added_folder(root, "COCO", "test2015"), ExampleList(split)
    for record in json_items(root / UNANSWERED[split], "questions"):
        feature_file = f"{images}/COCO_test2015_{record.get('image_id', int):012d}.h5"
        examples.add(Example(str(record.get("question_id", int)), record.text("question"), (feature_file,)), record)
    return examples.examples


def _human_answers(folder: Path) -> dict[int, "Judged"]:
    """Return the human answers by question; the two evaluated splits share what is read, which is most of the time."""
    status = [(folder / name).stat() for name in ANNOTATIONS if (folder / name).exists()]
    answers_of, repeated = _read_answers(folder, tuple((s.st_size, s.st_mtime_ns, s.st_ino) for s in status))
    tolerate(Tolerance.REPEATED_ANSWERS, repeated)
    return answers_of


@lru_cache(maxsize=1)
def _read_answers(folder: Path, status: tuple[tuple[int, ...], ...]) -> tuple[dict[int, "Judged"], int]:
    """Read the annotation files, which have this ``status``; the second value is the number of repeated questions."""
    answers_of: dict[int, Judged] = {}
    same: dict[str, str] = {}  # equal answers are one object
    repeated = 0
    for name in ANNOTATIONS:
        for record in json_items(folder / name, "annotations"):
            answers = tuple(same.setdefault(answer, answer) for answer in record.strings("answers", "answer"))
            if not answers:
                raise record.fault("key 'answers' is empty, expected the answers of ten people")
            question = record.get("question_id", int)
            types = [record.get(key, str) for key in ("question_type", "answer_type")]
            judged = Judged(answers, *(same.setdefault(kind, kind) for kind in types))
            if question in answers_of:
                if answers_of[question] != judged:
                    raise record.fault(f"question_id {question} has other answers in an earlier record; remove one")
                repeated += 1
            answers_of[question] = judged
    return answers_of, repeated


class Judged(NamedTuple):
    """What people answered to a question, and its types."""

    answers: tuple[str, ...]
    question_type: str
    answer_type: str

    def reference(self) -> dict[str, Any]:
        """Return what scoring needs of it."""
        return {"answers": list(self.answers), "question_type": self.question_type, "answer_type": self.answer_type}


def _example(record: JsonRecord, human: Mapping[int, Judged], split: str, images: ImageFiles) -> Example:
    number = record.get("question_id", int)
    text = record.text("sent" if "sent" in record else "question")
    label = soft_label(record)
    if not any(points for _, points in label):
        tolerate(Tolerance.NO_SOFT_LABEL)
    reference = None
    if split != "train":
        if number not in human:
            raise record.fault(f"question_id {number} has no ten answers in {' or '.join(ANNOTATIONS)}")
        if len(human[number].answers) != metric.HUMANS:
            tolerate(Tolerance.NOT_TEN_ANSWERS)
        topk = record.get("is_topk_optimal", bool) if "is_topk_optimal" in record else None
        reference = human[number].reference() | {"label": dict(label), "topk": topk}
    return Example(str(number), text, images.of(record, "img_id"), label, reference)


def score(examples: Sequence[Example], predictions: Sequence[str]) -> TaskScores:
    """Return accuracies in %: ``accuracy`` (ten humans; the one reported), ``accuracy_2021`` (the current edition of
    the same tool), both also by answer type (``accuracy_number``) and question type (``accuracy_question_how many``),
    and ``accuracy_topk`` (soft label of the exact string).

    Questions without the ``is_topk_optimal`` mark count in both of its subsets (quirk VQA-SUBSET). Like the official
    tool, this rounds every metric and every question's accuracy to two decimals.
    """
    points = [metric.accuracy(p, e.reference["answers"]) for e, p in zip(examples, predictions, strict=True)]
    groups: dict[str, list[float]] = {"accuracy": points}
    for example, prediction, point in zip(examples, predictions, points, strict=True):
        reference = example.reference
        current = metric.accuracy(prediction, reference["answers"], "2021")
        for kind in ("", f"_{reference['answer_type']}", f"_question_{reference['question_type']}"):
            if kind:
                groups.setdefault(f"accuracy{kind}", []).append(point)
            groups.setdefault(f"accuracy_2021{kind}", []).append(current)
        groups.setdefault("accuracy_topk", []).append(reference["label"].get(prediction, 0.0))
        for name, mark in (("topk_optimal", True), ("topk_not_optimal", False)):
            if reference["topk"] in (None, mark):
                groups.setdefault(f"accuracy_{name}", []).append(point)
    metrics = {name: round(100 * sum(values) / len(values), 2) for name, values in groups.items() if values}
    return TaskScores(metrics, [round(100 * point, 2) for point in points])


TASK = Task(
    name="vqa",
    label="VQAv2",
    suite="image-text",
    order=0,
    prompt="vqa: ",
    prompt_at="front",
    source_limit=20,  # quirk VQA20
    target_limit=10,
    share=(1, 1),
    loss="weighted",
    decode=Decode(beams=1),
    metric="accuracy",
    metric_edition="VQA evaluation 2016",
    splits=FILES,
    official_sizes={"train": 605_102, "validation": 26_729, "test": 26_280},
    report_split="test",
    read=read,
    score=score,
    unanswered=UNANSWERED,
    file_format=VQA_RESULTS,
)
