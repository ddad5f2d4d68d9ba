"""What a run needs of a machine, before it has run anywhere: generous estimates, for requests to a scheduler."""

import math
from collections.abc import Sequence

from bench import backbones
from bench.config import Execution, Run, is_mini

BASE = 2**30  # bytes of a Python process with torch and transformers; twice that on a GPU, for CUDA's libraries
COPIES = 3  # of the weights in host memory while they are read: file, state dict, model
TOKENS = 40  # of text in a source and a target, beside the visual ones
TUNED = 0.15  # part of the weights that a PET method trains at most; "full" trains all


def gpus(runs: Sequence[Run], execution: Execution) -> int:
    """Return how many GPUs a job for these runs needs: one, or none for miniature models and ``--device cpu``."""
    if execution.device == "cpu" or (execution.device == "auto" and all(is_mini(run.backbone) for run in runs)):
        return 0
    return 1


def memory_gb(runs: Sequence[Run], execution: Execution) -> int:
    """Return the GiB of host memory that the largest of these runs needs, rounded up.

    Weights while they are read; without a GPU also gradients and Adam's two moments (12 bytes per trained weight) and
    activations: per token and layer about 16 vectors of the model's width and 3 of its feed-forward layer's.
    """
    on_gpu = gpus(runs, execution) > 0
    return math.ceil(max(_bytes(run, on_gpu) for run in runs) / 2**30)


def _bytes(run: Run, on_gpu: bool) -> float:
    shape = backbones.shape(run.backbone)
    attention, feed_forward = 4 * shape.d * shape.inner, 2 * shape.d * shape.ff
    encoder = shape.encoder_layers * (attention + feed_forward)
    decoder = shape.decoder_layers * (2 * attention + feed_forward)
    weights = shape.vocab * shape.d + encoder + decoder
    need = (2 if on_gpu else 1) * BASE + COPIES * 4 * weights
    if on_gpu:
        return need
    tokens = run.recipe.batch_size * (run.recipe.n_boxes + TOKENS)
    layers = shape.encoder_layers + shape.decoder_layers
    trained = weights * (1.0 if run.method == "full" else TUNED)
    return need + 12 * trained + 4 * tokens * layers * (16 * shape.d + 3 * shape.ff)
