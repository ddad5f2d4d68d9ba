"""COCO captioning on the Karpathy split."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.metrics.caption import EDITION, SLOW_METRICS, caption_scores, tokenize_captions
from bench.tasks.files import ExampleList, grid_folder, json_items
from bench.tasks.prediction_files import COCO_RESULTS
from bench.tasks.task import Decode, Example, Task, TaskScores
from bench.tasks.tolerance import Tolerance, tolerate

SPLITS = {"train": ("train", "restval"), "validation": ("val",), "test": ("test",)}
KNOWN_SPLITS = tuple(name for names in SPLITS.values() for name in names)


def read(root: Path, split: str) -> list[Example]:
    """Read a split: one example per caption to train on, one per image with all references to evaluate."""
    images = grid_folder(root, "COCO")
    examples = ExampleList(split)
    for image in json_items(root / "COCO" / "dataset_coco.json", "images"):
        if image.get("split", str) not in KNOWN_SPLITS:
            raise image.fault(f"key 'split' is {image.get('split', str)!r:.60}, expected {' or '.join(KNOWN_SPLITS)}")
        if image.get("split", str) not in SPLITS[split]:
            continue
        name = image.file_name("filename").rsplit(".", 1)[0]
        visual = (f"{images}/{name}.h5",)
        raw = tuple(sentence.get("raw", str).strip() for sentence in image.items("sentences"))
        if not any(raw):
            raise image.fault("key 'sentences' has no caption, expected at least one that is not blank")
        tolerate(Tolerance.BLANK_TARGET, raw.count(""))
        if split == "train":
            for index, text in enumerate(raw):
                examples.add(Example(f"{name}#{index}", "", visual, ((text, 1.0),)), image)
        else:
            examples.add(Example(name, "", visual, tuple((text, 1.0) for text in raw), list(raw)), image)
    return examples.examples


def score(examples: Sequence[Example], predictions: Sequence[str]) -> TaskScores:
    """Return CIDEr, BLEU-1 to 4 and ROUGE-L against all references of each image, and the CIDEr of every image, all
    times 100."""
    return TaskScores(*caption_scores([example.reference for example in examples], predictions))


def score_slow(name: str, examples: Sequence[Example], predictions: Sequence[str]) -> dict[str, float]:
    """Return METEOR or SPICE x 100 against all references of each image."""
    captions = tokenize_captions([example.reference for example in examples], predictions)
    return {name: 100 * SLOW_METRICS[name](*captions)}


TASK = Task(
    name="caption",
    label="COCO Cap.",
    suite="image-text",
    order=3,
    prompt="caption: ",
    prompt_at="front",
    source_limit=40,
    target_limit=40,
    share=(50, 60),
    loss="tokens",
    decode=Decode(max_length=20),  # quirk GEN20: trained to 40 tokens, decoded to 20
    metric="CIDEr",
    metric_edition=EDITION,
    splits={"train": "train + restval", "validation": "val", "test": "test"},
    official_sizes={"train": 566_747, "validation": 5_000, "test": 5_000},
    report_split="test",
    read=read,
    score=score,
    slow_metrics={name: partial(score_slow, name) for name in SLOW_METRICS},
    file_format=COCO_RESULTS,
)
