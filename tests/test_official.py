"""Official state dicts: parity with outputs of the official code, and names, formulas and errors for every method."""

import json
import re
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from official_dicts import ADAPTER, FEATS, LORA, PATHS, TINY, D, Official, Q, V, act, case, dense, gate, kronecker
from transformers import BartConfig, T5Config

from bench import losses, official
from bench.errors import UsageError

CONFIGS = {"bart": BartConfig, "t5": T5Config}
GOLDEN = {
    "bart_full": "full",
    "bart_vlpet_large": "vl-pet-large",
    "t5_full": "full",
    "t5_vlpet_small": "vl-pet-small",
}
REDUCED = {"vqa": "weighted", "gqa": "example", "nlvr": "example", "caption": "tokens"}


@dataclass
class Golden:
    facts: SimpleNamespace
    arrays: dict[str, torch.Tensor]
    model: torch.nn.Module

    def state_dict(self):
        return {name[3:]: value for name, value in self.arrays.items() if name.startswith("sd/")}

    def batch(self, name, *, labels=True):
        keys = ("input_ids", "vis_feats", "boxes", *(("labels",) if labels else ()))
        return {key: self.arrays[f"in/{name}/{key}"] for key in keys}

    def out(self, name):
        return self.arrays[f"out/{name}"]


@pytest.fixture(scope="module", params=GOLDEN)
def golden(request, shared):
    path = shared / "golden" / request.param
    facts = SimpleNamespace(**json.loads(path.with_suffix(".json").read_text()))
    with np.load(path.with_suffix(".npz")) as file:
        arrays = {name: torch.tensor(file[name]) for name in file.files}
    found = Golden(facts, arrays, None)
    found.model = official.load(
        {name: value.numpy() for name, value in found.state_dict().items()},
        backbone=CONFIGS[facts.backbone](**facts.base_config),
        method=GOLDEN[request.param],
        feat_dim=facts.feat_dim,
    )
    return found


@pytest.mark.parametrize("batch", ["main", "nlvr", "ds", "nlvr_ds"])
def test_the_forward_pass_is_the_official_one(golden, batch):
    with torch.no_grad():
        out = golden.model(**golden.batch(batch))
    for name in ("logits", "encoder_last_hidden_state"):
        torch.testing.assert_close(getattr(out, name), golden.out(f"{batch}/{name}"), rtol=0, atol=5e-5)
    torch.testing.assert_close(out.loss, golden.out(f"{batch}/loss"), rtol=0, atol=1e-5)
    each = losses.token_losses(out.logits, golden.arrays[f"in/{batch}/labels"])
    torch.testing.assert_close(each.flatten(), golden.out(f"{batch}/loss_per_token"), rtol=0, atol=5e-5)


@pytest.mark.parametrize("task", REDUCED)
def test_every_task_trains_on_its_official_loss(golden, task):
    batch = golden.batch("nlvr" if task == "nlvr" else "main")
    with torch.no_grad():
        logits = golden.model(**batch, task=task).logits
    each = losses.token_losses(logits, batch["labels"])
    weights = golden.arrays["in/main/scores"] if task == "vqa" else torch.ones(len(logits))
    loss = losses.reduce(REDUCED[task], each, batch["labels"], weights)
    torch.testing.assert_close(loss, golden.out(f"train_step/{task}"), rtol=0, atol=1e-5)


def gradient(model, name):
    """The gradient of an official tensor, found by names written down here for the four goldens alone."""
    parameters = dict(model.named_parameters())
    if "visual_embedding" in name:
        return parameters[name[name.index("visual_embedding") :]].grad
    if "adapter" not in name:
        return parameters[f"lm.{name}"].grad
    layer = re.search(r"(?:layers|block)\.(\d)", name)[1]
    side = "up" if "up." in name or "up_sampler" in name else "down"
    leaf = name.rpartition(".")[2]
    if "value_parallel" in name:
        return parameters[f"pet.dec_{layer}_xa_v.delta.{side}.{leaf}"].grad
    site = f"pet.enc_{layer}_{'ff' if 'ff_adapter' in name else 'sa'}_out"
    if "gating" in name:
        return parameters[f"{site}.gate.body.{leaf if 'small' in name else f'{side}.{leaf}'}"].grad
    grad = parameters[f"{site}.delta.{side}.{leaf}"].grad
    head = re.search(r"multihead_down\.(\d)", name)
    return grad if head is None else grad.chunk(4)[int(head[1])]


