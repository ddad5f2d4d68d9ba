"""From names, folders and configurations to models: sizes, initial values, new word rows, errors."""

from pathlib import Path
from typing import Any

import pytest
import tiny_vl as tiny
import torch

from bench import backbones
from bench.errors import UsageError
from bench.mini.tokenizers import TRAINERS

families = pytest.mark.parametrize("family", tiny.FAMILIES)
SENTENCES = ["what color is the cube ?", "true", "false", "a red cube beside a blue ball ."]


def saved(folder: Path, family: str, *, spare: int = 0) -> tuple[Path, Any]:
    """A checkpoint as save_pretrained leaves it, its embedding ``spare`` rows larger than its tokeniser."""
    hf = TRAINERS[f"mini-{family}"](SENTENCES)
    lm = tiny.model(family, vocab_size=len(hf) + spare).lm
    lm.save_pretrained(folder)
    hf.save_pretrained(folder)
    return folder, lm


@pytest.mark.parametrize(("name", "rows", "d", "layers"), [("bart-base", 50465, 768, 6), ("t5-base", 32200, 768, 12)])
def test_published_sizes_on_meta(name: str, rows: int, d: int, layers: int) -> None:
    model = backbones.build(name, feat_dim=2048, device="meta")
    assert model.lm.get_input_embeddings().weight.shape == (rows, d)
    assert model.lm.get_output_embeddings().weight.shape == (rows, d)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    shape = backbones.shape(name)
    assert (shape.d, shape.encoder_layers, shape.decoder_layers) == (d, layers, layers)


@pytest.mark.parametrize(
    ("name", "feat_dim", "wanted"),
    [
        ("bart-base", 2048, 1_582_848),
        ("t5-base", 2048, 1_581_312),
        ("bart-base", 512, 403_200),
        ("t5-base", 512, 401_664),
    ],
)
def test_published_sizes_of_the_projector(name: str, feat_dim: int, wanted: int) -> None:
    model = backbones.build(name, feat_dim=feat_dim, device="meta")
    projector_parameters = dict(model.visual_embedding.named_parameters())
    assert sum(p.numel() for n, p in projector_parameters.items() if "obj_order" not in n) == wanted


@pytest.mark.parametrize(("name", "wanted"), [("bart-base", 139_420_416), ("t5-base", 222_903_552)])
def test_published_sizes_of_the_backbone(name: str, wanted: int) -> None:
    """The published figures are those of the checkpoints, before rows for new tokens."""
    model = backbones.build(name, feat_dim=8, device="meta")
    new = model.lm.get_input_embeddings().weight.shape[0] - {"bart-base": 50265, "t5-base": 32128}[name]
    assert sum(p.numel() for p in model.lm.parameters()) - new * 768 == wanted


@families
@pytest.mark.parametrize("spare", [0, 28])
def test_a_folder_of_save_pretrained_is_read(family: str, spare: int, tmp_path: Path) -> None:
    """Old rows stay, also those that no token uses; new ones are drawn from the seed."""
    folder, lm = saved(tmp_path / "checkpoint", family, spare=spare)
    text = backbones.tokenizer(str(folder))
    models = [backbones.build(str(folder), feat_dim=tiny.F, seed=seed) for seed in (1, 1, 2)]
    old = lm.get_input_embeddings().weight
    for model in models:
        table = model.lm.get_input_embeddings().weight
        assert len(table) == text.vocab_size == model.lm.config.vocab_size
        assert torch.equal(table[: len(old)], old)
        assert model.lm.get_output_embeddings().weight is table
        trunk = [(n, p) for n, p in model.lm.named_parameters() if p is not table]
        theirs = dict(lm.named_parameters())
        assert all(torch.equal(p, theirs[n]) for n, p in trunk)
    rows = [m.lm.get_input_embeddings().weight[len(old) :] for m in models]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    std = {"bart": 0.02, "t5": 1.0}[family]
    assert float(rows[0].detach().std()) == pytest.approx(std, rel=0.1)
    assert abs(float(rows[0].detach().mean())) < 0.1 * std
    shape = backbones.shape(str(folder))
    assert (shape.family, shape.d, shape.vocab) == (family, 32, len(old))


