"""A data root of the real size: ``python -m benchmarks.real_size_root FOLDER [--scale 0.01]``.

It has the annotations of the image-text suite with the numbers of examples of the published files, made of words drawn
at random, and as many feature files as there are images. Features are few: every file is a link to one of 64, whose
size is the published one (49 x 2048 float32). So the root takes 0.6 GB instead of 130, and file names, JSON and texts
cost what they cost for real.
"""

import argparse
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

QUESTIONS = {"train": 605_102, "val": 26_729, "test": 26_280}  # VQA, on the images of the same split of COCO
IMAGES = {"train": 113_287, "val": 5_000, "test": 5_000}  # COCO, Karpathy's split
CAPTIONS, TRAINING_CAPTIONS = 5, 566_747  # of an image, of all training images: some have six
GQA = {"train": (943_000, 72_140), "valid": (132_062, 10_234), "testdev": (12_578, 398)}  # questions, images
NLVR = {"train": 86_373, "valid": 6_982, "test": 6_967}  # statements, each with two images of its own
ANSWERS, WORDS = 3_129, 9_000
ROWS, COLUMNS = 49, 2048
SOURCES = 64
FEATURES = Path("clip_features") / "data_clip_RN101_att"
SHORT = ("what color is the", "is there a", "how many", "where is the", "what is the man doing with the", "are these")


class RootWriter:
    """Writes the files of one root.

    Args:
        root: an empty folder.
        scale: of all numbers of examples and images, 1 for the published ones.
        seed: of the words.
    """

    def __init__(self, root: Path, scale: float = 1.0, seed: int = 0) -> None:
        self.root, self.scale = root, scale
        self.random = random.Random(seed)
        letters = "abcdefghijklmnoprstuvw"
        self.words = ["".join(self.random.choices(letters, k=2 + i % 7)) for i in range(WORDS)]
        self.answers = [f"{word}{i}" for i, word in enumerate(self.words[:ANSWERS])]

    def write(self) -> None:
        """Write annotations and features."""
        self.sources = list(self._write_sources())
        names = {split: self._coco_names(split) for split in IMAGES}
        self._write_coco(names)
        self._write_vqa(names)
        self._write_gqa()
        self._write_nlvr()

    def _count(self, number: int) -> int:
        return max(2, round(number * self.scale))

    def _text(self, low: int, high: int) -> str:
        return " ".join(self.random.choices(self.words, k=self.random.randint(low, high)))

    def _question(self) -> str:
        return f"{self.random.choice(SHORT)} {self._text(1, 6)}?"

    def _write_sources(self) -> Iterator[Path]:
        folder = self.root / "sources"
        folder.mkdir(parents=True)
        generator = np.random.default_rng(0)
        for number in range(SOURCES):
            path = folder / f"{number}.npy"
            np.save(path, generator.standard_normal((ROWS, COLUMNS), dtype=np.float32))
            yield path

    def _put_features(self, source: str, names: list[str]) -> None:
        """Write a feature file per image. The dataset is named after the image, so a file holds a link per image."""
        folder = self.root / source / FEATURES
        folder.mkdir(parents=True, exist_ok=True)
        groups = [names[i::SOURCES] for i in range(SOURCES)]
        for source_file, group in zip(self.sources, groups, strict=True):
            if not group:
                continue
            first = folder / f"{group[0]}.h5"
            with h5py.File(first, "w", libver="latest") as file:
                data = file.create_dataset(f"{group[0]}/features", data=np.load(source_file))
                for name in group[1:]:
                    file.require_group(name)["features"] = data
            for name in group[1:]:
                os.link(first, folder / f"{name}.h5")

    def _json(self, path: str, content: Any) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content), encoding="utf-8")

    def _coco_names(self, split: str) -> list[str]:
        year, begin = ("train2014", 1) if split == "train" else ("val2014", 200_001 if split == "val" else 300_001)
        return [f"COCO_{year}_{begin + i:012d}" for i in range(self._count(IMAGES[split]))]

    def _write_coco(self, names: dict[str, list[str]]) -> None:
        images = []
        with_six = self._count(TRAINING_CAPTIONS) - CAPTIONS * len(names["train"])
        for split, group in names.items():
            self._put_features("COCO", group)
            for index, name in enumerate(group):
                number = int(name.rpartition("_")[2])
                count = CAPTIONS + (split == "train" and index < with_six)
                captions = [{"raw": self._text(8, 12), "sentid": 10 * number + i} for i in range(count)]
                images.append({"split": split, "filename": f"{name}.jpg", "cocoid": number, "sentences": captions})
        self._json("COCO/dataset_coco.json", {"dataset": "synthetic, real size", "images": images})

    def _write_vqa(self, names: dict[str, list[str]]) -> None:
        annotations: dict[str, list[Any]] = {"train2014": [], "val2014": []}
        number = 0
        for split, count in QUESTIONS.items():
            records = []
            for index in range(self._count(count)):
                number += 1
                answer, other = self.random.sample(self.answers, 2)
                name = names[split][index % len(names[split])]
                item = {"question_id": number, "question_type": "what", "answer_type": "other"}
                records.append(item | {"img_id": name, "sent": self._question(), "label": {answer: 1.0, other: 0.3}})
                votes = [{"answer": answer if i else other, "answer_id": i + 1} for i in range(10)]
                judged = item | {"image_id": int(name.rpartition("_")[2]), "answers": votes}
                annotations[name.split("_")[1]].append(judged)
            self._json(f"vqa/karpathy_{split}.json", records)
        for year, group in annotations.items():
            self._json(f"vqa/v2_mscoco_{year}_annotations.json", {"annotations": group})
        self._answer_tables("vqa")

    def _write_gqa(self) -> None:
        begin = 1
        for split, (questions, images) in GQA.items():
            names = [f"n{i}" if split == "testdev" else str(i) for i in range(begin, begin + self._count(images))]
            begin += len(names)
            self._put_features("GQA" if split == "testdev" else "VG", names)
            records = [
                {
                    "img_id": names[index % len(names)],
                    "question_id": f"{split}{index:08d}",
                    "sent": self._question(),
                    "label": {self.random.choice(self.answers): 1.0},
                }
                for index in range(self._count(questions))
            ]
            self._json(f"GQA/{split}.json", records)
        self._answer_tables("GQA")

    def _write_nlvr(self) -> None:
        for split, count in NLVR.items():
            prefix = {"train": "train", "valid": "dev", "test": "test1"}[split]
            stems = [f"{prefix}-{index}-0" for index in range(self._count(count))]
            self._put_features("nlvr", [f"{stem}-img{side}" for stem in stems for side in (0, 1)])
            records = [
                {
                    "uid": f"nlvr2_{split}_{index}",
                    "identifier": f"{stem}-0",
                    "img0": f"{stem}-img0",
                    "img1": f"{stem}-img1",
                    "label": index % 2,
                    "sent": f"{self._text(8, 18)}.",
                }
                for index, stem in enumerate(stems)
            ]
            self._json(f"nlvr/{split}.json", records)

    def _answer_tables(self, folder: str) -> None:
        self._json(f"{folder}/trainval_label2ans.json", self.answers)
        self._json(f"{folder}/trainval_ans2label.json", {answer: i for i, answer in enumerate(self.answers)})


def main() -> None:
    """Write the root that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="of all numbers of examples (1)")
    arguments = parser.parse_args()
    RootWriter(arguments.folder, arguments.scale).write()


if __name__ == "__main__":
    main()
