"""Parameter counts on the real shapes, without weights: integers, and the papers' percentages."""

from types import SimpleNamespace

import pytest

import methods
from bench import backbones
from methods.vl_pet import Decoder


@pytest.fixture(scope="module")
def models():
    """bart-base and t5-base with image and video features, on the meta device."""
    sizes = [(family, feat_dim) for family in ("bart", "t5") for feat_dim in (2048, 512)]
    return {size: backbones.build(f"{size[0]}-base", feat_dim=size[1], device="meta") for size in sizes}


IMAGE = [
    ("bart", "full", 141_156_864, 141_156_864, "100.00"),
    ("bart", "projector-only", 1_582_848, 141_156_864, "1.12"),
    ("bart", "bitfit", 1_708_800, 141_156_864, "1.21"),
    ("bart", "prompt", 2_843_936, 142_417_952, "2.00"),
    ("bart", "prompt-multiple", 6_627_200, 146_201_216, "4.53"),
    ("bart", "compacter", 3_870_240, 143_395_104, "2.70"),
    ("bart", "ia3", 1_647_360, 141_221_376, "1.17"),
    ("bart", "compacter+vl-pet-small", 2_964_204, 142_518_252, "2.08"),
    ("bart", "compacter+vl-pet-middleX", 2_954_988, 142_509_036, "2.07"),
    ("bart", "compacter+vl-pet-middleY", 2_954_976, 142_509_024, "2.07"),
    ("bart", "compacter+vl-pet-large", 4_725_600, 144_279_648, "3.28"),
    ("bart", "hyperformer", 8_579_088, 148_103_952, "5.79"),
    ("bart", "lora", 8_786_688, 148_234_752, "5.93"),
    ("bart", "lora-multiple", 30_020_352, 169_468_416, "17.71"),
    ("bart", "vl-adapter-multiple", 19_430_400, 158_955_264, "12.22"),
    ("bart", "vl-adapter-half-up", 12_725_760, 152_250_624, "8.36"),
    ("bart", "vl-adapter-half-down", 12_786_240, 152_311_104, "8.39"),
    ("bart", "compacter-multiple", 10_584_960, 150_109_824, "7.05"),
    ("bart", "vl-adapter", 6_081_600, 145_606_464, "4.18"),
    ("bart", "vl-pet-small", 4_291_020, 143_845_068, "2.98"),
    ("bart", "vl-pet-middleX", 4_281_804, 143_835_852, "2.98"),
    ("bart", "vl-pet-middleY", 4_281_792, 143_835_840, "2.98"),
    ("bart", "vl-pet-large", 6_052_416, 145_606_464, "4.16"),
    ("bart", "vl-adapter+vl-pet-small", 4_291_020, 143_845_068, "2.98"),
    ("bart", "vl-adapter+vl-pet-middleX", 4_281_804, 143_835_852, "2.98"),
    ("bart", "vl-adapter+vl-pet-middleY", 4_281_792, 143_835_840, "2.98"),
    ("bart", "vl-adapter+vl-pet-large", 6_052_416, 145_606_464, "4.16"),
    ("t5", "full", 224_540_160, 224_540_160, "100.00"),
    ("t5", "projector-only", 1_581_312, 224_540_160, "0.70"),
    ("t5", "bitfit", 1_865_416, 224_824_264, "0.83"),
    ("t5", "prompt", 2_842_400, 225_801_248, "1.26"),
    ("t5", "lora", 18_170_112, 241_128_960, "7.54"),
    ("t5", "vl-adapter", 19_333_632, 242_292_480, "7.98"),
    ("t5", "vl-pet-small", 10_518_168, 233_457_816, "4.51"),
    ("t5", "vl-pet-middleX", 10_499_736, 233_439_384, "4.50"),
    ("t5", "vl-pet-middleY", 10_499_712, 233_439_360, "4.50"),
    ("t5", "vl-pet-large", 17_582_208, 240_521_856, "7.31"),
]
VIDEO = [
    ("bitfit", 529_152, "0.378"),
    ("prompt", None, "1.178"),
    ("compacter", None, "1.892"),
    ("lora", None, "5.173"),
    ("vl-adapter", 4_901_952, "3.394"),
    ("vl-pet-small", 3_111_372, "2.181"),
    ("vl-pet-middleX", None, "2.175"),
    ("vl-pet-middleY", None, "2.175"),
    ("vl-pet-large", 4_872_768, "3.374"),
]
# What is trained beside the projector (1 582 848 on BART, 1 581 312 on T5), with a(r) = 2 d r + r + d: a(96) = 148 320,
# a(48) = 74 544, a(192) = 295 872. VL-PET-large on BART has 24 a + 6 a + 13 norms of 2 d.
OPTIONS = [
    ("bart", "vl-pet-large", {"arrange": "pair"}, 4_469_568 - 12 * (148_320 - 93_024)),
    ("bart", "vl-pet-large", {"arrange": "down_up"}, 4_469_568),
    ("bart", "vl-pet-large", {"gate": "large-full"}, 18 * 148_320 + 19_968 + 12 * (768**2 + 768)),
    ("bart", "vl-pet-large", {"gate": "none"}, 2_689_728),
    ("bart", "vl-pet-large", {"gate": "self"}, 2_689_728),
    ("bart", "vl-pet-large", {"gate": "l2norm"}, 2_689_728),
    ("bart", "vl-pet-large", {"gate": "layernorm"}, 2_689_728 + 12 * 1_536),
    ("bart", "vl-pet-large", {"gate": "small-figure"}, 2_689_728 + 12 * 1_537),
    ("bart", "vl-pet-large", {"gate": "middleX-figure"}, 2_689_728 + 12 * 769),
    ("bart", "vl-pet-large", {"gate": "middleY-figure"}, 2_689_728 + 12 * 768),
    ("bart", "vl-pet-large", {"delta": "none"}, 2_689_728),
    ("bart", "vl-pet-large", {"gate_input": "cat(x,hhat)"}, 4_469_568 + 12 * 768 * 96),
    ("bart", "vl-pet-large", {"gate_rank": 48}, 18 * 148_320 + 12 * 74_544 + 19_968),
    ("bart", "vl-pet-large", {"rank": 192}, 12 * 295_872 + 18 * 148_320 + 19_968),
    ("bart", "vl-pet-large", {"decoder_rank": 48}, 24 * 148_320 + 6 * 74_544 + 19_968),
    ("bart", "vl-pet-large", {"decoder_heads": 2, "quirk": "unused-value-heads"}, 4_469_568),
    ("bart", "vl-pet-large", {"encoder": "sa"}, 18 * 148_320 + 19_968),
    ("bart", "vl-pet-large", {"encoder": "none"}, 6 * 148_320 + 19_968),
    ("bart", "vl-pet-large", {"layers": (0, 5)}, 14 * 148_320 + 19_968),
    ("bart", "vl-pet-large", {"norms": "none"}, 4_449_600),
    ("bart", "vl-pet-large", {"norms": "all"}, 4_449_600 + 49_152),
    ("bart", "vl-pet-large", {"norms": "dec"}, 4_449_600 + 19 * 1_536),
    ("bart", "vl-pet-large", {"norms": "enc.sa+dec.xa"}, 4_449_600 + 12 * 1_536),
    ("bart", "vl-pet-large", {"norms": "enc.end"}, 4_449_600 + 1_536),
    ("bart", "vl-pet-large", {"biases": "all"}, 4_469_568 + 125_952 - 13 * 768),  # some norms' biases are in both
    ("bart", "bitfit", {"biases": "enc"}, 6 * (7 * 768 + 3072) + 768),
    ("bart", "bitfit", {"biases": "dec"}, 6 * (12 * 768 + 3072) + 768),
    ("bart", "bitfit", {"biases": "enc.ff.out"}, 6 * 768),
    ("bart", "compacter", {"phm": 4}, 30 * 37_856 + 49_152),
    ("bart", "compacter", {"phm_rank": 1}, 30 * (16 + 2 * 864 + 864) + 49_152),
    ("bart", "compacter", {"phm_shared": True}, 30 * (74_608 - 16) + 8 + 49_152),
    ("bart", "compacter-original", {}, 64 + 30 * (2 * 792 + 792) + 49_152),
    ("bart", "vl-adapter", {"factor": 1}, 30 * (2 * 864 + 864) + 49_152),
    ("bart", "vl-adapter", {"ln_before": True, "ln_after": True}, 30 * (148_320 + 2 * 1_536) + 49_152),
    ("bart", "adapter", {}, 24 * 74_544),
    ("bart", "adapter", {"cross_adapter": True, "norms": "all"}, 30 * 74_544 + 49_152),
    ("bart", "pfeiffer", {}, 12 * 74_544),
    ("bart", "parallel", {}, 12 * 590_976),
    ("bart", "prompt", {"length": 10}, 10 * 768 + 615_200 + 615_168),
    ("bart", "lora", {"rank": 4}, 221_184 + 125_952),
    ("bart", "lora", {"biases": "none"}, 7_077_888),
    ("bart", "hyperformer", {"norms": "none"}, 6_947_088),
    ("bart", "adapter+vl-pet-large", {}, 18 * 74_544 + 12 * 148_320 + 19_968),
    ("bart", "lora+vl-pet-large", {}, 3_538_944 + 12 * 148_320 + 19_968),
    ("bart", "ia3+vl-pet-middleY", {}, 6 * (2 * 768 + 3072) + 6 * 768 + 12 * 768 + 19_968),
    ("t5", "vl-pet-large", {"arrange": "pair"}, 16_000_896 - 24 * (295_872 - 185_280)),
    ("t5", "vl-pet-large", {"gate": "large-full"}, 16_000_896 + 24 * (590_592 - 295_872)),
    ("t5", "vl-pet-large", {"norms": "all"}, 16_000_896 - 19_200 + 47_616),
    ("t5", "vl-adapter", {"norms": "all"}, 60 * 295_872 + 47_616),
    ("t5", "compacter", {}, 60 * 74_608),
    ("t5", "hyperformer", {}, 6_953_232),
    ("t5", "ia3", {}, 129_024),
    ("t5", "prompt-multiple", {}, 4 * 1_261_088),
    ("t5", "lora-multiple", {}, 4 * 16_588_800),
    ("t5", "bitfit", {"add_missing": False}, 2 * 384),
]
# The decoder's share of VL-PET-large on BART-base, d = 768 and f = 3072.
DECODERS: dict[str, int] = {name: 6 * 148_320 for name in Decoder.__args__} | {
    "none": 0, "value-residual": 0, "attention-gated": 12 * 148_320, "outputs": 18 * 148_320,
    "value-ia3": 6 * 768, "value-ia3-add": 6 * 768, "ff-ia3": 6 * 3072, "ff-ia3-add": 6 * 3072,
}  # fmt: skip


