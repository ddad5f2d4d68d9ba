"""GQA, balanced: compositional questions about one image, one answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.tasks.files import (
    ExampleList,
    ImageFiles,
    JsonRecord,
    added_folder,
    answer_tables,
    grid_folder,
    json_list,
    json_object,
    soft_label,
)
from bench.tasks.prediction_files import GQA_RESULTS
from bench.tasks.raw_forms import refuse_raw
from bench.tasks.task import Decode, Example, Task, TaskScores

#: trained on train and valid, validated on testdev, which is also what tables report (quirk GQA-TESTDEV)
FILES = {"train": ("train", "valid"), "validation": ("testdev",)}
#: questions without public answers, in the form of the other files without ``label``
UNANSWERED = {"test": "GQA/submit.json"}
#: the questions as GQA publishes them, which have their types
RAW_QUESTIONS = "GQA/testdev_balanced_questions.json"
TYPES = ("semantic", "structural", "detailed")


def read(root: Path, split: str) -> list[Example]:
    """Read a split; training images come from Visual Genome's folder."""
    folder = root / "GQA"
    if split in UNANSWERED:
        return _questions(root, split)
    for name in FILES[split]:
        refuse_raw(folder / f"{name}.json", "gqa")
    answer_tables(folder)
    images = ImageFiles(grid_folder(root, "VG" if split == "train" else "GQA"))
    types = _question_types(root) if split == "validation" else {}
    examples = ExampleList(split)
    references: dict[tuple[tuple[str, float], ...], dict[str, Any]] = {}  # equal ones are one object
    for name in FILES[split]:
        for record in json_list(folder / f"{name}.json"):
            label = soft_label(record)
            if not any(points for _, points in label):
                raise record.fault("key 'label' has no answer with a score, expected one")
            question = record.get("question_id", str)
            reference = references.setdefault(label, dict(label))
            if question in types:
                reference = {"label": dict(label), "types": types[question]}
            examples.add(_example(record, images, label, reference), record)
    return examples.examples


def _questions(root: Path, split: str) -> list[Example]:
    images, examples = ImageFiles(added_folder(root, "GQA", "submit")), ExampleList(split)
    for record in json_list(root / UNANSWERED[split]):
        examples.add(_example(record, images), record)
    return examples.examples


def _example(
    record: JsonRecord,
    images: ImageFiles,
    label: tuple[tuple[str, float], ...] = (),
    reference: dict[str, Any] | None = None,
) -> Example:
    return Example(record.get("question_id", str), record.text("sent"), images.of(record, "img_id"), label, reference)


def _question_types(root: Path) -> dict[str, dict[str, str]]:
    """Return the types of every question of testdev, nothing where the published questions are not there."""
    file = root / RAW_QUESTIONS
    if not file.exists():
        return {}
    types = {}
    for question, content in json_object(file).content.items():
        record = JsonRecord(content, file, f"question {question!r:.60}")
        named = JsonRecord(record.get("types", dict), file, f"{record.place}, types")
        types[question] = {kind: named.get(kind, str) for kind in TYPES if named.content.get(kind) is not None}
    return types


def score(examples: Sequence[Example], predictions: Sequence[str]) -> TaskScores:
    """Return ``accuracy`` in %: the label's score of the exact string, without normalisation; also by question type
    where the types are there (``accuracy_semantic_rel``)."""
    groups: dict[str, list[float]] = {"accuracy": []}
    for example, prediction in zip(examples, predictions, strict=True):
        label, types = example.reference, {}
        if isinstance(label.get("types"), dict):  # else it is an answer, with its score
            label, types = label["label"], label["types"]
        names = ["accuracy", *(f"accuracy_{kind}_{value}" for kind, value in types.items())]
        for name in names:
            groups.setdefault(name, []).append(label.get(prediction, 0.0))
    metrics = {name: 100 * sum(points) / len(points) for name, points in groups.items()}
    return TaskScores(metrics, [100 * point for point in groups["accuracy"]])


TASK = Task(
    name="gqa",
    label="GQA",
    suite="image-text",
    order=1,
    prompt="gpa: ",  # quirk GPA: misspelt in the official code
    prompt_at="front",
    source_limit=20,
    target_limit=None,
    share=(100, 60),
    loss="example",
    decode=Decode(beams=1),
    metric="accuracy",
    metric_edition="exact match",
    splits={"train": "train + valid", "validation": "testdev"},
    official_sizes={"train": 943_000 + 132_062, "validation": 12_578},
    report_split="validation",
    read=read,
    score=score,
    unanswered=UNANSWERED,
    file_format=GQA_RESULTS,
)
