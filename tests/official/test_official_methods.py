"""Official state dicts written out by hand: names, formulas and trained sets of every method."""

import re

import pytest
import torch
import torch.nn.functional as F
from official_dicts import (
    ADAPTER,
    BLOCKS,
    FEATS,
    HYPER,
    LORA,
    PATHS,
    PROMPT,
    TINY,
    D,
    E,
    Official,
    Q,
    R,
    V,
    act,
    case,
    dense,
    exempt,
    gate,
    kronecker,
    officially_exempt,
)  # fmt: skip

from bench import official
from bench.errors import UsageError
from bench.official.method_names import resolve_official_name
from methods.core import context

SIZED = [f"vl-pet-{size}" for size in ("small", "middleX", "middleY", "large")]
SHARED = ["full", "projector-only", "bitfit", "prompt", "lora", "compacter", "compacter-original", "vl-adapter"]
PER_TASK = [f"{method}-multiple" for method in ("prompt", "lora", "compacter", "vl-adapter")]
PER_TASK += ["vl-adapter-half-down", "vl-adapter-half-up", "hyperformer"]
CASES = [
    *[(family, m) for family in TINY for m in (*SHARED, *PER_TASK, *SIZED)],
    *[("bart", f"{base}+{size}") for base in ("vl-adapter", "compacter") for size in SIZED],
    ("t5", "bitfit with biases added"),
    ("t5", "lst"),
]


@pytest.mark.parametrize(("family", "method"), CASES)
def test_every_method_loads_and_trains_the_official_set(family, method):
    sd = case(family, method)
    loaded = sd.read(method.removesuffix(" with biases added"))
    assert exempt(loaded.model, loaded.handle) == officially_exempt(loaded)
    model = loaded.model
    assert not model.training
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == sd.count()
    batch = torch.tensor([[5, 6, 2]]), torch.randn(1, 4, FEATS)
    for task in official.TASKS if method in PER_TASK else ("gqa",):
        model(*batch, labels=torch.tensor([[7, 8]]), task=task).loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("method", [m for m in PER_TASK if m != "hyperformer"])
def test_whether_tasks_share_is_read_off_the_tensors(method):
    base = re.sub("-(multiple|half-down|half-up)$", "", method)
    for requested in (base, method):
        assert case("bart", method).read(requested).method.name == method
        assert case("bart", base).read(requested).method.name == base


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("adapter", "vl-adapter"),
        ("VL_Adapter", "vl-adapter"),
        ("bart_adapter", "vl-adapter"),
        ("adapter_multiple", "vl-adapter-multiple"),
        ("single_adapter", "vl-adapter"),
        ("vlpet_large", "vl-pet-large"),
        ("vlpet_middleX", "vl-pet-middleX"),
        ("t5_vlpet_middleY", "vl-pet-middleY"),
        ("vl-pet-middle", "vl-pet-middleX"),
        ("adapter_vlpet_small", "vl-adapter+vl-pet-small"),
        ("vl-adapter+vl-pet-middleY", "vl-adapter+vl-pet-middleY"),
        ("bart_compacter_vlpet_large", "compacter+vl-pet-large"),
        ("t5_bitfit_lst", "bitfit"),
        ("bitfit_vlpet", "bitfit"),
        ("t5_lora_lst", "lora"),
        ("single_lora", "lora"),
        ("HyperFormer", "hyperformer"),
        ("t5_lst", "lst"),
    ],
)
def test_official_names_of_methods(written, meant):
    assert resolve_official_name(written).name == meant


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
    head_inputs = [act(m) for m in middle] if arrange == "pair" else [act(torch.cat(middle, -1))] * 4
    hhat = h + torch.cat([dense(sd, f"{up}.{i}", head_inputs[i]) for i in range(4)], -1)
    factor = 1 + sd["model.encoder.layers.0.encoder_attn_adapter_gating_middle_ia3_add"]
    torch.testing.assert_close(model.pet["enc_0_sa_out"](x, h), factor * hhat)


def test_dense_tensors_under_compacter_are_what_the_released_trainer_builds():
    sd = case("bart", "vl-adapter+vl-pet-large")
    tensors = sd.load("compacter+vl-pet-large").state_dict()
    wanted = sd.load("vl-adapter+vl-pet-large").state_dict()
    assert tensors.keys() == wanted.keys()
    assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)


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


def prompt_of(sd, task):
    name = f"{sd.root}encoder.prompt_modules.prompts.{task}.prefix_embedding"
    return dense(sd, f"{name}.3", torch.tanh(dense(sd, f"{name}.1", sd[f"{name}.0.weight"])))


@pytest.mark.parametrize("method", ["prompt", "prompt-multiple"])
@pytest.mark.parametrize("family", TINY)
def test_prompts_stand_in_front_of_the_text(family, method):
    sd = case(family, method)
    model = sd.load("prompt")
    captured = {}
    first = model.lm.get_encoder().get_submodule("layers.0" if family == "bart" else "block.0")
    first.register_forward_pre_hook(lambda module, args: captured.update(args=args))
    words = torch.tensor([[5, 6, 2]])
    for task in ("vqa", "caption"):
        with torch.no_grad():
            model(words, torch.randn(1, 4, FEATS), task=task)
        text = sd[f"{sd.root}shared.weight"][words[0]]
        if family == "bart":
            text = (
                text + sd["model.encoder.embed_positions.weight"][2 : 2 + 3]
            )  # BART's table starts with 2 unused rows
        wanted = torch.cat([prompt_of(sd, task), text])
        if family == "bart":
            norm = "model.encoder.layernorm_embedding"
            wanted = F.layer_norm(wanted, [D], sd[f"{norm}.weight"], sd[f"{norm}.bias"])
        states, mask = captured["args"][:2]
        torch.testing.assert_close(states[0, : PROMPT + 3], wanted)
        assert states.shape[1] == mask.shape[-1] == PROMPT + 3 + 4
        assert not mask.any(), "everything is attended to"


