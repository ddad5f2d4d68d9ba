"""CLIP's ResNet against torch's own attention and batch normalisation, and its weights in the published forms."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from bench import encoders
from bench.encoders import ImagePreprocessing
from bench.encoders.clip_rn101 import ModifiedResNet
from bench.errors import UsageError


def random_network(**sizes) -> ModifiedResNet:
    """A network whose normalisations are no identities."""
    torch.manual_seed(0)
    network = ModifiedResNet(**sizes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    nn.init.normal_(network.attnpool.positional_embedding, std=0.1)
    return network.eval()


@pytest.fixture(scope="module")
def network() -> ModifiedResNet:
    return random_network()


def test_the_published_shapes_and_number_of_parameters(network: ModifiedResNet) -> None:
    pixels = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert network.grid(pixels).shape == (2, 49, 2048)
        assert network.embedding(pixels).shape == (2, 512)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(56.26e6, rel=1e-3)  # as open_clip lists it


def test_attention_pooling_is_torchs_attention() -> None:
    pool = random_network(layers=(1, 1, 1, 1), width=8, pixels=64, outputs=10).attnpool
    grid = torch.randn(3, 4, 256)
    tokens = (torch.cat([grid.mean(1, keepdim=True), grid], 1) + pool.positional_embedding).transpose(0, 1)
    expected, _ = nn.functional.multi_head_attention_forward(
        tokens[:1],
        tokens,
        tokens,
        256,
        4,
        None,
        torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        None,
        None,
        False,
        0.0,
        pool.c_proj.weight,
        pool.c_proj.bias,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
        need_weights=False,
    )
    torch.testing.assert_close(pool(grid), expected[0])


def test_a_place_of_the_grid_is_that_part_of_the_picture() -> None:
    """Rows go line by line: what changes in the upper right corner changes the row of the upper right place most."""
    network = random_network(layers=(1, 1, 1, 1), width=8, pixels=128)
    pixels = torch.randn(1, 3, 128, 128)
    changed = pixels.clone()
    changed[:, :, :32, 96:] += 2.0
    with torch.inference_mode():
        difference = (network.grid(changed) - network.grid(pixels)).abs().sum(-1)[0]
    assert difference.argmax() == 3


class Tower(nn.Module):
    """The image tower under the name that it has in CLIP."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        self.logit_scale = nn.Parameter(torch.ones(()))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.visual.conv1(pixels)


def save(form: str, network: ModifiedResNet, path: Path) -> None:
    tower = Tower(network)
    half = {name: value.half() if value.is_floating_point() else value for name, value in tower.state_dict().items()}
    if form == "RN101.pt":
        torch.jit.trace(tower, torch.zeros(1, 3, 8, 8), check_trace=False).save(path)
    elif form == "RN101-state.pt":
        torch.save(half, path)
    else:
        save_file(half, path)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["RN101.pt", "RN101-state.pt", "RN101.safetensors"])
def test_weights_load_from_the_forms_in_which_they_are_published(
    form: str, network: ModifiedResNet, tmp_path: Path
) -> None:
    save(form, network, tmp_path / form)
    loaded = encoders.load("clip-rn101", tmp_path / form)
    pixels = torch.from_numpy(loaded.preprocessing(Image.new("RGB", (300, 200), (200, 30, 90)))[None])
    with torch.inference_mode():
        torch.testing.assert_close(loaded.network.grid(pixels), network.grid(pixels), rtol=0.02, atol=0.02)
    assert form in loaded.weights


def test_other_weights_are_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with pytest.raises(UsageError, match=r"--weights FILE"):
        encoders.load("clip-rn101")
    with pytest.raises(UsageError, match=r"w\.pt: no such file"):
        encoders.load("clip-rn101", path)
    path.write_bytes(b"not weights")
    with pytest.raises(UsageError, match=r"w\.pt: not readable weights"):
        encoders.load("clip-rn101", path)
    torch.save({"visual.conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(UsageError, match=r"w\.pt: not the weights of an RN101 \(visual\."):
        encoders.load("clip-rn101", path)


def test_preprocessing_is_that_of_the_librarys_processor_without_its_crop() -> None:
    """Resized straight to 224 x 224, bicubic, and normalised as CLIP does."""
    from transformers import CLIPImageProcessor

    processor = CLIPImageProcessor(size={"height": 224, "width": 224}, do_center_crop=False)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 301, 3), np.uint8).astype(np.uint8))
    expected = processor(picture, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(ImagePreprocessing(224)(picture), expected, atol=1e-5)
