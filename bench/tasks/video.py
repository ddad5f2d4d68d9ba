"""What the four video tasks share: subtitles, and how their source texts and records are read."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.metrics.caption import EDITION, score_tokenized, tokenize_captions
from bench.tasks.files import JsonRecord, frames_file, json_lines
from bench.tasks.task import Decode, Example, Task, TaskScores


def subtitles(root: Path, source: str) -> dict[str, str]:
    """Return the transcript of every video of a source: stripped lines joined by single spaces."""
    file = root / "video" / "ann" / f"{source}_subtitles.jsonl"
    return {
        record.get("vid_name", str): " ".join(line.get("text", str).strip() for line in record.items("sub"))
        for record in json_lines(file)
    }


def spoken(record: JsonRecord, transcripts: dict[str, str], source: str) -> str:
    """Return ``[Subs]`` and the transcript of a record's video."""
    video = record.get("vid_name", str)
    if video not in transcripts:
        raise record.fault(
            f"vid_name {video!r} has no line in {source}_subtitles.jsonl (it may be there with an empty 'sub' list)"
        )
    return f"[Subs] {transcripts[video]}"


def read_choices(
    root: Path, split: str, *, task: str, source: str, files: dict[str, tuple[str, ...]], choices: int
) -> list[Example]:
    """Read a multiple-choice task: transcript, question, time span, choices.

    The transcript comes first, so that a long one pushes the question and choices out of the source limit (quirk
    SUBS-TRUNC).
    """
    transcripts = subtitles(root, source)
    examples: dict[tuple[str, str], Example] = {}
    for name in files[split]:
        for record in json_lines(root / "video" / "ann" / task / f"{name}.jsonl"):
            offered = [f"a{i}: {record.get(f'a{i}', str).strip('. ')}." for i in range(choices)]
            question = f"[Q] {record.get('q', str).strip()} [TS] ({record.get('ts', (str, list))}) [Choices]"
            answers: tuple[tuple[str, float], ...] = ()
            if split != "test":
                right = str(record.get("answer_idx", (int, str)))  # TVQA+ writes it as a string
                if right not in map(str, range(choices)):
                    raise record.fault(f"key 'answer_idx' is {right!r}, expected 0 to {choices - 1}")
                answers = ((f"a{right}", 1.0),)
            number = str(record.get("qid", (int, str)))
            # A public question stands in two of TVQA's test files; once is enough (quirk TVQA-DUP).
            line = "" if split == "test" else record.place
            examples[number, line] = Example(
                id=number,
                text=" ".join([spoken(record, transcripts, source), question, *offered]),
                visual=(frames_file(source, record.get("vid_name", str)),),
                answers=answers,
                reference={"answer": answers[0][0] if answers else None, "show": record.content.get("show_name")},
            )
    return list(examples.values())


def score_choices(examples: Sequence[Example], predictions: Sequence[str]) -> TaskScores:
    """Return ``accuracy`` in %: the decoded string is exactly ``a`` and the index; per show where there are several."""
    _must_have(examples, "answer")
    correct = [p == e.reference["answer"] for e, p in zip(examples, predictions, strict=True)]
    groups = {"accuracy": correct}
    for example, is_correct in zip(examples, correct, strict=True):
        if example.reference["show"]:
            groups.setdefault(f"accuracy_{example.reference['show']}", []).append(is_correct)
    metrics = {name: 100 * sum(points) / len(points) for name, points in groups.items()}
    return TaskScores(metrics, [100.0 * is_correct for is_correct in correct])


