"""Write the miniature world as a data root in the official formats: annotation JSON / JSONL, pictures, per-image h5,
per-video npz."""

import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any, Protocol

from bench.mini import language as say
from bench.mini.picture_files import PictureFiles
from bench.mini.world import CELLS, COLOURS, SHAPES, VERSION, Clip, Scene, draw_clip, draw_scene

FEATURES = "clip_features/data_clip_RN101_att"
#: images and clips per split; questions, captions and pairs follow from them
SIZES = {
    "coco": {"train": 500, "val": 40, "test": 400},
    "gqa": {"train": 500, "valid": 100, "testdev": 400},
    "nlvr": {"train": 1600, "valid": 60, "test": 1200},
    "tv": {"train": 700, "val": 400, "test": 20},
    "how2": {"train": 500, "val": 400, "test": 20},
    "yc2": {"train": 700, "val": 400, "test": 20},
}
#: questions about an image or clip of another split than train
QUESTIONS = 3
COCO_FOLDER = {"train": "train2014", "val": "val2014", "test": "val2014"}
#: names of the test files, which do not follow from the split
QUIZ_FILES: dict[str, dict[str, tuple[str, ...]]] = {
    "tvqa": {"test": ("test_public", "test_release")},
    "how2qa": {"test": ("test_public_release",)},
}
ANSWERS = sorted({*COLOURS, *SHAPES, *CELLS, *say.NUMBERS, *say.YES_NO})


class Recorder(Protocol):
    """Is told what every scene and clip shows, such as the pictures of the benchmark or the phrases of the
    pretraining."""

    def scene(self, file: Path, scene: Scene) -> None:
        """Record one scene under the name of its feature file."""

    def clip(self, file: Path, clip: Clip) -> None:
        """Record one clip under the name of its feature file."""


def write(root: Path, seed: int = 0) -> None:
    """Write all eight tasks below ``root``, with pictures and features; the same seed gives the same files.

    Args:
        root: an empty folder.
        seed: of the world.
    """
    pictures = PictureFiles(root, seed)
    write_annotations(root, pictures, seed)
    pictures.write()


def write_annotations(root: Path, recorder: Recorder, seed: int = 0, times: int = 1) -> None:
    """Write the annotations of all eight tasks, and tell the recorder what their images and clips show.

    Args:
        root: an empty folder.
        recorder: is told every scene and clip.
        seed: of the world.
        times: multiplies the training splits.
    """
    _write_coco_and_vqa(root, recorder, Random(f"{seed}/coco"), times)
    _write_gqa(root, recorder, Random(f"{seed}/gqa"), times)
    _write_nlvr(root, recorder, Random(f"{seed}/nlvr"), times)
    for kind in ("tv", "how2", "yc2"):
        _write_clips(root, recorder, Random(f"{seed}/{kind}"), kind, times)
    _json(
        root / "mini.json",
        {"synthetic": True, "generator": "bench.mini", "version": VERSION, "seed": seed, "sizes": SIZES},
    )