def count(model, name: str, **options) -> methods.Count:
    handle = methods.attach(model, methods.get(name, **options))
    try:
        return handle.count()
    finally:
        handle.detach()


@pytest.mark.parametrize("family, name, trainable, total, percent", IMAGE)
def test_image_text_counts(models, family, name, trainable, total, percent):
    counted = count(models[family, 2048], name)
    assert (counted.trainable, counted.total, f"{counted.percent:.2f}") == (trainable, total, percent)


@pytest.mark.parametrize("name, trainable, percent", VIDEO)
def test_video_text_counts(models, name, trainable, percent):
    counted = count(models["bart", 512], name)
    assert trainable in (None, counted.trainable)
    assert f"{counted.percent:.3f}" == percent


@pytest.mark.parametrize("family, name, options, beside", OPTIONS)
def test_options_count_as_their_formulas(models, family, name, options, beside):
    counted = count(models[family, 2048], name, **options)
    assert counted.projector == {"bart": 1_582_848, "t5": 1_581_312}[family]
    assert counted.new + counted.unfrozen == beside


@pytest.mark.parametrize("name", DECODERS)
def test_decoder_placements(models, name):
    counted = count(models["bart", 2048], "vl-pet-large", decoder=name)
    assert counted.new == 24 * 148_320 + DECODERS[name]


