"""The task of audio-text: how many beats does a recording have?"""

from collections.abc import Sequence
from pathlib import Path

from bench.tasks import Decode, Example, Task, TaskScores
from bench.tasks.files import json_lines


def read(root: Path, split: str) -> list[Example]:
    """Read ``audio/beats_{split}.jsonl``: one recording and its number of beats per line."""
    examples = []
    for record in json_lines(root / "audio" / f"beats_{split}.jsonl"):
        name, beats = record.get("recording", str), str(record.get("beats", int))
        features = f"audio/features/{name}.npz"
        examples.append(Example(name, "how many beats?", (features,), ((beats, 1.0),), {"beats": beats}))
    return examples


def score(examples: Sequence[Example], predictions: Sequence[str]) -> TaskScores:
    """Return ``accuracy`` in %: the decoded string is the number."""
    points = [100.0 * (p == e.reference["beats"]) for e, p in zip(examples, predictions, strict=True)]
    return TaskScores({"accuracy": sum(points) / len(points)}, points)


TASK = Task(
    name="beats",
    label="Beats",
    suite="audio-text",
    order=0,
    prompt="beats: ",
    prompt_at="front",
    source_limit=20,
    target_limit=5,
    share=(1, 1),
    loss="example",
    decode=Decode(beams=1, max_length=5),
    metric="accuracy",
    metric_edition="exact match",
    splits={"train": "beats_train", "validation": "beats_validation"},
    report_split="validation",
    read=read,
    score=score,
)
