"""Vision models of transformers as encoders: their own outputs, of tiny random models of the real architectures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench import encoders
from bench.errors import UsageError

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8).astype(np.uint8))


def save_clip(folder: Path):
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
        projection_dim=24,
    )
    model = CLIPVisionModelWithProjection(config).eval()
    model.save_pretrained(folder)
    processor = CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    processor.save_pretrained(folder)
    return model, processor


def test_clips_vit_gives_its_projected_embedding_and_its_patches(tmp_path: Path) -> None:
    model, processor = save_clip(tmp_path)
    loaded = encoders.load("clip-vit-b32", tmp_path)
    pixels = loaded.preprocessing(PICTURE)
    np.testing.assert_array_equal(pixels, processor(PICTURE, return_tensors="np")["pixel_values"][0])
    batch = torch.from_numpy(pixels[None])
    with torch.inference_mode():
        output = model(pixel_values=batch)
        torch.testing.assert_close(loaded.network.embedding(batch), output.image_embeds)
        torch.testing.assert_close(loaded.network.grid(batch), output.last_hidden_state[:, 1:])
    assert loaded.network.grid(batch).shape == (1, 16, 32)


def test_a_convolutional_network_gives_its_last_map_line_by_line(tmp_path: Path) -> None:
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetModel

    torch.manual_seed(0)
    model = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")).eval()
    model.save_pretrained(tmp_path)
    ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=1.0).save_pretrained(tmp_path)
    loaded = encoders.load(str(tmp_path))
    batch = torch.from_numpy(loaded.preprocessing(PICTURE)[None])
    with torch.inference_mode():
        output = model(pixel_values=batch)
        grid = loaded.network.grid(batch)
        torch.testing.assert_close(grid[0, 1], output.last_hidden_state[0, :, 0, 1])
        torch.testing.assert_close(loaded.network.embedding(batch), output.pooler_output.flatten(1))


def test_what_is_no_vision_model_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no vision model of transformers in .*name a folder or a repository"):
        encoders.load(str(tmp_path))
