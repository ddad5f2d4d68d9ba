"""What the four video tasks share: subtitles, and how their source texts and records are read."""

import math
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.metrics.caption import EDITION, SLOW_METRICS, score_tokenized, tokenize_captions
from bench.tasks.files import MAX_CHARACTERS, ExampleList, JsonRecord, frames_file, json_lines
from bench.tasks.prediction_files import CHOICES, CLIP_CAPTIONS
from bench.tasks.task import Decode, Example, Task, TaskScores
from bench.tasks.tolerance import Tolerance, tolerate

SUBTITLES = "[Subs] "  # what stands before a transcript
DAY = 86_400  # seconds; no clip is longer
Captions = tuple[list[list[str]], list[str]]
SPAN = re.compile(r"([0-9]+(?:\.[0-9]*)?)-([0-9]+(?:\.[0-9]*)?)")


def subtitles(root: Path, source: str) -> dict[str, str]:
    """Return the transcript of every video of a source: stripped lines joined by single spaces."""
    transcripts: dict[str, str] = {}
    for record in json_lines(root / "video" / "ann" / f"{source}_subtitles.jsonl"):
        video = record.file_name("vid_name")
        transcript = " ".join(line.get("text", str).strip() for line in record.items("sub"))
        if video in transcripts:
            if transcripts[video] != transcript:
                raise record.fault(f"vid_name {video!r:.60} has other subtitles in an earlier line; remove one of them")
            tolerate(Tolerance.REPEATED_SUBTITLES)
        transcripts[video] = transcript
    return transcripts


class Transcripts:
    """The transcripts of the videos of a source, as source texts begin with them."""

    def __init__(self, root: Path, source: str) -> None:
        self._root, self._source = root, source
        self._transcripts = subtitles(root, source)
        self._missing = 0

    def spoken(self, record: JsonRecord) -> str | None:
        """Return ``[Subs]`` and the transcript of a record's video; None for a video without subtitles.

        Raises:
            UsageError: there is no feature file of the video either.
        """
        video = record.file_name("vid_name")
        if video not in self._transcripts:
            if not (self._root / frames_file(self._source, video)).is_file():
                raise record.fault(
                    f"vid_name {video!r} has no line in {self._source}_subtitles.jsonl (it may be there with an empty "
                    "'sub' list), and no feature file either"
                )
            self._missing += 1
            tolerate(Tolerance.NO_SUBTITLES)
            return None
        transcript = self._transcripts[video]
        if not transcript:
            tolerate(Tolerance.EMPTY_TRANSCRIPT)
        if len(transcript) > MAX_CHARACTERS:
            tolerate(Tolerance.LONG_TRANSCRIPT)
        return f"{SUBTITLES}{transcript[:MAX_CHARACTERS]}"

    def check(self, examples: Sequence[Example]) -> None:
        """Raise UsageError where more examples had no subtitles than are left: then it is the file that is wrong."""
        if self._missing > len(examples):
            raise UsageError(
                f"{self._root / 'video' / 'ann' / f'{self._source}_subtitles.jsonl'}: {self._missing} examples have no "
                f"subtitles, only {len(examples)} have some; fetch the file again"
            )


def time_span(record: JsonRecord) -> str:
    """Return the time span of a record as source texts have it; what is no span is passed on as text, and counted.

    TVQA writes it as "begin-end", TVQA+ and TVC as a list of two numbers, How2QA as either.
    """
    span = record.get("ts", (str, list))
    if isinstance(span, list):
        if len(span) != 2 or not all(isinstance(t, int | float) and not isinstance(t, bool) for t in span):
            raise record.fault(f"key 'ts' is {span!r:.60}, expected two numbers")
        begin, end = span
    else:
        match = SPAN.fullmatch(span.strip())
        begin, end = map(float, match.groups()) if match else (math.nan, math.nan)
    if not 0 <= begin <= end < math.inf:
        tolerate(Tolerance.ODD_TIME_SPAN)
    return str(span)