@pytest.mark.parametrize("gate, feature_map", [("none", 271_200), ("mul", 542_400), ("residual", 542_400)])
def test_low_rank_projector(models, gate, feature_map):
    """In the place of the feature Linear's 1 573 632."""
    counted = count(models["bart", 2048], "projector-only", projector="lowrank", projector_gate=gate)
    assert counted.trainable == 1_582_848 - 1_573_632 + feature_map
    assert counted.total == 141_156_864 - 1_573_632 + feature_map


def test_vl_adapter_on_t5_is_the_papers_without_norms(models):
    with_norms = count(models["t5", 2048], "vl-adapter", norms="all")
    assert f"{with_norms.percent:.2f}" == "8.00"  # the paper has 7.98


def test_parts_of_a_count_add_up(models):
    for name in methods.names():
        counted = count(models["t5", 512], name)
        assert counted.trainable == counted.new + counted.unfrozen + counted.projector
        constants = 72 if name == "peft:adalora" else 0  # PEFT keeps the rank of each matrix in a frozen parameter
        assert counted.total == counted.backbone + counted.new + 401_664 + constants
        assert counted.backbone == 222_958_848
        assert counted.percent_of_backbone == 100 * counted.trainable / 222_958_848


def test_the_borrowed_word_embedding_is_not_the_projectors(models):
    """Object order is looked up in the word embedding, which stays frozen."""
    model = models["bart", 2048]
    handle = methods.attach(model, "projector-only")
    assert not model.visual_embedding.obj_order_embedding.weight.requires_grad
    handle.detach()


def test_shape_reads_a_config_without_torch():
    config = SimpleNamespace(model_type="t5", d_model=512, d_ff=1024, num_heads=6, d_kv=64, num_layers=8,
                             num_decoder_layers=8, vocab_size=32128)  # fmt: skip
    assert methods.Shape.of(config).inner == 384
