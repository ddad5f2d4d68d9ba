"""Names, options and third-party methods."""

import pickle
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import methods
from methods import MethodError, Shape
from methods.core.spec import SITES, Bottleneck, Patch

BART = Shape("bart", d=768, ff=3072, heads=12, inner=768, encoder_layers=6, decoder_layers=6, vocab=50465)
T5 = Shape("t5", d=768, ff=3072, heads=12, inner=768, encoder_layers=12, decoder_layers=12, vocab=32200)


def test_every_method_has_what_the_benchmark_asks_of_it():
    names = methods.names()
    assert len(set(names)) == len(names)
    assert names[0] == "full"
    for name in names:
        chosen = methods.get(name)
        assert chosen.name == name
        assert chosen.describe
        for shape in (BART, T5):
            assert chosen.spec(shape).data()
            for suite in ("image-text", "video-text"):
                assert 0 < chosen.optim(shape.family, suite).lr < 0.1


def test_recipe_values():
    assert methods.get("full").optim("bart", "image-text") == methods.OptimizerSettings(1e-4, 0.01, task_prefix=False)
    assert methods.get("vl-pet-large").optim("bart", "video-text").lr == 7e-4
    assert methods.get("vl-pet-small").optim("t5", "image-text").lr == 3e-4
    assert methods.get("vl-adapter").optim("bart", "video-text").lr == 3e-4


def test_aliases_lead_to_the_name():
    assert methods.get("vl-pet-middle").name == "vl-pet-middleX"
    assert "vl-pet-middle" not in methods.names()


def test_unknown_names_get_near_matches():
    with pytest.raises(MethodError, match="did you mean 'vl-pet-large'"):
        methods.get("vl-pet-lrage")
    with pytest.raises(MethodError, match="no option 'rnak'; did you mean 'rank'"):
        methods.get("lora", rnak=3)
    with pytest.raises(MethodError, match=r"unknown site 'enc\.sa\.ot'; did you mean 'enc\.sa\.out'"):
        Patch(at=("enc.sa.ot",), scale=2.0)


@pytest.mark.parametrize("option, value", [("rank", "many"), ("rank", -1), ("gate", "huge"), ("scale", [1])])
def test_values_of_the_wrong_type_are_refused(option, value):
    with pytest.raises(MethodError, match=f"vl-pet-large.*{option}"):
        methods.get("vl-pet-large", **{option: value})


def test_fields_that_do_not_exist_are_refused():
    with pytest.raises(MethodError, match=r"Bottleneck\.width"):
        Bottleneck(r=4, width=3)


def test_overrides_are_canonical():
    assert methods.get("vl-pet-large", norms="enc", heads="4").overrides == {}
    assert methods.get("vl-pet-large", scale=1.0).overrides == {"scale": 1.0}  # 0.3 is the default on T5
    assert methods.get("vl-pet-large", rank=96).overrides == {"rank": 96}  # a default rank follows the width
    one, other = methods.get("lora", dropout=0, rank=8), methods.get("lora", rank="8", dropout=0.0)
    assert one == other and hash(one) == hash(other)


