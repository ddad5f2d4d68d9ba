"""NLVR2: is a statement about two images true?"""

from collections.abc import Sequence
from pathlib import Path

from bench.tasks.files import ExampleList, ImageFiles, grid_folder, json_list
from bench.tasks.prediction_files import NLVR_TABLE
from bench.tasks.raw_forms import refuse_raw
from bench.tasks.task import Decode, Example, Task, TaskScores

FILES = {"train": "train", "validation": "valid", "test": "test"}


def read(root: Path, split: str) -> list[Example]:
    """Read a split; the two images stay apart until the model."""
    file = root / "nlvr" / f"{FILES[split]}.json"
    refuse_raw(file, "nlvr2")
    images = ImageFiles(grid_folder(root, "nlvr"))
    examples = ExampleList(split)
    for record in json_list(file):
        label = record.get("label", int)
        if label not in (0, 1):
            raise record.fault(f"key 'label' is {label!r:.60}, expected 0 or 1")
        identifier = record.get("identifier", str)
        if identifier.count("-") != 3:
            raise record.fault(f"key 'identifier' is {identifier!r:.60}, expected four fields like 'dev-850-0-2'")
        example = Example(
            id=record.get("uid", str),
            text=record.text("sent"),
            visual=images.of(record, "img0") + images.of(record, "img1"),
            answers=((("false", "true")[label], 1.0),),
            reference={"label": label, "identifier": identifier},
        )
        examples.add(example, record)
    return examples.examples


def consistency_group(identifier: str) -> str:
    """Return what examples of the same sentence and image set share: the identifier without its third field.

    >>> consistency_group("dev-850-0-2")
    'dev-850--2'
    """
    parts = identifier.split("-")
    parts[2] = ""
    return "-".join(parts)


def score(examples: Sequence[Example], predictions: Sequence[str]) -> TaskScores:
    """Return ``accuracy`` and ``consistency`` (share of statements right on every pair of their set), in %."""
    correct = [p == ("false", "true")[e.reference["label"]] for e, p in zip(examples, predictions, strict=True)]
    groups: dict[str, list[bool]] = {}
    for example, is_correct in zip(examples, correct, strict=True):
        groups.setdefault(consistency_group(example.reference["identifier"]), []).append(is_correct)
    metrics = {
        "accuracy": 100 * sum(correct) / len(correct),
        "consistency": 100 * sum(all(group) for group in groups.values()) / len(groups),
    }
    return TaskScores(metrics, [100.0 * is_correct for is_correct in correct])


TASK = Task(
    name="nlvr",
    label="NLVR2",
    suite="image-text",
    order=2,
    prompt="nlvr: ",
    prompt_at="front",
    source_limit=None,
    target_limit=None,
    share=(20, 60),
    loss="example",
    decode=Decode(mode="binary"),
    metric="accuracy",
    metric_edition="exact match",
    splits=FILES,
    official_sizes={"train": 86_373, "validation": 6_982, "test": 6_967},
    report_split="test",
    read=read,
    score=score,
    file_format=NLVR_TABLE,
)
