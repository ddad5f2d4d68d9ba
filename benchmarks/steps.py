"""Training steps at the size of BART-base: ours, the plain path of the same model, and HF PEFT on HF's modules.

Every contender does one update on the same batch of 16: forward, backward, fused AdamW. A batch has 20 text tokens of
which 6 to 20 are no padding, 36 visual tokens, and answers of 2 to 8 tokens (questions) or 8 to 20 (captions). Weights
are random, time and memory do not depend on their values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

import methods
from bench import backbones, device, losses, optim
from bench.config import Recipe, resolve
from bench.data.batches import Batch
from bench.losses import IGNORED
from bench.micro_batches import MicroBatches
from bench.planning.throughput import multiplications
from benchmarks.measuring import peak_bytes, state_bytes
from methods.core import recompute

CPU = torch.device("cpu")
TEXT, VISUAL = (6, 20), 36
#: task, reduction of its loss, and the number of tokens of its answers
BATCHES = {"questions": ("vqa", "weighted", (2, 8)), "captions": ("caption", "tokens", (8, 20))}


class Size:
    """The size of the model and of the batch: that of BART-base, or a small one to try the benchmarks with."""

    def __init__(self, small: bool) -> None:
        self.backbone = "mini-bart" if small else "bart-base"
        self.batch = 4 if small else 16
        self.features = 32 if small else 2048

    def model(self) -> Any:
        """Build the model, the same at every call, with random weights in its visual projector, too."""
        device.seed_everything(0)
        return backbones.build(self.backbone, feat_dim=self.features)

    def make_batch(self, kind: str) -> Batch:
        """Return a padded batch, the same at every call; one example has the greatest length of text and answer."""
        task, _, answer = BATCHES[kind]
        generator = torch.Generator().manual_seed(1)
        lengths = [torch.randint(low, high + 1, (self.batch,), generator=generator) for low, high in (TEXT, answer)]
        vocabulary = backbones.shape(self.backbone).vocab
        rows = []
        for length, (_, longest), padding in zip(lengths, (TEXT, answer), (1, IGNORED), strict=True):
            length[0] = longest
            ids = torch.randint(10, vocabulary - 10, (self.batch, longest), generator=generator)
            rows.append(ids.masked_fill(torch.arange(longest) >= length[:, None], padding))
        features = torch.randn(self.batch, VISUAL, self.features, generator=generator)
        weights = torch.rand(self.batch, generator=generator)
        return Batch(task, list(range(self.batch)), rows[0], rows[1], features, weights, lengths[0].tolist())

    def useful_operations(self, batch: Batch) -> float:
        """Return the operations of the matrix products that an update needs: of the backbone and the projector, for
        tokens that are no padding, forward and for the gradient of what enters them."""
        shape = backbones.shape(self.backbone)
        answers = (batch.labels != IGNORED).sum(1).tolist()
        pairs = zip(batch.text_lengths, answers, strict=True)
        return 4 * sum(multiplications(shape, text, VISUAL, answer, self.features) for text, answer in pairs)


class Contender:
    """A model with a method, and one update of it on a batch.

    Attributes:
        size: that of the model and the batch.
        path: ``ours``, the step of this project; ``compiled``, the same with compiled layers; ``plain``, all logits at
            once and everything kept for the backward pass.
        micro_batch: how many examples go through the model at once on our path, None for all.
        precision: that of the recipe.
    """

    def __init__(
        self, size: Size, method: str, *, path: str = "ours", micro_batch: int | None = None, precision: str = "fp32"
    ) -> None:
        self.size, self.path, self.precision = size, path, precision
        self.model = size.model().train()
        self.model.set_dropout(0.1)
        self.handle = methods.attach(self.model, method)
        if precision == "bf16":
            backbones.hold_in_bf16(self.model)
        self.recipe: Recipe = resolve("bart-base", method, "image-text", settings={"precision": precision}).recipe
        if path == "compiled":
            backbones.compile_layers(self.model)
        self.parts = MicroBatches(micro_batch)
        self._build_optimizer()

    def _build_optimizer(self) -> None:
        self.optimizer = optim.build(self.model, "adamw", 1e-4, 0.01)

    def rival_of_peft(self, folder: Path) -> "Contender":
        """Turn this model into one of HF PEFT: HF's modules with PEFT's layers, whose weights are read from a folder
        that another contender's method was exported to."""
        import peft

        self.handle.detach()
        peft.PeftModel.from_pretrained(self.model.lm, str(folder), is_trainable=True).train()
        self.model.visual_embedding.requires_grad_(True)
        self.model.lm.get_input_embeddings().requires_grad_(False)  # the order of objects is looked up in it
        self._build_optimizer()
        return self

    def update(self, batch: Batch) -> None:
        """Do one update."""
        self.backward(batch)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, batch: Batch) -> Tensor:
        """Add the gradients of a batch to the parameters and return its loss."""
        kind = next(kind for task, kind, _ in BATCHES.values() if task == batch.task)
        if self.path != "plain":
            return self.parts.backward(self.model, batch, kind, self.recipe, CPU)
        with keeping_everything(), device.autocast(CPU, self.precision):
            logits = self.model(batch.input_ids, batch.vis_feats, labels=batch.labels, task=batch.task).logits
            flat = F.cross_entropy(
                logits.float().flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, reduction="none"
            )
        token_losses, total = flat.view(batch.labels.shape), losses.normalizer(kind, batch.labels)
        loss = losses.reduce(kind, token_losses, batch.labels, batch.weights, total)
        loss.backward()
        return loss.detach()

    def trainable(self) -> int:
        """Return the number of trained parameters."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def peak(self, batch: Batch) -> int:
        """Return the peak memory of an update above the model's weights, in bytes."""
        self.update(batch)  # the optimiser's state is there from now on
        return peak_bytes(lambda: self.update(batch)) + state_bytes(self.optimizer)


@contextmanager
def keeping_everything() -> Iterator[None]:
    """Within the context nothing is computed again in the backward pass."""
    with mock.patch.object(recompute, "LARGE", float("inf")):
        yield


def assert_equal_gradients(one: Contender, other: Contender, batch: Batch, tolerance: float = 1e-3) -> None:
    """Assert that two contenders have the same loss on a batch and the same gradient of the visual projector, both
    without dropout."""
    outcomes = []
    for contender in (one, other):
        contender.model.eval()
        loss = contender.backward(batch)
        outcomes.append((loss, contender.model.visual_embedding.feat_embedding[0].weight.grad))
        contender.model.zero_grad(set_to_none=True)
        contender.model.train()
    (loss, gradient), (other_loss, other_gradient) = outcomes
    torch.testing.assert_close(loss, other_loss, rtol=tolerance, atol=tolerance)
    scale = float(other_gradient.abs().max())
    torch.testing.assert_close(gradient / scale, other_gradient / scale, rtol=0, atol=tolerance)