@families
def test_new_rows_do_not_depend_on_the_global_generator(family: str, tmp_path: Path) -> None:
    folder, lm = saved(tmp_path / "checkpoint", family)
    new_rows = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = backbones.build(str(folder), feat_dim=tiny.F, seed=5)
        new_rows.append(model.lm.get_input_embeddings().weight[lm.config.vocab_size :])
    assert torch.equal(*new_rows)


@families
def test_on_meta_a_folder_has_the_same_shapes(family: str, tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "checkpoint", family, spare=28)
    real, meta = (backbones.build(str(folder), feat_dim=tiny.F, device=d) for d in ("cpu", "meta"))
    assert {n: p.shape for n, p in real.named_parameters()} == {n: p.shape for n, p in meta.named_parameters()}


@pytest.mark.parametrize("name", ["mini-bart", "mini-t5"])
def test_shipped_backbones(name: str) -> None:
    model, text = backbones.build(name, feat_dim=8), backbones.tokenizer(name)
    assert model.lm.get_input_embeddings().weight.shape[0] == text.vocab_size
    assert model.family == backbones.shape(name).family == name.removeprefix("mini-")
    ids = torch.tensor([text.encode("vqa: what color is the cube?", 20)])
    assert model(ids, torch.zeros(1, 9, 8)).logits.isfinite().all()


@families
def test_initial_values_of_the_projector(family: str) -> None:
    torch.manual_seed(0)
    model = backbones.build(tiny.config(family, d_model=256), feat_dim=512)
    part = model.visual_embedding
    linear, norm = part.feat_embedding
    if family == "bart":
        assert float(linear.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
        assert not linear.bias.any()
        assert not norm.bias.any()
        assert float(part.img_order_embedding.weight.detach().std()) == pytest.approx(0.02, rel=0.15)
        assert norm.eps == 1e-5
    else:
        bound = 512**-0.5  # Kaiming-uniform with a = sqrt(5)
        assert 0.99 * bound < float(linear.weight.detach().abs().max()) <= bound
        assert 0.9 * bound < float(linear.bias.detach().abs().max()) <= bound
        assert float(part.img_order_embedding.weight.detach().std()) == pytest.approx(1.0, rel=0.15)
        assert norm.variance_epsilon == model.lm.config.layer_norm_epsilon
    assert (norm.weight == 1).all()
    assert part.obj_order_embedding is model.lm.get_input_embeddings()


def test_a_configuration_has_its_final_vocabulary() -> None:
    model = backbones.build(tiny.config("bart"), feat_dim=4)
    assert model.lm.get_input_embeddings().weight.shape[0] == tiny.WORDS
    assert backbones.build(tiny.config("t5"), feat_dim=4, dtype=torch.bfloat16).lm.dtype == torch.bfloat16


# Errors


@pytest.mark.parametrize("ask", [backbones.shape, backbones.tokenizer, lambda n: backbones.build(n, feat_dim=4)])
def test_an_unknown_name_is_told_at_once(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr("socket.socket.connect", no_network)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    with pytest.raises(UsageError, match="unknown backbone 'mini-brat'; did you mean 'mini-bart'"):
        ask("mini-brat")


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"no config.json in {tmp_path}"):
        backbones.shape(str(tmp_path))
    with pytest.raises(UsageError, match=f"no config.json in {tmp_path}"):
        backbones.build(str(tmp_path), feat_dim=4)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    from transformers import GPT2Config

    with pytest.raises(UsageError, match="model_type 'gpt2' is no backbone; known: bart, t5"):
        backbones.build(GPT2Config(), feat_dim=4)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UsageError, match="'gpt2' is no backbone"):
        backbones.build(str(tmp_path), feat_dim=4)


def test_weights_that_are_missing_are_told(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "checkpoint", "bart")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=str(folder)):
        backbones.build(str(folder), feat_dim=4)


def test_names_and_light_package() -> None:
    assert backbones.names()[:2] == ["mini-bart", "mini-t5"]
    assert {"bart-base", "t5-base"} <= set(backbones.names())
    with pytest.raises(AttributeError, match="attribute bild"):
        backbones.bild
