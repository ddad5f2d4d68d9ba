"""Options that cannot be had are refused while a run is planned, with the reason, before torch is there."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import methods
from bench.config import resolve
from methods import MethodError, Shape

SHAPES = {
    "bart": Shape("bart", d=768, ff=3072, heads=12, inner=768, encoder_layers=6, decoder_layers=6, vocab=50465),
    "t5": Shape("t5", d=512, ff=1024, heads=6, inner=384, encoder_layers=8, decoder_layers=8, vocab=32200),
}

# backbone, method, options, reason
BAD: list[tuple[str, str, dict[str, Any], str]] = [
    ("bart", "vl-pet-large", {"rank": 6}, "rank 6 is not divisible by heads 4"),
    ("bart", "vl-pet-large", {"rank": 10, "heads": 5, "arrange": "up"}, "output width .* not divisible by heads 5"),
    ("bart", "vl-pet-large", {"rank": 10, "heads": 5, "arrange": "pair"}, "output width .* not divisible by heads 5"),
    ("bart", "vl-pet-large", {"arrange": "plain"}, "has one head, heads=4 given"),
    ("bart", "vl-pet-large", {"decoder_heads": 5, "decoder_rank": 8}, "rank 8 is not divisible by heads 5"),
    ("bart", "vl-pet-large", {"rank": 0}, "greater than or equal to 1"),
    ("bart", "vl-pet-large", {"gate_rank": 0}, "a rank goes with a lowrank gate"),
    ("bart", "vl-pet-large", {"layers": (0, 24)}, r"enc\.sa\.out.*has layers 0 to \d+, not 24"),
    ("bart", "vl-pet-large", {"layers": (-1,)}, "greater than or equal to 0"),
    ("bart", "vl-pet-large", {"norms": "enc.xa"}, r"no norms are called 'enc\.xa'; did you mean"),
    ("bart", "vl-pet-large", {"biases": "enc.ff.down"}, r"no biases are called 'enc\.ff\.down'"),
    ("bart", "vl-pet-large", {"encoder": "dec.xa.v"}, r"no encoder sites are called 'dec\.xa\.v'"),
    ("bart", "vl-pet-large", {"encoder": "enc.ff.mid"}, r"enc\.ff\.mid has no X"),
    ("bart", "vl-pet-large", {"encoder": "enc.sa.ln"}, r"enc\.sa\.ln has no X"),
    ("bart", "vl-pet-large", {"gate": "none", "gate_op": "add"}, "gate='none' reads and does nothing"),
    ("bart", "vl-pet-large", {"gate": "none", "gate_input": "x"}, "gate='none' reads and does nothing"),
    ("bart", "vl-pet-large", {"gate": "layernorm", "gate_op": "add"}, "stands in the gate's place"),
    ("bart", "vl-pet-large", {"gate": "middleY", "gate_input": "x"}, "gate='middleY' reads no input"),
    ("bart", "vl-pet-large", {"gate": "self", "gate_input": "x"}, "gate='self' reads no input"),
    ("bart", "vl-pet-large", {"gate": "self", "delta": "none"}, "goes with a delta, and the patch has none"),
    ("bart", "vl-pet-large", {"gate": "huge"}, "gate: Input should be 'none', 'small'"),
    ("bart", "vl-pet-large", {"quirk": "value-skips-projection"}, "one of decoder='value-sequential', not of 'value'"),
    ("bart", "vl-pet-large", {"quirk": "unused-self-value", "decoder": "none"}, "one of decoder='self-value'"),
    ("bart", "vl-pet-large", {"quirk": "unused-value-heads"}, "one of decoder_heads > 1"),
    ("bart", "vl-pet-large", {"quirk": "unused-value-heads", "decoder": "ff", "decoder_heads": 2}, "decoder='value'"),
    ("bart", "vl-pet-large", {"projector_gate": "mul"}, "projector_gate='mul' is for projector='lowrank'"),
    ("bart", "vl-pet-large", {"projector": "lowrank", "projector_rank": 0}, "rank and gate go with"),
    ("bart", "lora", {"at": ("enc.sa.vv",)}, r"unknown site 'enc\.sa\.vv'; did you mean 'enc\.sa\.v'"),
    ("bart", "lora", {"at": ()}, "at least 1 item"),
    ("bart", "lora", {"at": ("enc.ff.mid",)}, r"enc\.ff\.mid has no X"),
    ("bart", "lora", {"at": ("dec.xa.kv",)}, r"dec\.xa\.kv has no X"),
    ("bart", "lora", {"share": "down"}, "share: Input should be 'all' or 'none'"),
    ("bart", "lora", {"dropout": 1.0}, "dropout: Input should be less than 1"),
    ("bart", "lora", {"alpha": 0}, "alpha: Input should be greater than 0"),
    ("bart", "compacter", {"phm": 5, "rank": 10}, r"widths \d+ and \d+ are not both divisible by phm 5"),
    ("bart", "compacter", {"phm": 4, "rank": 6}, "rank 6 is not divisible by phm 4"),
    ("bart", "vl-adapter", {"factor": -1}, "greater than or equal to 0"),
    *(
        ("bart", "lora", {"rank": rank}, r"rank: expected at most 1,000,000 \(given: 1")
        for rank in (10**7, 10**30, 1e30)
    ),
    ("bart", "lora", {"alpha": 1e300}, "alpha: expected at most 1,000,000"),
    ("bart", "prompt", {"length": 0}, "length: Input should be greater than or equal to 1"),
    ("bart", "hyperformer", {"e": 1}, "e: Input should be greater than or equal to 2"),
    ("bart", "bitfit", {"add_missing": True}, "add_missing is for T5"),
    ("t5", "bitfit", {"biases": "enc"}, "leave biases at 'all'"),
    ("t5", "lora", {"biases": "dec.ff.out"}, r"T5 has no bias at dec\.ff\.out"),
    ("t5", "vl-pet-large", {"biases": "enc.sa.q+dec"}, r"T5 has no bias at enc\.sa\.q"),
    ("t5", "vl-pet-large", {"rank": 6}, "rank 6 is not divisible by heads 4"),
]
ON_T5_SMALL = [  # where V is 384 wide and E 512
    ("vl-pet-large", {"decoder": "value-residual"}, r"at dec\.xa\.v: X has width 512 and H 384"),
    ("vl-pet-large", {"decoder": "value-gated"}, r"at dec\.xa\.v: X has width 512 and H 384"),
    ("vl-pet-middleX", {"encoder": "enc.sa.v"}, r"at enc\.sa\.v: .*one width.* 512 and 384"),
    ("compacter", {"at": ("dec.xa.v",), "phm": 5, "rank": 10}, "widths 384 and 384"),
]


@pytest.mark.parametrize("family, name, options, reason", BAD)
def test_the_spec_says_why(family, name, options, reason):
    with pytest.raises(MethodError, match=f"{name}.*{reason}"):
        methods.get(name, **options).spec(SHAPES[family])


@pytest.mark.parametrize("name, options, reason", ON_T5_SMALL)
def test_widths_that_do_not_go_together(name, options, reason):
    with pytest.raises(MethodError, match=f"{name}.*{reason}"):
        methods.get(name, **options).spec(SHAPES["t5"])


@pytest.mark.parametrize("family, name, options, reason", BAD)
def test_a_run_is_refused_when_it_is_planned(family, name, options, reason):
    settings = {f"method.{key}": value for key, value in options.items()}
    with pytest.raises(MethodError, match=f"{name}.*{reason}"):
        resolve(f"mini-{family}", name, "image-text", settings=settings)


def test_planning_does_not_import_torch(repo):
    """Good runs and bad ones, in a fresh process."""
    code = f"""
import sys
from bench.config import resolve
from methods import MethodError, names
for family in ("bart", "t5"):
    for name in names():
        resolve("mini-" + family, name, "image-text")
for family, name, options, reason in {BAD!r}:
    try:
        resolve("mini-" + family, name, "image-text", settings={{"method." + k: v for k, v in options.items()}})
    except MethodError as error:
        assert "\\n" not in str(error)
    else:
        raise AssertionError((name, options))
sys.exit("torch" in sys.modules or "transformers" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@given(st.integers(1, 12), st.integers(1, 40), st.sampled_from(["down", "up", "down_up", "pair"]))
def test_heads_divide_what_they_split(heads, rank, arrange):
    """The down-projection's rows are the rank, the up-projection's the width."""
    splits = {"down": [rank], "up": [768], "down_up": [rank, 768], "pair": [rank, 768]}[arrange]
    possible = all(size % heads == 0 for size in splits)
    try:
        methods.get("vl-pet-large", heads=heads, rank=rank, arrange=arrange).spec(SHAPES["bart"])
    except MethodError as error:
        assert not possible and "not divisible by heads" in str(error)
    else:
        assert possible
