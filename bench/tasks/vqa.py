"""VQA v2 on the Karpathy split: open questions about one image, ten human answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.metrics import vqa as metric
from bench.tasks.files import (
    ExampleList,
    JsonRecord,
    added_folder,
    answer_tables,
    grid_folder,
    json_list,
    json_object,
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
    images = grid_folder(root, "COCO")
    examples = ExampleList(split)
    for record in json_list(folder / f"{FILES[split]}.json"):
        examples.add(_example(record, human, split, images), record)
    return examples.examples


def _questions(root: Path, split: str) -> list[Example]:
    images, examples = added_folder(root, "COCO", "test2015"), ExampleList(split)
    for record in json_object(root / UNANSWERED[split]).items("questions"):
        feature_file = f"{images}/COCO_test2015_{record.get('image_id', int):012d}.h5"
        examples.add(Example(str(record.get("question_id", int)), record.text("question"), (feature_file,)), record)
    return examples.examples


def _human_answers(folder: Path) -> dict[int, dict[str, Any]]:
    answers_of: dict[int, dict[str, Any]] = {}
    for name in ANNOTATIONS:
        for record in json_object(folder / name).items("annotations"):
            answers = [answer.get("answer", str) for answer in record.items("answers")]
            if not answers:
                raise record.fault("key 'answers' is empty, expected the answers of ten people")
            question = record.get("question_id", int)
            judged = {"answers": answers, **{key: record.get(key, str) for key in ("question_type", "answer_type")}}
            if question in answers_of:
                if answers_of[question] != judged:
                    raise record.fault(f"question_id {question} has other answers in an earlier record; remove one")
                tolerate(Tolerance.REPEATED_ANSWERS)
            answers_of[question] = judged
    return answers_of


def _example(record: JsonRecord, human: dict[int, dict[str, Any]], split: str, images: str) -> Example:
    number = record.get("question_id", int)
    text = record.text("sent" if "sent" in record else "question")
    label = soft_label(record)
    if not any(points for _, points in label):
        tolerate(Tolerance.NO_SOFT_LABEL)
    reference = None
    if split != "train":
        if number not in human:
            raise record.fault(f"question_id {number} has no ten answers in {' or '.join(ANNOTATIONS)}")
        if len(human[number]["answers"]) != metric.HUMANS:
            tolerate(Tolerance.NOT_TEN_ANSWERS)
        topk = record.get("is_topk_optimal", bool) if "is_topk_optimal" in record else None
        reference = human[number] | {"label": dict(label), "topk": topk}
    return Example(str(number), text, (f"{images}/{record.file_name('img_id')}.h5",), label, reference)


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
