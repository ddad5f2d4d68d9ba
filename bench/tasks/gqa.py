"""GQA, balanced: compositional questions about one image, one answer."""

from collections.abc import Sequence
from pathlib import Path

from bench.tasks.files import ExampleList, answer_tables, grid_folder, json_list, soft_label
from bench.tasks.raw_forms import refuse_raw
from bench.tasks.task import Decode, Example, Task, TaskScores

#: trained on train and valid, validated on testdev, which is also what tables report (quirk GQA-TESTDEV)
FILES = {"train": ("train", "valid"), "validation": ("testdev",)}


def read(root: Path, split: str) -> list[Example]:
    """Read a split; training images come from Visual Genome's folder."""
    folder = root / "GQA"
    for name in FILES[split]:
        refuse_raw(folder / f"{name}.json", "gqa")
    answer_tables(folder)
    images = grid_folder(root, "VG" if split == "train" else "GQA")
    examples = ExampleList(split)
    for name in FILES[split]:
        for record in json_list(folder / f"{name}.json"):
            label = soft_label(record)
            if not any(points for _, points in label):
                raise record.fault("key 'label' has no answer with a score, expected one")
            example = Example(
                id=record.get("question_id", str),
                text=record.text("sent"),
                visual=(f"{images}/{record.file_name('img_id')}.h5",),
                answers=label,
                reference=dict(label),
            )
            examples.add(example, record)
    return examples.examples


def score(examples: Sequence[Example], predictions: Sequence[str]) -> TaskScores:
    """Return ``accuracy`` in %: the label's score of the exact string, without normalisation."""
    points = [e.reference.get(p, 0.0) for e, p in zip(examples, predictions, strict=True)]
    return TaskScores({"accuracy": 100 * sum(points) / len(points)}, [100 * point for point in points])


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
)