def read_captions(root: Path, split: str, *, task: str, source: str, spans: bool) -> list[Example]:
    """Read a captioning task: one example per description, also to evaluate (quirk VCAP-1REF); one per clip for the
    test split."""
    transcripts = subtitles(root, source)
    file = {"train": "train_release", "validation": "val_release", "test": "test_release"}[split]
    examples = []
    for record in json_lines(root / "video" / "ann" / task / f"{task}_{file}.jsonl"):
        record.get("duration", (int, float))
        text = spoken(record, transcripts, source)
        if spans:
            text = f"{text} [TS] ({record.get('ts', list)})"
        visual = (frames_file(source, record.get("vid_name", str)),)
        reference: dict[str, Any]
        if split == "test":
            reference = {k: record.content.get(k) for k in ("vid_name", "clip_id", "ts")}
            examples.append(Example(str(record.get("clip_id", int)), text, visual, (), reference))
            continue
        described = [(str(d.get("desc_id", int)), d.get("desc", str)) for d in record.items("descs")]
        for number, desc in described:
            reference = {"caption": desc, "clip": described[0][0]}  # a clip is known by its first description
            examples.append(Example(number, text, visual, ((desc, 1.0),), reference))
    return examples


def score_captions(examples: Sequence[Example], predictions: Sequence[str]) -> TaskScores:
    """Return CIDEr x 100 and BLEU-4 x 100, each description the only reference of its own copy of the prediction (quirk
    VCAP-1REF), as the papers report them, and the CIDEr x 100 of every description.

    Where clips have several descriptions, ``CIDEr_multi`` and ``BLEU-4_multi`` compare each clip's first prediction
    with all of them, as the leaderboards do.
    """
    _must_have(examples, "caption")
    references, candidates = tokenize_captions([[e.reference["caption"]] for e in examples], predictions)
    metrics, cider = score_tokenized(references, candidates)
    references_of_clips: dict[str, list[str]] = {}
    first_candidates: dict[str, str] = {}
    for example, (reference,), candidate in zip(examples, references, candidates, strict=True):
        clip = example.reference["clip"]
        references_of_clips.setdefault(clip, []).append(reference)
        first_candidates.setdefault(clip, candidate)
    if len(references_of_clips) < len(examples):
        multi, _ = score_tokenized(list(references_of_clips.values()), list(first_candidates.values()))
        metrics |= {f"{name}_multi": value for name, value in multi.items()}
    return TaskScores(metrics, cider)


def _must_have(examples: Sequence[Example], key: str) -> None:
    if any(example.reference.get(key) is None for example in examples):
        raise UsageError(f"no public {key}s to score against, as in the test splits of the video tasks")


def choice_task(
    name: str,
    label: str,
    order: int,
    source: str,
    files: dict[str, tuple[str, ...]],
    choices: int,
    official_sizes: dict[str, int],
) -> Task:
    """Build a multiple-choice task; it decodes with the recipe's beams (quirk QA-BEAM5)."""
    return _video_task(
        name=name,
        label=label,
        order=order,
        metric="accuracy",
        metric_edition="exact match",
        splits={split: " + ".join(names) for split, names in files.items()},
        official_sizes=official_sizes,
        read=partial(read_choices, task=name, source=source, files=files, choices=choices),
        score=score_choices,
    )


def caption_task(name: str, label: str, order: int, source: str, spans: bool, official_sizes: dict[str, int]) -> Task:
    """Build a video captioning task; targets are cut to 20 tokens, references are not (quirk VCAP20)."""
    return _video_task(
        name=name,
        label=label,
        order=order,
        metric="CIDEr",
        metric_edition=EDITION,
        splits={"train": "train_release", "validation": "val_release", "test": "test_release"},
        official_sizes=official_sizes,
        read=partial(read_captions, task=name, source=source, spans=spans),
        score=score_captions,
    )


def _video_task(name: str, **fields: Any) -> Task:
    """Build a Task with what the four have in common."""
    return Task(
        name=name,
        suite="video-text",
        prompt=f"{name}: ",
        prompt_at="back",
        source_limit=600,
        target_limit=20,
        share=(1, 1),
        loss="example",
        decode=Decode(max_length=20),
        report_split="validation",
        **fields,
    )