def _write_coco_and_vqa(root: Path, recorder: Recorder, rng: Random, times: int) -> None:
    images, number = [], 0
    questions: dict[str, list[Any]] = {}
    annotations_of: dict[str, list[Any]] = {"train2014": [], "val2014": []}
    for split, count in _sizes("coco", times):
        questions[split] = []
        for _ in range(count):
            number += 1
            scene, folder = draw_scene(rng), COCO_FOLDER[split]
            name = f"COCO_{folder}_{number:012d}"
            recorder.scene(root / "COCO" / FEATURES / f"{name}.h5", scene)
            sentences = [{"raw": text, "sentid": 10 * number + i} for i, text in enumerate(say.captions(scene))]
            images.append({"split": split, "filename": f"{name}.jpg", "cocoid": number, "sentences": sentences})
            for index in range(4 if split == "train" else QUESTIONS):
                question, answer, kind = say.simple_question(scene, rng)
                answers = _ten_answers(answer, kind, rng)
                item = {"question_id": 1000 * number + index, "question_type": question.split()[0], "answer_type": kind}
                label = {a: _soft_score(answers.count(a)) for a in sorted(set(answers))}
                questions[split].append(
                    item | {"img_id": name, "sent": question, "label": label, "is_topk_optimal": label[answer] == 1.0}
                )
                votes = [
                    {"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(answers, start=1)
                ]
                annotations_of[folder].append(
                    item | {"image_id": number, "multiple_choice_answer": answer, "answers": votes}
                )
    _json(root / "COCO" / "dataset_coco.json", {"dataset": "mini (synthetic)", "images": images})
    for split, items in questions.items():
        _json(root / "vqa" / f"karpathy_{split}.json", items)
    for folder, annotations in annotations_of.items():
        _json(root / "vqa" / f"v2_mscoco_{folder}_annotations.json", {"annotations": annotations})
    _answer_tables(root / "vqa")


def _ten_answers(answer: str, kind: str, rng: Random) -> list[str]:
    """Ten annotators, up to three of whom are wrong."""
    pool = {"yes/no": say.YES_NO, "number": say.NUMBERS}.get(kind, COLOURS if answer in COLOURS else SHAPES)
    wrong = rng.choice((0, 0, 1, 2, 3))
    return [answer] * (10 - wrong) + [rng.choice([a for a in pool if a != answer]) for _ in range(wrong)]


def _soft_score(votes: int) -> float:
    """The soft score of the public VQA label files: 0.3, 0.6, 0.9, then 1."""
    return (0.0, 0.3, 0.6, 0.9)[votes] if votes < 4 else 1.0


def _write_gqa(root: Path, recorder: Recorder, rng: Random, times: int) -> None:
    number = 0
    for split, count in _sizes("gqa", times):
        items = []
        for _ in range(count):
            number += 1
            scene = draw_scene(rng)
            name = f"n{number}" if split == "testdev" else str(number)
            recorder.scene(root / ("GQA" if split == "testdev" else "VG") / FEATURES / f"{name}.h5", scene)
            for index in range(QUESTIONS if split == "testdev" else 6):
                question, answer, _ = say.spatial_question(scene, rng)
                item = {"img_id": name, "question_id": f"{number:06d}{index}", "sent": question, "label": {answer: 1.0}}
                items.append(item)
        _json(root / "GQA" / f"{split}.json", items)
    _answer_tables(root / "GQA")


def _write_nlvr(root: Path, recorder: Recorder, rng: Random, times: int) -> None:
    prefix = {"train": "train", "valid": "dev", "test": "test1"}
    for split, count in _sizes("nlvr", times):
        items = []
        for index in range(count):
            text, truth, left, right = say.balanced_statement(rng)
            stem = f"{prefix[split]}-{index}-0"
            for side, scene in enumerate((left, right)):
                recorder.scene(root / "nlvr" / FEATURES / f"{stem}-img{side}.h5", scene)
            items.append(
                {
                    "uid": f"nlvr2_{split}_{index}",
                    "identifier": f"{stem}-0",
                    "img0": f"{stem}-img0",
                    "img1": f"{stem}-img1",
                    "label": int(truth),
                    "sent": text,
                }
            )
        _json(root / "nlvr" / f"{split}.json", items)


def _write_clips(root: Path, recorder: Recorder, rng: Random, kind: str, times: int) -> None:
    """Write the videos of one source, their subtitles, and the tasks asked about them."""
    transcripts: list[dict[str, Any]] = []
    tasks: dict[str, list[dict[str, Any]]] = {}
    number = 0
    for split, count in _sizes(kind, times):
        for _ in range(count):
            number += 1
            clip = draw_clip(rng, kind)
            name = {"tv": f"s01e01_seg01_clip_{number:05d}", "how2": str(number), "yc2": f"mini{number:05d}_0"}[kind]
            recorder.clip(root / "video" / "vis_features" / kind / "clip-vit" / f"{name}.npz", clip)
            lines = [
                {"text": t, "start": float(i), "end": float(i + 1)} for i, t in enumerate(say.subtitles(clip, rng))
            ]
            transcripts.append({"vid_name": name, "sub": lines})
            for task, file, record in _about(clip, name, number, split, rng):
                tasks.setdefault(f"{task}/{task}_{file}", []).append(record)
    ann = root / "video" / "ann"
    _jsonl(ann / f"{kind}_subtitles.jsonl", transcripts)
    for path, records in tasks.items():
        _jsonl(ann / f"{path}.jsonl", records)


def _about(clip: Clip, name: str, number: int, split: str, rng: Random) -> Iterable[tuple[str, str, dict[str, Any]]]:
    """Yield (task, file suffix, record) for everything that is asked about one clip."""
    duration = clip.frames * 1.5
    if clip.kind in ("tv", "how2"):
        task = "tvqa" if clip.kind == "tv" else "how2qa"
        for index in range(2 if split == "train" else QUESTIONS):
            question, choices, right, event = say.choice_question(clip, rng, 5 if task == "tvqa" else 4)
            begin, end = clip.span(event)
            record: dict[str, Any] = {
                "vid_name": name,
                "qid": 10 * number + index,
                "q": question,
                "ts": f"{begin}-{end}",
            }
            record |= {f"a{i}": c for i, c in enumerate(choices)}
            if task == "tvqa":
                record["show_name"] = "Mini"
            for file in QUIZ_FILES[task].get(split, (f"{split}{'' if task == 'tvqa' else '_release'}",)):
                yield task, file, record if split == "test" else record | {"answer_idx": right}
    if clip.kind in ("tv", "yc2"):
        task = "tvc" if clip.kind == "tv" else "yc2c"
        event = rng.randrange(len(clip.events))
        record = {"vid_name": name, "duration": duration, "clip_id": number}
        if task == "tvc":
            record["ts"] = list(clip.span(event))
        texts = say.clip_captions(clip, event)[: 2 if task == "tvc" else 1]
        descs = [{"desc": t, "desc_id": 10 * number + i, "type": "vt"} for i, t in enumerate(texts)]
        yield task, f"{split}_release", record if split == "test" else record | {"descs": descs}


def _answer_tables(folder: Path) -> None:
    _json(folder / "trainval_label2ans.json", ANSWERS)
    _json(folder / "trainval_ans2label.json", {a: i for i, a in enumerate(ANSWERS)})


def _sizes(source: str, times: int) -> list[tuple[str, int]]:
    return [(split, count * (times if split == "train" else 1)) for split, count in SIZES[source].items()]


def _json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
