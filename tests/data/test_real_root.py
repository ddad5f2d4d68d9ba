"""The page on real data, followed on a root of published records and generated features."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bench import suites
from bench.backbones.mini import CHECKPOINTS
from bench.cli import main

FEW = 6  # records of a split
SPLITS = {"train": "train", "val": "dev", "test": "test1"}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def parts(items: list[Any]) -> dict[str, list[Any]]:
    return {split: items[number * FEW : (number + 1) * FEW] for number, split in enumerate(SPLITS)}


@pytest.fixture
def datasets(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of the image-text suite but for the annotations of NLVR2, which are in ``raw/`` beside it."""
    monkeypatch.setenv("VLPET_BENCH_CACHE", str(tmp_path / "cache"))
    root, real = tmp_path / "datasets", shared / "real"
    questions = json.loads((real / "vqa/v2_OpenEnded_mscoco_train2014_questions.subset2962.json").read_text())
    answers = json.loads((real / "vqa/v2_mscoco_train2014_annotations.subset2962.json").read_text())
    majority = {item["question_id"]: item["multiple_choice_answer"] for item in answers["annotations"]}
    for split, chosen in parts(questions["questions"]).items():
        records = [
            {
                "question_id": item["question_id"],
                "img_id": f"COCO_train2014_{item['image_id']:012d}",
                "sent": item["question"],
                "label": {majority[item["question_id"]]: 1.0},
            }
            for item in chosen
        ]
        write(root / "vqa" / f"karpathy_{split}.json", records)
    write(root / "vqa/v2_mscoco_train2014_annotations.json", answers)
    write(root / "vqa/v2_mscoco_val2014_annotations.json", answers | {"annotations": []})
    gqa = json.loads((real / "gqa/lxmert_testdev.json").read_text())
    for name, records in zip(("train", "valid", "testdev"), parts(gqa).values(), strict=True):
        write(root / "GQA" / f"{name}.json", records)
    for task, name in (("vqa", "vqa"), ("gqa", "GQA")):
        for table in ("trainval_ans2label.json", "trainval_label2ans.json"):
            shutil.copy(real / task / table, root / name / table)
    coco = json.loads((real / "coco_caption/DERIVED_dataset_coco.test200.json").read_text())
    images = [image | {"split": split} for split, chosen in parts(coco["images"]).items() for image in chosen]
    write(root / "COCO/dataset_coco.json", coco | {"images": images})
    raw = (real / "nlvr2/dev.head200.json").read_text().splitlines()
    (tmp_path / "raw").mkdir()
    for split, lines in parts(raw).items():
        text = "\n".join(lines).replace("dev-", f"{SPLITS[split]}-")
        (tmp_path / "raw" / f"{SPLITS[split]}.json").write_text(text)
    return root


def add_features(root: Path) -> None:
    """Write a feature file for every example of every task."""
    from bench.tasks import Example

    random = np.random.default_rng(0)
    examples: list[Example] = []
    for task in suites.get("image-text").tasks:
        examples += [example for split in task.splits for example in task.read(root, split)]
    for name in {name for example in examples for name in example.visual}:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(root / name, "w") as file:
            file[f"{Path(name).stem}/features"] = random.normal(size=(49, 16)).astype(np.float16)


def test_the_section_on_real_data(
    datasets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backbone = Path(shutil.copytree(CHECKPOINTS["mini-bart"], tmp_path / "models" / "bart-base"))
    (backbone / "training_log.json").unlink()  # by which a miniature backbone is known
    raw = [str(tmp_path / "raw" / f"{name}.json") for name in SPLITS.values()]
    assert main(["data", "convert", "nlvr2", *raw, "--out", str(datasets)]) == 0
    add_features(datasets)
    capsys.readouterr()
    assert main(["data", "check", str(datasets), "--suite", "image-text"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("incomplete ")]) == 11, lines
    words = ["paper", "--data", f"official={datasets}", "--backbone", str(backbone)]
    sweep = [
        "sweep",
        *words,
        "--methods",
        "lora",
        "--seeds",
        "42",
        "--set",
        "epochs=1",
        "--set",
        "batch_size=12",
        "--set",
        "validate=never",
    ]
    assert main([*sweep, "--dry-run"]) == 0
    assert "1 runs: 1 to run" in capsys.readouterr().out
    assert main([*sweep, "--quiet"]) == 2
    assert "vqa train has 6 of 605,102 examples" in capsys.readouterr().err
    assert main([*sweep, "--set", "beams=1", "--partial", "--quiet"]) == 0
    (record,) = [json.loads(path.read_text()) for path in tmp_path.glob("results/runs/*/record.json")]
    assert record["status"] == "done" and record["limited"] and record["environment"]["threads"] >= 1
    assert set(record["scores"]) == {"vqa", "gqa", "nlvr", "caption"}
    capsys.readouterr()
    assert (
        main(["report", *words, "--methods", "lora", "--seeds", "42", *sweep[-6:], "--set", "beams=1", "--paper"]) == 0
    )
    out = capsys.readouterr().out
    assert "limited run" in out and "1 run: limited" in out
    page = max(tmp_path.glob("reports/*/report.html"), key=lambda path: path.stat().st_mtime).read_text()
    assert "threads" in page and "the same result" in page
