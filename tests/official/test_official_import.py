"""From a released checkpoint to a run directory and its scores."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from official_dicts import TINY, case

from bench import backbones, kept_weights, official, tasks
from bench.backbones.mini import CHECKPOINTS
from bench.cli import main
from bench.data.batches import TokenizedSplit
from bench.data.features import FeatureStore, feat_dim
from bench.evaluate import predict
from bench.records import load_frame
from bench.run_dir import RunDir

MORE = {"bart": {"max_position_embeddings": 200}, "t5": {}}
SET = ["--set", "beams=2", "--set", "n_boxes=9", "--set", "recipe.n_frames=8"]
PREDICTED = "vqa"


@pytest.fixture(scope="module")
def feats(tiny_root: Path) -> int:
    return feat_dim(tiny_root, tasks.get(PREDICTED))


@pytest.fixture
def made(request, tmp_path, feats):
    """A checkpoint of the official trainer, the folder of the backbone it was made from, and what goes with it.

    The backbone's folder has no weights: what is frozen in the checkpoint is the checkpoint's own.
    """
    family, method = request.param
    backbone = tmp_path / f"tiny-{family}"
    backbone.mkdir()
    pretrained = CHECKPOINTS[f"mini-{family}"]
    rows = json.loads((pretrained / "config.json").read_text())["vocab_size"]
    TINY[family](**MORE[family], vocab_size=rows).save_pretrained(backbone)
    for file in pretrained.glob("tokenizer*"):
        shutil.copy(file, backbone)
    sd = case(family, method, words=backbones.tokenizer(str(backbone)).vocab_size, feats=feats, **MORE[family])
    for name in sd:
        if ".encoder_attn." in name or ".EncDecAttention." in name:
            sd[name] *= 5  # what it says depends on what it is shown
    torch.save({f"module.{name}": value for name, value in sd.items()}, tmp_path / "BEST.pth")
    return sd, method.removesuffix(" with biases added"), backbone, tmp_path / "BEST.pth"


def bring(made, out: Path, *more: str) -> int:
    _, method, backbone, checkpoint = made
    words = [checkpoint, "--method", method, "--backbone", backbone, "--out", out, *more]
    return main(["import-official", *map(str, words), *SET])


METHODS = [
    ("bart", "vl-pet-large"),
    ("bart", "full"),
    ("bart", "hyperformer"),
    ("bart", "vl-adapter-multiple"),
    ("t5", "vl-pet-small"),
    ("t5", "bitfit with biases added"),
    ("t5", "prompt"),
    ("t5", "lst"),
]


@pytest.mark.parametrize("made", METHODS, indirect=True)
def test_a_run_directory_has_the_checkpoint_s_model(made, tmp_path, feats):
    sd, method, _, _ = made
    assert bring(made, tmp_path / "run") == 0
    config = TINY[sd.family](**MORE[sd.family])
    wanted = official.load(dict(sd), backbone=config, method=method, feat_dim=feats)
    loaded = kept_weights.load(tmp_path / "run", feat_dim=feats)
    assert loaded.state_dict().keys() == wanted.state_dict().keys()
    assert not [
        name for name, value in wanted.state_dict().items() if not torch.equal(loaded.state_dict()[name], value)
    ]
    trained = [name for name, p in wanted.named_parameters() if p.requires_grad]
    assert [name for name, p in loaded.named_parameters() if p.requires_grad] == trained
    batch = {"input_ids": torch.tensor([[5, 6, 2]]), "vis_feats": torch.randn(1, 4, feats), "task": "gqa"}
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits, wanted(**batch).logits)


@pytest.mark.parametrize("made", [("bart", "vl-pet-large"), ("t5", "vl-adapter-multiple")], indirect=True)
def test_an_imported_run_is_evaluated(made, tmp_path, tiny_root, feats, capsys):
    sd, method, backbone, _ = made
    path = tmp_path / "results" / "runs" / "official"
    assert bring(made, path, "--recipe", "mini") == 0
    moved = path.rename(path.with_name("moved"))
    assert main(["evaluate", str(moved), "--data", f"mini={tiny_root}", "--device", "cpu", "--quiet"]) == 0
    assert PREDICTED in capsys.readouterr().out

    folder, run = kept_weights.open_run(moved)
    record = RunDir(tmp_path / "results", "moved").read()
    assert record is not None
    assert record.scores.keys() == {"vqa", "gqa", "nlvr", "caption"}
    assert all(score.status == "done" for score in record.scores.values())
    model = official.load(dict(sd), backbone=TINY[sd.family](**MORE[sd.family]), method=method, feat_dim=feats)
    model.n_boxes = run.recipe.n_boxes
    text, task = backbones.tokenizer(str(backbone)), next(t for t in run.task_list if t.name == PREDICTED)
    data = TokenizedSplit(
        task, task.read(tiny_root, task.report_split), text, FeatureStore(tiny_root, "grid"), prefix=True
    )
    assert run.recipe.task_prefix
    wanted = predict(model, task, data, text, run.recipe, torch.device("cpu"))
    assert [row["prediction"] for row in folder.read_predictions(PREDICTED)] == wanted
    assert len(set(wanted)) > 1

    frame = load_frame(tmp_path / "results")
    assert set(frame["backbone"]) == {str(backbone)}
    assert set(frame["label"]) == {f"{run.method} (official)"}
    assert frame["score"].notna().all()

    assert main(["evaluate", str(moved), "--data", f"mini={tiny_root}"]) == 2
    assert "record.json: is there already" in capsys.readouterr().err


@pytest.mark.parametrize("made", [("bart", "vl-pet-large")], indirect=True)
@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_text("no checkpoint"), "no whole checkpoint"),
        (lambda path: os.truncate(path, 5000), "no whole checkpoint"),
        (lambda path: torch.save(torch.nn.Linear(2, 2), path), "holds objects"),
        (lambda path: torch.save([torch.ones(2)], path), "holds list"),
        (lambda path: torch.save({}, path), "holds dict"),
        (lambda path: torch.save({"epoch": 3, "w": torch.ones(2)}, path), "holds int"),
        (lambda path: torch.save({"w": torch.ones(2)}, path), "no official state dict"),
    ],
    ids=["missing", "text", "torn", "objects", "list", "empty", "numbers", "foreign"],
)
def test_files_that_are_no_official_checkpoint(made, tmp_path, capsys, write, reason):
    write(made[3])
    assert bring(made, tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert reason in message
    assert message.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob(".run*"))


@pytest.mark.parametrize("made", [("bart", "vl-pet-large")], indirect=True)
def test_what_does_not_go_with_a_checkpoint(made, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    assert bring(made, tmp_path / "there") == 2
    assert "is there already" in capsys.readouterr().err
    assert bring((*made[:2], "mini-bart", made[3]), tmp_path / "run") == 2
    assert "of another shape" in capsys.readouterr().err
    assert bring(made, tmp_path / "run", "--suite", "video-text") == 2
    assert "adapters.tvqa" in capsys.readouterr().err
    assert bring(made, tmp_path / "run", "--tasks", "vqa,gca") == 2
    assert "did you mean 'gqa'" in capsys.readouterr().err
    assert bring((made[0], "lora", *made[2:]), tmp_path / "run") == 2
    assert "official lora" in capsys.readouterr().err
    sd = case("bart", "lora", **MORE["bart"])
    torch.save(dict(sd), made[3])
    assert bring((sd, "lora", *made[2:]), tmp_path / "run") == 2
    assert f"has {len(sd['lm_head.weight'])} words" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("made", [("bart", "vl-pet-large")], indirect=True)
def test_directories_that_cannot_be_evaluated(made, tmp_path, tiny_root, capsys):
    data = ["--data", f"mini={tiny_root}", "--device", "cpu", "--quiet"]
    assert main(["evaluate", str(tmp_path / "nothing"), *data]) == 2
    assert "no run.json" in capsys.readouterr().err
    assert bring(made, tmp_path / "run", "--recipe", "mini") == 0
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(run | {"overrides": run["overrides"] | {"rank": 12}}))
    assert main(["evaluate", str(tmp_path / "run"), *data]) == 2
    assert "weights.safetensors does not fit" in capsys.readouterr().err
    (tmp_path / "run" / "weights.safetensors").write_bytes(b"torn")
    assert main(["evaluate", str(tmp_path / "run"), *data]) == 2
    assert "weights.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "run" / "record.json").exists()
