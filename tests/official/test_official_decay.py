"""Weight decay goes by the official names of tensors, as counted in official runs; or spares biases and norms."""

import hashlib
import json

import pytest
from official_dicts import RV, Official, case, exempt, officially_exempt
from transformers import BartConfig, T5Config

import methods
from bench import backbones
from bench.config import resolve
from bench.fingerprints import method_digest

CONFIGS = {"bart": BartConfig, "t5": T5Config}


def options_beyond():
    """Official state dicts of options: factored matrices between new norms, a rule that all share, side by side."""
    factored, rule = Official("bart"), case("t5", "compacter-original")
    factored.adapters(("encoder", "decoder"), factor=2, norms=("pre_layer_norm", "post_layer_norm"))
    yield factored, "vl-adapter"
    yield rule, "compacter"
    gated = Official("bart")
    gated.multihead()
    gated.gates("large")
    for i in range(2):
        gated.adapter(f"model.decoder.layers.{i}.decoder_self_attn_adapter", RV)
    gated.train("layer_norm", "layernorm", within="encoder.")
    yield gated, "vl-pet-large"


@pytest.mark.parametrize("index", range(3))
def test_decay_of_options_goes_by_the_official_names(index):
    sd, method = list(options_beyond())[index]
    loaded = sd.read(method)
    assert exempt(loaded.model, loaded.handle) == officially_exempt(loaded)


@pytest.mark.parametrize(
    ("backbone", "method", "options", "elements"),
    [
        ("t5", "bitfit", {}, 1824),
        ("bart", "compacter", {"rank": 4}, 512),
        ("bart", "compacter+vl-pet-large", {"rank": 4, "gate_rank": 8, "decoder_rank": 8}, 448),
        ("bart", "hyperformer", {"rank": 4, "task_dim": 16, "hidden": 12}, 3484),
        ("bart", "bitfit", {}, 1664),
    ],
)
def test_exempt_elements_are_those_of_the_official_runs(shared, backbone, method, options, elements):
    facts = json.loads((shared / "golden" / f"{backbone}_full.json").read_text())
    config = CONFIGS[backbone](**facts["base_config"] | {"vocab_size": facts["final_vocab"]})
    model = backbones.build(config, feat_dim=facts["feat_dim"], device="meta")
    handle = methods.attach(model, methods.get(method, **options))
    spared = exempt(model, handle)
    assert sum(p.numel() for name, p in handle.trained().items() if name in spared) == elements


@pytest.mark.parametrize("family", ["bart", "t5"])
@pytest.mark.parametrize("method", ["bitfit", "compacter", "hyperformer", "vl-adapter", "full"])
def test_weights_only_spares_every_bias_and_norm(family, method):
    loaded = case(family, method if (family, method) != ("t5", "bitfit") else "bitfit with biases added").read(method)
    spared = exempt(loaded.model, loaded.handle, decay="weights-only")
    for name, p in loaded.handle.trained().items():
        copies = [copy for piece in loaded.names.pieces_of(name) for copy in piece]
        # Officially biases end in "bias" or "b"; the T5 position table and what belongs to a norm are named as here.
        wanted = copies[0].endswith((".bias", ".b", "relative_attention_bias.weight"))
        wanted |= "norm" in copies[0].lower() or ("visual_embedding" in copies[0] and p.dim() == 1)
        assert (name in spared) == wanted, name


@pytest.mark.parametrize("backbone", ["bart-base", "t5-base"])
def test_only_methods_that_were_decayed_otherwise_state_it(backbone):
    """Their runs of an earlier version are stale by the fingerprint; kept weights still fit."""
    shape = backbones.shape(backbone)
    stating = {name for name in methods.names() if methods.get(name).spec(shape).official_decay}
    compacters = {name for name in methods.names() if name.startswith("compacter")}
    assert stating == compacters | {"hyperformer"} | ({"bitfit", "clipfit"} if backbone == "t5-base" else set())
    for name in ("lora", "compacter"):
        content = methods.get(name).spec(shape).data()
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        spec = method_digest(resolve(backbone, name, "image-text", recipe="mini"))["spec"]
        assert digest.startswith(spec) == (name not in stating)
        assert "decay" not in json.dumps(content)