@pytest.mark.parametrize("method", [m for m in PER_TASK if m.startswith(("vl-adapter", "compacter"))])
def test_a_task_has_its_own_adapter_where_it_is_not_shared(method):
    kind = "vl-adapter" if "vl-adapter" in method else "compacter"
    sd = case("t5", method)
    model = sd.load(kind)
    x, h = inputs()
    linear = dense if kind == "vl-adapter" else kronecker
    for task in official.TASKS:
        name = f"decoder.block.1.layer.1.enc_attn_adapter.adapters.{task}"
        wanted = h + linear(sd, f"{name}.up_sampler", act(linear(sd, f"{name}.down_sampler", h)))
        with context.task(task):
            torch.testing.assert_close(model.pet["dec_1_xa_out"](x, h), wanted)


def test_a_task_has_its_own_lora_where_it_is_not_shared():
    sd = case("bart", "lora-multiple")
    model = sd.load("lora")
    x, _ = inputs()
    name = "model.decoder.layers.0.self_attn.v_proj"
    for task in official.TASKS:
        low = x @ sd[f"{name}.lora_As.{task}"].T @ sd[f"{name}.lora_Bs.{task}"].T
        with context.task(task):
            torch.testing.assert_close(model.pet["dec_0_sa_v"].delta(x), 32 / LORA * low)


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize(("stack", "block"), [(stack, b) for stack, blocks in BLOCKS.items() for b in blocks])
def test_hyperformer_generates_the_adapters_of_a_task_and_a_layer(family, stack, block):
    sd = case(family, "hyperformer")
    model = sd.load("hyperformer")
    x, h = inputs()
    net = f"{sd.root}{stack}.adapter_layers_hyper_net"
    for task in ("gqa", "caption"):
        vector = sd[f"{sd.root}shared_task_embed.task_to_embeddings.{task}"]
        pair = torch.cat([vector, sd[f"{net}.layer_id_embeddings.weight"][1]])
        generator = f"{net}.task_hypernet.task_embeding_generator"
        c = dense(sd, f"{generator}.2", F.relu(dense(sd, f"{generator}.0", pair)))
        c = F.layer_norm(c, [E], sd[f"{net}.LayerNorm.weight"], sd[f"{net}.LayerNorm.bias"], eps=1e-6)
        made = {}
        for side, shape in (("down", (R, D)), ("up", (D, R))):
            name = f"{net}.{HYPER[block]}_{side}_sampler_hyper_net"
            made[side] = (
                dense(sd, f"{name}.weight_generator.0", c).view(shape),
                dense(sd, f"{name}.bias_generator.0", c),
            )
        wanted = h + F.linear(act(F.linear(h, *made["down"])), *made["up"])
        with context.task(task):
            torch.testing.assert_close(model.pet[f"{stack[:3]}_1_{block}_out"](x, h), wanted)


def test_slices_of_rank_one_and_a_rule_for_all():
    sd = case("t5", "compacter-original")
    model = sd.load("compacter")
    x, h = inputs()
    name = "encoder.block.0.layer.1.ff_adapter.adapters.gqa"

    def linear(at, u):
        slices = sd[f"{at}.W_left"] @ sd[f"{at}.W_right"]
        return u @ sum(torch.kron(a, b) for a, b in zip(sd["phm_rule"], slices, strict=True)) + sd[f"{at}.b"]

    wanted = h + linear(f"{name}.up_sampler", act(linear(f"{name}.down_sampler", h)))
    torch.testing.assert_close(model.pet["enc_0_ff_out"](x, h), wanted)


def test_adapters_of_two_factors_and_with_norms_around_them():
    sd = Official("bart")
    sd.adapters(("encoder", "decoder"), factor=2, norms=("pre_layer_norm", "post_layer_norm"))
    model = sd.load("vl-adapter")
    x, h = inputs()
    controller = "model.decoder.layers.1.self_attn_adapter"

    def linear(side, u):
        at = f"{controller}.adapters.nlvr.{side}_sampler"
        return u @ sd[f"{at}.W_left"] @ sd[f"{at}.W_right"] + sd[f"{at}.b"]

    def norm(when, u):
        at = f"{controller}.{when}_layer_norm"
        return F.layer_norm(u, [D], sd[f"{at}.weight"], sd[f"{at}.bias"])

    wanted = h + norm("post", linear("up", act(linear("down", norm("pre", h)))))
    torch.testing.assert_close(model.pet["dec_1_sa_out"](x, h), wanted)


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
    for theirs, ours in norms.items():
        normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        wanted = normed * sd[f"{theirs}.weight"] + sd[f"{theirs}.bias"]
        torch.testing.assert_close(model.get_submodule(ours)(x), wanted)


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