@given(st.sampled_from(methods.names()), st.sampled_from([32, 64, 96, 128, 256, 512, 768, 1024]), st.booleans())
def test_defaults_fit_every_width(name, d, is_t5):
    shape = Shape("t5" if is_t5 else "bart", d, 4 * d, 4, d, 2, 2, 100)
    options = methods.get(name).options(shape)
    assert methods.get(name).spec(shape) == methods.get(name, **options).spec(shape)
    if "rank" in options:
        full = methods.get(name).options(T5 if is_t5 else BART)["rank"]
        assert options["rank"] == max(4, full * d // 768)


@given(st.integers(1, 300))
def test_an_overridden_rank_is_taken_as_it_is(rank):
    mini = Shape("bart", 96, 192, 4, 96, 2, 2, 100)
    assert methods.get("vl-adapter", rank=rank).spec(mini).parts[0].delta.r == rank


def test_chosen_methods_travel_between_processes():
    chosen = methods.get("vl-pet-small", rank=8)
    assert pickle.loads(pickle.dumps(chosen)).spec(BART) == chosen.spec(BART)


def test_specs_compare_and_tell_themselves_apart():
    one, other = methods.get("vl-pet-large").spec(BART), methods.get("vl-pet-small").spec(BART)
    assert one == methods.get("vl-pet-large").spec(BART)
    assert one != other and one.data() != other.data()
    assert set(site for part in one.parts for site in part.at) <= set(SITES)


FAMILIES = {
    "reference": ["full", "projector-only"],
    "VL-PET": [f"vl-pet-{size}" for size in ("small", "middleX", "middleY", "large")],
    "enhanced": ["lora+vl-pet-large", "compacter+vl-pet-small", "ia3+vl-pet-middleX", "adapter+vl-pet-middleY"],
    "adapter": [
        "adapter",
        "pfeiffer",
        "parallel",
        "vl-adapter-half-up",
        "compacter-original",
        "uniadapter",
        "read",
        "adamix",
    ],
    "low rank": ["lora", "lora-multiple", "peft:lora", "peft:dora", "peft:adalora", "peft:vera", "peft:deft"],
    "scale and bias": ["bitfit", "ia3", "clipfit", "peft:ia3", "peft:beft", "peft:ln", "peft:road"],
    "prompt": ["prompt", "prompt-multiple", "peft:prefix"],
    "side network": ["lst"],
    "other": ["adem-vl", "grasp-vl", "peft:oft", "peft:fourierft"],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_stand_in_families(family):
    assert {methods.get(name).family for name in FAMILIES[family]} == {family}


def test_every_method_has_one_of_the_families():
    assert {methods.get(name).family for name in methods.names()} == set(FAMILIES)


def test_optimiser_settings_fall_back_from_suite_to_backbone_to_the_default():
    large = methods.get("vl-pet-large")
    assert large.optim("bart", "image-text").lr == 1e-3
    assert (
        large.optim("t5", "image-text") == large.optim("t5", "a-suite-of-a-plugin") == methods.OptimizerSettings(3e-4)
    )
    assert large.optim("bart", "a-suite-of-a-plugin") == methods.DEFAULT_OPTIMIZER
    assert methods.get("full").optim("bart", "a-suite-of-a-plugin").lr == 3e-5
    assert large.optim("another", "image-text") == methods.DEFAULT_OPTIMIZER


PLUGIN = '''
from methods.core.registry import Rank, method
from methods.core.spec import Bottleneck, Delta, Patch, Spec


class Twice(Delta):
    """ΔH = H."""

    def build(self, d_in, d_out, make):
        from torch import nn

        return nn.Identity()


@method("twice")
def twice(shape, *, rank: Rank = 96) -> Spec:
    """Doubles the encoder's FFN output and trains a bottleneck there."""
    return Spec(parts=(Patch(at=("enc.ff.out",), delta=Twice()), Patch(at=("enc.ff.out",), delta=Bottleneck(r=rank))))
'''


def test_a_third_party_method_is_one_file(tmp_path, repo):
    """A module with a new kind of ΔH and an entry point; nothing else is edited."""
    (tmp_path / "twice_plugin.py").write_text(PLUGIN)
    info = tmp_path / "twice-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: twice\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vlpet_bench.methods]\ntwice = twice_plugin\nbroken = no_such_module\n")
    code = f"""
import sys, warnings; sys.path[:0] = [{str(tmp_path)!r}, {str(repo)!r}, {str(repo / "tests" / "methods")!r}]
import methods, torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert "twice" in methods.names()
assert methods.get("twice").family == "other"
assert methods.get("twice").optim("t5", "image-text") == methods.DEFAULT_OPTIMIZER
assert any("no_such_module" in str(w.message) for w in caught)
assert "methods.core.attach" not in sys.modules
from tiny_models import language_model
lm = language_model("t5")
block = lm.encoder.block[0].layer[1]
x = torch.randn(1, 2, 32)
plain = block(x) - x
methods.attach(lm, methods.get("twice", rank=4))
with torch.no_grad():
    for p in lm.pet.parameters(): p.zero_()
torch.testing.assert_close(block(x) - x, 2 * plain)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


CLASH = """
from methods.core.registry import method
from methods.core.spec import Spec


@method("of a plug-in")
def first(shape) -> Spec:
    return Spec()


@method("lora")
def lora(shape) -> Spec:
    return Spec()
"""
BROKEN = CLASH.replace('"lora"', '"another"')


@pytest.mark.parametrize(
    ("module", "printed"),
    [
        (CLASH, "two methods are called 'lora': that of module methods.lora, and that of module a_plugin;"),
        (BROKEN + "raise ValueError('too late')", "entry point 'a_plugin'.* is left out: too late"),
        (BROKEN + "raise SystemExit('no')", "entry point 'a_plugin'.* is left out: no"),
    ],
    ids=["clash", "broken", "exits"],
)
def test_a_clash_is_an_error_and_a_broken_plug_in_is_left_out_whole(tmp_path, repo, module, printed):
    (tmp_path / "a_plugin.py").write_text(module)
    info = tmp_path / "a-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vlpet_bench.methods]\na = a_plugin\n")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(repo)!r}]\nfrom bench.cli import main\n"
    code += "codes = main(['methods', '--backbone', 'mini-bart']), main(['sweep', '--dry-run'])\n"
    code += "import methods; left = [n for n in ('of a plug-in', 'another') if n in methods.core.registry._entries]\n"
    code += "print(codes, left)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = (2, 2) if module is CLASH else (0, 0)
    assert done.stdout.splitlines()[-1] == f"{expected} []"
    assert re.search(printed, done.stderr) and "Traceback" not in done.stderr


def test_names_come_without_torch(repo):
    code = "import sys, methods; methods.names(); sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repo, check=False).returncode == 0


def test_task_context_nests():
    from methods.core import context

    outside = context.current_task()
    with context.task("vqa"):
        with context.task("gqa"):
            assert context.current_task() == "gqa"
        assert context.current_task() == "vqa"
    assert context.current_task() == outside