@pytest.mark.parametrize(("batch", "prefix"), [("main", "grad/"), ("nlvr", "grad_nlvr/")])
def test_gradients_and_the_trained_set_are_the_official_ones(golden, batch, prefix):
    golden.model.zero_grad()
    golden.model(**golden.batch(batch)).loss.backward()
    wanted = {name[len(prefix) :]: value for name, value in golden.arrays.items() if name.startswith(prefix)}
    for name, value in wanted.items():
        # k_proj.bias has no effect, its gradient is noise of 1e-8
        assert (gradient(golden.model, name) - value).norm() <= 1e-4 * value.norm() + 1e-6, name

    trained = [p for p in golden.model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == golden.facts.n_trainable
    assert sum(p.numel() for p in golden.model.parameters()) == golden.facts.n_total
    if batch == "main":
        assert set(wanted) == set(golden.facts.trainable)
        norm = torch.stack([p.grad.norm() for p in trained]).norm()
        official_norm = torch.stack([value.norm() for value in wanted.values()]).norm()
        torch.testing.assert_close(norm, official_norm, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("beams", "wanted"), [(1, "generate_greedy_ids"), (5, "generate_beam5_ids")])
def test_generation_gives_the_official_ids(golden, beams, wanted):
    ids = golden.out(f"main/{wanted}")
    forced = golden.facts.base_config["eos_token_id"] if golden.facts.backbone == "bart" and beams > 1 else None
    found = golden.model.generate(
        **golden.batch("main", labels=False),
        num_beams=beams,
        max_length=ids.shape[1],
        do_sample=False,
        forced_bos_token_id=None,
        forced_eos_token_id=forced,
    )
    assert found.shape == ids.shape
    compared = slice(None, None if beams > 1 else -1)  # whether greedy search forces an end depends on the version
    assert torch.equal(found[:, compared], ids[:, compared])


def test_decoder_steps_have_the_official_logits(golden):
    ids = golden.out("main/greedy_ids")
    with torch.no_grad():
        found = golden.model(**golden.batch("main", labels=False), decoder_input_ids=ids[:, :-1]).logits
    torch.testing.assert_close(found, golden.out("main/greedy_step_logits"), rtol=0, atol=5e-5)


def test_true_or_false_is_decided_as_officially(golden):
    config = golden.model.lm.config
    start = [config.decoder_start_token_id, *([config.bos_token_id] if golden.facts.backbone == "bart" else [])]
    batch = golden.batch("nlvr", labels=False)
    prompt = torch.tensor([start] * len(batch["input_ids"]))
    with torch.no_grad():
        logits = golden.model(**batch, decoder_input_ids=prompt, task="nlvr").logits[:, -1]
    found = logits[:, golden.facts.true_id] > logits[:, golden.facts.false_id]
    assert found.long().tolist() == golden.out("nlvr_pred").tolist()


# Below: state dicts written out by hand, for the methods without reference outputs here.

SIZED = [f"vl-pet-{size}" for size in ("small", "middleX", "middleY", "large")]
CASES = [
    *[(family, m) for family in TINY for m in ("full", "projector-only", "bitfit", "lora", "compacter", "vl-adapter")],
    *[(family, m) for family in TINY for m in SIZED],
    *[("bart", f"{base}+{size}") for base in ("vl-adapter", "compacter") for size in SIZED],
    ("t5", "bitfit with biases added"),
]


@pytest.mark.parametrize(("family", "method"), CASES)
def test_every_method_loads_and_trains_the_official_set(family, method):
    sd = case(family, method)
    model = sd.load(method.removesuffix(" with biases added"))
    assert not model.training
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == sd.count()
    model(torch.tensor([[5, 6, 2]]), torch.randn(1, 4, FEATS), labels=torch.tensor([[7, 8]])).loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def inputs():
    random = torch.Generator().manual_seed(1)
    return torch.randn(2, 5, D, generator=random), torch.randn(2, 5, D, generator=random)


@pytest.mark.parametrize("size", ["small", "middleX", "middleY", "large"])
@pytest.mark.parametrize("kind", ["", "vl-adapter+", "compacter+"])
def test_encoder_sites_compute_the_official_formula(kind, size):
    sd = case("bart", f"{kind}vl-pet-{size}")
    model = sd.load(f"{kind}vl-pet-{size}")
    x, h = inputs()
    layer = "model.encoder.layers.1"
    if kind:
        linear = kronecker if kind == "compacter+" else dense
        sampler = f"{layer}.ff_adapter.adapters.nlvr"
        hhat = h + linear(sd, f"{sampler}.up_sampler", act(linear(sd, f"{sampler}.down_sampler", h)))
    else:
        heads = [dense(sd, f"{layer}.ff_adapter_multihead_down.{i}", h) for i in range(4)]
        hhat = h + dense(sd, f"{layer}.ff_adapter_multihead_up", act(torch.cat(heads, -1)))
    torch.testing.assert_close(model.pet["enc_1_ff_out"](x, h), gate(sd, size, x, hhat) * hhat)


@pytest.mark.parametrize("arrange", ["up", "down_up", "pair"])
def test_heads_are_put_together(arrange):
    sd = Official("bart")
    sd.multihead(arrange)
    sd.gates("middleY")
    sd.values()
    model = sd.load("vl-pet-middleY")
    x, h = inputs()
    down, up = (f"model.encoder.layers.0.attn_adapter_multihead_{side}" for side in ("down", "up"))
    middle = [dense(sd, down, h)] if arrange == "up" else [dense(sd, f"{down}.{i}", h) for i in range(4)]
    seen = [act(m) for m in middle] if arrange == "pair" else [act(torch.cat(middle, -1))] * 4
    hhat = h + torch.cat([dense(sd, f"{up}.{i}", seen[i]) for i in range(4)], -1)
    factor = 1 + sd["model.encoder.layers.0.encoder_attn_adapter_gating_middle_ia3_add"]
    torch.testing.assert_close(model.pet["enc_0_sa_out"](x, h), factor * hhat)


def test_dense_tensors_under_compacter_are_what_the_released_trainer_builds():
    sd = case("bart", "vl-adapter+vl-pet-large")
    found = sd.load("compacter+vl-pet-large").state_dict()
    wanted = sd.load("vl-adapter+vl-pet-large").state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("family", TINY)
def test_lora_has_alpha_32_and_stands_beside_queries_and_values(family):
    sd = case(family, "lora")
    model = sd.load("lora")
    x, _ = inputs()
    for stack, block, point in (("encoder", "sa", Q[family]), ("decoder", "xa", V[family])):
        name = f"{PATHS[family](stack, 1, block)[1]}.{point}"
        low = x @ sd[f"{name}.lora_As.gqa"].T @ sd[f"{name}.lora_Bs.gqa"].T
        wanted = x @ sd[f"{name}.weight"].T + sd.get(f"{name}.bias", 0) + 32 / LORA * low
        torch.testing.assert_close(model.lm.get_submodule(name)(x), wanted)


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("kind", ["vl-pet-small", "compacter+vl-pet-small"])
def test_values_have_the_parallel_adapter(family, kind):
    sd = Official(family)
    if kind == "vl-pet-small":
        sd.multihead()
    else:
        sd.adapters(("encoder",), phm=2)
    sd.gates("small")
    sd.values(phm=2 if "compacter" in kind else 0)
    model = sd.load(kind)
    x, _ = inputs()
    attention = PATHS[family]("decoder", 0, "xa")[1]
    linear = kronecker if "compacter" in kind else dense
    adapter = f"{attention}.attn_value_parallel_adapter.adapters.caption"
    value = x @ sd[f"{attention}.{V[family]}.weight"].T + sd.get(f"{attention}.{V[family]}.bias", 0)
    wanted = value + linear(sd, f"{adapter}.up_sampler", act(linear(sd, f"{adapter}.down_sampler", x)))
    torch.testing.assert_close(model.lm.get_submodule(f"{attention}.{V[family]}")(x), wanted)


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("block", ["sa", "xa", "ff"])
def test_decoder_adapters_are_put_at_their_blocks(family, block):
    sd = case(family, "vl-adapter")
    model = sd.load("vl-adapter")
    x, h = inputs()
    name = f"{PATHS[family]('decoder', 1, block)[0]}.{ADAPTER[family, 'decoder'][block]}.adapters.vqa"
    wanted = h + dense(sd, f"{name}.up_sampler", act(dense(sd, f"{name}.down_sampler", h)))
    torch.testing.assert_close(model.pet[f"dec_1_{block}_out"](x, h), wanted)


@pytest.mark.parametrize(
    "name",
    [
        "encoder.block.1.layer.0.SelfAttention.k",
        "encoder.block.0.layer.1.DenseReluDense.wi",
        "decoder.block.1.layer.1.EncDecAttention.o",
        "lm_head",
    ],
)
def test_t5_with_biases_adds_them_to_every_linear(name):
    sd = case("t5", "bitfit with biases added")
    model = sd.load("bitfit")
    x, _ = inputs()
    torch.testing.assert_close(model.lm.get_submodule(name)(x), dense(sd, name, x))


def test_t5_with_biases_adds_them_to_every_norm():
    sd = case("t5", "bitfit with biases added")
    model = sd.load("bitfit")
    x, _ = inputs()
    norms = {
        "decoder.block.0.layer.2.layer_norm": "lm.decoder.block.0.layer.2.layer_norm",
        "encoder.final_layer_norm": "lm.encoder.final_layer_norm",
        "encoder.visual_embedding.feat_embedding.1": "visual_embedding.feat_embedding.1",
        "encoder.visual_embedding.absolute_vis_pos_embedding.1": "visual_embedding.absolute_vis_pos_embedding.1",
    }
    for there, here in norms.items():
        normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        wanted = normed * sd[f"{there}.weight"] + sd[f"{there}.bias"]
        torch.testing.assert_close(model.get_submodule(here)(x), wanted)


def test_t5_feed_forward_has_both_biases_and_its_norm_one():
    sd = case("t5", "bitfit with biases added")
    model = sd.load("bitfit")
    x, _ = inputs()
    layer = "decoder.block.0.layer.2"
    normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * sd[f"{layer}.layer_norm.weight"]
    middle = F.relu(dense(sd, f"{layer}.DenseReluDense.wi", normed + sd[f"{layer}.layer_norm.bias"]))
    wanted = x + dense(sd, f"{layer}.DenseReluDense.wo", middle)
    torch.testing.assert_close(model.lm.get_submodule(layer)(x), wanted)


def test_other_tasks_have_other_names():
    sd = Official("bart")
    tasks = ("tvqa", "how2qa", "tvc", "yc2c")
    sd.adapters(("encoder", "decoder"))
    renamed = dict(zip(official.TASKS, tasks, strict=True))
    video = {re.sub(r"adapters\.(\w+)", lambda m: f"adapters.{renamed[m[1]]}", name): v for name, v in sd.items()}
    official.load(video, backbone=TINY["bart"](), method="vl-adapter", feat_dim=FEATS, tasks=tasks)
    with pytest.raises(UsageError, match=r"missing: .*adapters\.vqa.*left over: .*adapters\.tvqa"):
        official.load(video, backbone=TINY["bart"](), method="vl-adapter", feat_dim=FEATS)


def test_a_backbone_can_be_named(monkeypatch):
    from bench.backbones.bart import FAMILY

    sizes = TINY["bart"]().to_diff_dict() | {"vocab_size": 9}
    for key in ("transformers_version", "model_type"):
        sizes.pop(key, None)
    monkeypatch.setitem(FAMILY.presets, "tiny-bart", sizes)
    sd = Official("bart")
    model = official.load(dict(sd), backbone="tiny-bart", method="full", feat_dim=FEATS)
    assert model.lm.config.vocab_size == len(sd["lm_head.weight"]) > 9


NAME = "model.decoder.layers.1.enc_attn_adapter.adapters.gqa.up_sampler.weight"


def missing(sd):
    del sd[NAME]
    return NAME


def left_over(sd):
    name = "model.decoder.layers.1.enc_attn_adapter.pre_layer_norm.weight"
    sd[name] = torch.ones(D)
    return name


def of_another_shape(sd):
    sd[NAME] = torch.zeros(D + 1, D)
    return NAME


def unequal_task_copies(sd):
    sd[NAME] = sd[NAME] + 1
    return NAME


def unequal_ties(sd):
    name = "model.encoder.visual_embedding.obj_order_embedding.weight"  # the last of the tied ones to be looked at
    sd[name] = sd[name] + 1
    return name


@pytest.mark.parametrize("fault", [missing, left_over, of_another_shape, unequal_task_copies, unequal_ties])
def test_errors_name_the_tensor(fault):
    sd = case("bart", "vl-adapter")
    name = fault(sd)
    with pytest.raises(UsageError) as error:
        sd.load("vl-adapter")
    assert f"1 {'missing' if fault is missing else ''}" in str(error.value)
    assert name in str(error.value)
    assert "; " not in str(error.value), "one fault, one reason"


def test_a_missing_head_is_named():
    sd = case("bart", "vl-pet-large")
    del sd["model.encoder.layers.1.attn_adapter_multihead_down.2.bias"]
    with pytest.raises(UsageError, match=r"1 missing: model\.encoder\.layers\.1\.attn_adapter_multihead_down\.2\.bias"):
        sd.load("vl-pet-large")


def test_a_state_dict_without_its_buffer_loads():
    sd = Official("bart")
    del sd["final_logits_bias"]
    assert not sd.load("full").lm.final_logits_bias.any()


def test_another_family_is_refused():
    with pytest.raises(UsageError, match="no official state dict of a t5 model"):
        official.load(dict(Official("bart")), backbone=TINY["t5"](), method="full", feat_dim=FEATS)


@pytest.mark.parametrize("method", ["adapter", "ia3", "lst", "no-such-method"])
def test_methods_without_a_readable_counterpart_are_refused(method):
    with pytest.raises(UsageError, match=f"'{method}'.*vl-pet-large"):
        Official("bart").load(method)
