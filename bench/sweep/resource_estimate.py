"""What a run that was never executed needs of a machine: generous estimates, for requests to a scheduler."""

import math
from collections.abc import Sequence

from bench import backbones
from bench.config import Execution, Run, is_mini

PROCESS_BYTES = 2**30  # Python with torch and transformers; twice that on a GPU, for CUDA's libraries
WEIGHT_COPIES = 3  # in host memory while weights are read: file, state dict, model
TEXT_TOKENS = 40  # in a source and a target together, besides the visual tokens
TRAINED_FRACTION = 0.15  # of the weights, at most, by a method of parameter-efficient tuning; "full" trains all


def gpus(runs: Sequence[Run], execution: Execution) -> int:
    """Return how many GPUs a job for these runs needs: one, or none for miniature models and ``--device cpu``."""
    if execution.device == "cpu" or (execution.device == "auto" and all(is_mini(run.backbone) for run in runs)):
        return 0
    return 1


def memory_gb(runs: Sequence[Run], execution: Execution) -> int:
    """Return the host memory in GiB that the largest of these runs needs, rounded up.

    It holds the weights while they are read. Without a GPU it also holds gradients and Adam's two moments (12 bytes per
    trained weight) and activations: per token and layer about 16 vectors of the model's width and 3 of the width of its
    feed-forward layer.
    """
    on_gpu = gpus(runs, execution) > 0
    return math.ceil(max(_bytes(run, on_gpu) for run in runs) / 2**30)


def _bytes(run: Run, on_gpu: bool) -> float:
    shape = backbones.shape(run.backbone)
    attention, feed_forward = 4 * shape.d * shape.inner, 2 * shape.d * shape.ff
    encoder = shape.encoder_layers * (attention + feed_forward)
    decoder = shape.decoder_layers * (2 * attention + feed_forward)
    weights = shape.vocab * shape.d + encoder + decoder
    need = (2 if on_gpu else 1) * PROCESS_BYTES + WEIGHT_COPIES * 4 * weights
    if on_gpu:
        return need
    tokens = run.recipe.batch_size * (run.recipe.n_boxes + TEXT_TOKENS)
    layers = shape.encoder_layers + shape.decoder_layers
    trained = weights * (1.0 if run.method == "full" else TRAINED_FRACTION)
    return need + 12 * trained + 4 * tokens * layers * (16 * shape.d + 3 * shape.ff)