def read_choices(
    root: Path, split: str, *, task: str, source: str, files: dict[str, tuple[str, ...]], choices: int
) -> list[Example]:
    """Read a multiple-choice task: transcript, question, time span, choices.

    The transcript comes first, so that a long one pushes the question and choices out of the source limit (quirk
    SUBS-TRUNC), unless the recipe keeps them (``truncation``).
    """
    transcripts = Transcripts(root, source)
    examples = ExampleList(split)
    for name in files[split]:
        for record in json_lines(root / "video" / "ann" / task / f"{name}.jsonl"):
            options = [record.get(f"a{i}", str).strip(". ") for i in range(choices)]
            question = f"[Q] {record.text('q').strip()} [TS] ({time_span(record)}) [Choices]"
            answers: tuple[tuple[str, float], ...] = ()
            if split != "test":
                right = str(record.get("answer_idx", (int, str)))  # TVQA+ writes it as a string
                if right not in map(str, range(choices)):
                    raise record.fault(f"key 'answer_idx' is {right!r:.60}, expected 0 to {choices - 1}")
                answers = ((f"a{right}", 1.0),)
            show = None if record.content.get("show_name") is None else record.get("show_name", str)
            number = str(record.get("qid", (int, str)))
            spoken = transcripts.spoken(record)
            if spoken is None:
                continue
            if not all(options):
                tolerate(Tolerance.BLANK_OPTION)
            if len(set(options)) < choices:
                tolerate(Tolerance.EQUAL_OPTIONS)
            offered = [f"a{i}: {option}." for i, option in enumerate(options)]
            example = Example(
                id=number,
                text=" ".join([spoken, question, *offered]),
                visual=(frames_file(source, record.file_name("vid_name")),),
                answers=answers,
                reference={"answer": answers[0][0] if answers else None, "show": show},
                transcript=(len(SUBTITLES), len(spoken)),
            )
            examples.add(example, record)
    transcripts.check(examples.examples)
    return examples.examples


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
    transcripts = Transcripts(root, source)
    file = {"train": "train_release", "validation": "val_release", "test": "test_release"}[split]
    examples = ExampleList(split)
    clips: dict[int, JsonRecord] = {}
    for record in json_lines(root / "video" / "ann" / task / f"{task}_{file}.jsonl"):
        duration = record.get("duration", (int, float))
        if not 0 < duration < DAY:
            tolerate(Tolerance.ODD_DURATION)
        span = f" [TS] ({time_span(record)})" if spans else ""
        if spans and not isinstance(record.content["ts"], list):
            raise record.fault(f"key 'ts' is {record.content['ts']!r:.60}, expected list")
        spoken = transcripts.spoken(record)
        if spoken is None:
            continue
        text, transcript = f"{spoken}{span}", (len(SUBTITLES), len(spoken))
        visual = (frames_file(source, record.file_name("vid_name")),)
        reference: dict[str, Any]
        official = {"vid_name": record.get("vid_name", str)}
        if split == "test" or (split == "validation" and "clip_id" in record):
            official["clip_id"] = record.get("clip_id", int)
            earlier = clips.setdefault(official["clip_id"], record)
            if earlier.content != record.content:
                raise record.fault(f"has the clip_id {official['clip_id']}, which {earlier.place} has too")
        official |= {"ts": record.content["ts"]} if spans else {}
        if split == "test":
            reference = {k: record.content.get(k) for k in ("vid_name", "clip_id", "ts")}
            examples.add(Example(str(official["clip_id"]), text, visual, (), reference, official, transcript), record)
            continue
        described = [(str(d.get("desc_id", int)), d.get("desc", str)) for d in record.items("descs")]
        if not described:
            tolerate(Tolerance.NO_DESCRIPTIONS)
        for number, desc in described:
            if not desc.strip():
                if split != "train":
                    raise record.fault(f"key 'descs': the description {number} is blank, nothing compares with it")
                tolerate(Tolerance.BLANK_TARGET)
            reference = {"caption": desc, "clip": described[0][0]}  # a clip is known by its first description
            examples.add(Example(number, text, visual, ((desc, 1.0),), reference, official, transcript), record)
    transcripts.check(examples.examples)
    return examples.examples


def score_captions(examples: Sequence[Example], predictions: Sequence[str]) -> TaskScores:
    """Return CIDEr, BLEU-1 to 4 and ROUGE-L, each description the only reference of its own copy of the prediction
    (quirk VCAP-1REF), as the papers report them, and the CIDEr of every description, all times 100.

    Where clips have several descriptions, ``CIDEr_multi`` and the like compare each clip's first prediction with all of
    them, as the leaderboards do.
    """
    single, clips = _tokenize_clips(examples, predictions)
    metrics, cider = score_tokenized(*single)
    if clips:
        multi, _ = score_tokenized(*clips)
        metrics |= {f"{name}_multi": value for name, value in multi.items()}
    return TaskScores(metrics, cider)


def score_slow(name: str, examples: Sequence[Example], predictions: Sequence[str]) -> dict[str, float]:
    """Return METEOR or SPICE x 100, of descriptions and of clips as :func:`score_captions` does."""
    single, clips = _tokenize_clips(examples, predictions)
    scores = {name: 100 * SLOW_METRICS[name](*single)}
    return scores | ({f"{name}_multi": 100 * SLOW_METRICS[name](*clips)} if clips else {})


def _tokenize_clips(examples: Sequence[Example], predictions: Sequence[str]) -> tuple[Captions, Captions | None]:
    """Return tokenised references and predictions by description, and by clip where some have several descriptions."""
    _must_have(examples, "caption")
    references, candidates = tokenize_captions([[e.reference["caption"]] for e in examples], predictions)
    references_of_clips: dict[str, list[str]] = {}
    first_candidates: dict[str, str] = {}
    for example, (reference,), candidate in zip(examples, references, candidates, strict=True):
        clip = example.reference["clip"]
        references_of_clips.setdefault(clip, []).append(reference)
        first_candidates.setdefault(clip, candidate)
    clips = (list(references_of_clips.values()), list(first_candidates.values()))
    return (references, candidates), clips if len(references_of_clips) < len(examples) else None


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
        file_format=CHOICES,
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
        sizes_are_counted=False,
        read=partial(read_captions, task=name, source=source, spans=spans),
        score=score_captions,
        slow_metrics={name: partial(score_slow, name) for name in SLOW_METRICS},
        file_format=CLIP_CAPTIONS,
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
