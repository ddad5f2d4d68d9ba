"""The records that the datasets' authors published, laid out as the official data root; without features."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def put(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def put_lines(file: Path, records: Iterable[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")


def write(real: Path, root: Path) -> None:
    """Write all eight tasks into a folder; subtitles, and the split a record stands in, are made up where there is no
    sample."""
    for source, target in (("vqa", "vqa"), ("gqa", "GQA")):
        (root / target).mkdir()
        for name in ("trainval_ans2label.json", "trainval_label2ans.json"):
            shutil.copy(real / source / name, root / target / name)

    annotations = json.loads((real / "vqa/v2_mscoco_train2014_annotations.subset2962.json").read_text())
    asked = json.loads((real / "vqa/v2_OpenEnded_mscoco_train2014_questions.subset2962.json").read_text())["questions"]
    judged = {a["question_id"]: [x["answer"] for x in a["answers"]] for a in annotations["annotations"]}
    records = []
    for question in asked:
        votes = judged[question["question_id"]]
        label = {a: min(1.0, votes.count(a) * 3 / 10) for a in dict.fromkeys(votes)}
        image = f"COCO_train2014_{question['image_id']:012d}"
        records.append(
            {"img_id": image, "question_id": question["question_id"], "sent": question["question"], "label": label}
        )
    shutil.copy(real / "vqa/lxmert_docstring_record.json", root / "vqa/karpathy_train.json")
    put(root / "vqa/karpathy_val.json", records[:2000])
    put(root / "vqa/karpathy_test.json", [{**r, "is_topk_optimal": True} for r in records[2000:]])
    put(root / "vqa/v2_mscoco_train2014_annotations.json", annotations)
    put(root / "vqa/v2_mscoco_val2014_annotations.json", {**annotations, "annotations": []})

    testdev = json.loads((real / "gqa/lxmert_testdev.json").read_text())
    shutil.copy(real / "gqa/lxmert_docstring_record.json", root / "GQA/train.json")
    put(root / "GQA/valid.json", testdev[:3])
    put(root / "GQA/testdev.json", testdev)

    valid = json.loads((real / "nlvr2/lxmert_valid.head200.json").read_text())
    for split, part in (("train", valid[:50]), ("valid", valid), ("test", valid[50:])):
        put(root / f"nlvr/{split}.json", part)

    coco = json.loads((real / "coco_caption/DERIVED_dataset_coco.test200.json").read_text())
    for split, begin in (("train", 0), ("restval", 3), ("val", 5)):
        for image in coco["images"][begin : begin + 2]:
            image["split"] = split
    put(root / "COCO/dataset_coco.json", coco)

    ann = root / "video/ann"
    public, plus = lines(real / "tvqa/tvqa_test_public.head300.jsonl"), real / "tvqa/tvqa_plus_val.head200.nobbox.jsonl"
    how2 = lines(real / "how2qa/how2qa_val_release.head500.jsonl")
    tvc_val, tvc_test = (
        lines(real / f"tvc/{name}")
        for name in ("DERIVED_tvc_val_from_tvr.200.jsonl", "tvc_test_public_release.head300.jsonl")
    )
    yc2 = lines(real / "yc2c/yc2c_val_release.head100.jsonl")
    quiz = lines(plus)
    put_lines(ann / "tvqa/tvqa_train.jsonl", quiz[:20])
    put_lines(ann / "tvqa/tvqa_val.jsonl", quiz)
    put_lines(ann / "tvqa/tvqa_test_public.jsonl", public[:200])
    put_lines(ann / "tvqa/tvqa_test_release.jsonl", [{**r, "q": f"Merged: {r['q']}"} for r in public[100:]])
    put_lines(ann / "how2qa/how2qa_train_release.jsonl", [*how2[:9], how2[0]])
    put_lines(ann / "how2qa/how2qa_val_release.jsonl", how2)
    without = [{k: v for k, v in r.items() if k != "answer_idx"} for r in how2[:30]]
    put_lines(ann / "how2qa/how2qa_test_public_release.jsonl", without)
    put_lines(ann / "tvc/tvc_train_release.jsonl", tvc_val[:8])
    put_lines(ann / "tvc/tvc_val_release.jsonl", tvc_val)
    put_lines(ann / "tvc/tvc_test_release.jsonl", tvc_test)
    several = {**yc2[0], "descs": [*yc2[0]["descs"], {"desc": "Stir.  ", "desc_id": 7}]}
    put_lines(ann / "yc2c/yc2c_train_release.jsonl", [several, *yc2[1:5]])
    put_lines(ann / "yc2c/yc2c_val_release.jsonl", yc2)
    put_lines(ann / "yc2c/yc2c_test_release.jsonl", [{k: v for k, v in r.items() if k != "descs"} for r in yc2[:10]])
    for source, users in (
        ("tv", [*quiz, *public, *tvc_val, *tvc_test]),
        ("how2", how2),
        ("yc2", yc2),
    ):
        videos = list(dict.fromkeys(r["vid_name"] for r in users))
        said = [
            {"text": " Chase : That's all\u2028this is? ", "start": 0.0, "end": 1.5},
            {"text": "Yes.", "start": 2.0},
        ]
        put_lines(
            ann / f"{source}_subtitles.jsonl",
            [{"vid_name": v, "sub": [] if i == 1 else said} for i, v in enumerate(videos)],
        )
