"""Parameter counts on the real shapes, without weights: integers, and the papers' percentages."""

from types import SimpleNamespace

import pytest
import torch
from tiny_models import BARE, Projector, Wrapper
from transformers import BartForConditionalGeneration, T5ForConditionalGeneration
from transformers.models.bart import BartConfig
from transformers.models.t5 import T5Config

import methods


def base(family: str, feat_dim: int) -> Wrapper:
    """bart-base or t5-base with the vocabulary of the VL models, on the meta device."""
    with torch.device("meta"):
        if family == "bart":
            sizes = dict(encoder_layers=6, decoder_layers=6, encoder_attention_heads=12, decoder_attention_heads=12)
            config = BartConfig(d_model=768, encoder_ffn_dim=3072, decoder_ffn_dim=3072, vocab_size=50465, **sizes)
            return Wrapper(BartForConditionalGeneration(config), feat_dim)
        config = T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12, vocab_size=32200)
        return Wrapper(T5ForConditionalGeneration(config), feat_dim)


@pytest.fixture(scope="module")
def backbones():
    return {(family, feat_dim): base(family, feat_dim) for family in ("bart", "t5") for feat_dim in (2048, 512)}


IMAGE = [
    ("bart", "full", 141_156_864, 141_156_864, "100.00"),
    ("bart", "projector-only", 1_582_848, 141_156_864, "1.12"),
    ("bart", "bitfit", 1_708_800, 141_156_864, "1.21"),
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
    ("t5", "lora", 18_170_112, 241_128_960, "7.54"),
    ("t5", "vl-adapter", 19_333_632, 242_292_480, "7.98"),
    ("t5", "vl-pet-small", 10_518_168, 233_457_816, "4.51"),
    ("t5", "vl-pet-middleX", 10_499_736, 233_439_384, "4.50"),
    ("t5", "vl-pet-middleY", 10_499_712, 233_439_360, "4.50"),
    ("t5", "vl-pet-large", 17_582_208, 240_521_856, "7.31"),
]
VIDEO = [
    ("bart", "bitfit", 529_152, "0.38"),
    ("bart", "compacter", None, "1.89"),
    ("bart", "lora", None, "5.17"),
    ("bart", "vl-adapter", 4_901_952, "3.39"),
    ("bart", "vl-pet-small", 3_111_372, "2.18"),
    ("bart", "vl-pet-middleX", None, "2.17"),
    ("bart", "vl-pet-large", 4_872_768, "3.37"),
]


def count(model, method) -> methods.Count:
    handle = methods.attach(model, method)
    try:
        return handle.count()
    finally:
        handle.detach()


@pytest.mark.parametrize("family, name, trainable, total, percent", IMAGE)
def test_image_text_counts(backbones, family, name, trainable, total, percent):
    counted = count(backbones[family, 2048], name)
    assert (counted.trainable, counted.total, f"{counted.percent:.2f}") == (trainable, total, percent)


@pytest.mark.parametrize("family, name, trainable, percent", VIDEO)
def test_video_text_counts(backbones, family, name, trainable, percent):
    counted = count(backbones[family, 512], name)
    assert trainable in (None, counted.trainable)
    assert f"{counted.percent:.2f}" == percent


def test_houlsby_and_lora_with_gates(backbones):
    def a(r: int) -> int:
        return 2 * 768 * r + r + 768

    projector, encoder_norms = 1_582_848, 13 * 2 * 768
    model = backbones["bart", 2048]
    assert count(model, "adapter").trainable == projector + 24 * a(48)
    assert count(model, methods.get("adapter", cross_adapter=True)).trainable == projector + 30 * a(48)
    houlsby = projector + 18 * a(48) + 12 * a(96) + encoder_norms
    assert count(model, "adapter+vl-pet-large").trainable == houlsby
    lora = 18 * 2 * 768 * 128
    assert count(model, "lora+vl-pet-large").trainable == projector + lora + 12 * a(96) + encoder_norms


def test_bitfit_on_t5_by_the_substring_rule(backbones):
    counted = count(backbones["t5", 2048], methods.get("bitfit", add_missing=False))
    assert (counted.new, counted.unfrozen) == (0, 2 * 32 * 12)
    assert f"{counted.percent:.2f}" == "0.70"


def test_pair_arrangement_has_fewer_parameters(backbones):
    model = backbones["bart", 2048]
    pair, down = (count(model, methods.get("vl-pet-large", arrange=arrange)).new for arrange in ("pair", "down"))
    assert down - pair == 12 * (148_320 - 93_024)


def test_parts_of_a_count_add_up(backbones):
    for name in BARE:
        counted = count(backbones["t5", 512], name)
        assert counted.trainable == counted.new + counted.unfrozen + counted.projector
        constants = 72 if name == "peft:adalora" else 0  # PEFT keeps the rank of each matrix in a frozen parameter
        assert counted.total == counted.backbone + counted.new + 401_664 + constants
        assert counted.backbone == 222_958_848
        assert counted.percent_of_backbone == 100 * counted.trainable / 222_958_848


def test_the_borrowed_word_embedding_is_not_the_projectors():
    """Object order is looked up in the word embedding, which stays frozen."""
    model = base("bart", 2048)
    assert isinstance(model.visual_embedding, Projector)
    methods.attach(model, "projector-only")
    assert not model.visual_embedding.object_order.weight.requires_grad


def test_shape_reads_a_config_without_torch():
    config = SimpleNamespace(model_type="t5", d_model=512, d_ff=1024, num_heads=6, d_kv=64, num_layers=8,
                             num_decoder_layers=8, vocab_size=32128)  # fmt: skip
    assert methods.Shape.of(config).inner == 384
