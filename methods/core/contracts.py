"""What a method's modules may ask of those who train, run and export a model: one protocol per request.

A :class:`~methods.core.part.Part` registers a module for a contract while it places it
(:class:`~methods.core.placement.Placement`)::

    def place(self, placement):
        module = MyModule(...)
        placement.add_module("mine", module)        # below ``model.pet``; its parameters are trained and saved
        placement.add_penalty(module)               # Penalty
        placement.listen_to_updates(module)         # UpdateListener
        placement.set_encoder_input(module)         # EncoderInput, instead of add_module: one per model
        placement.set_peft_export(module)           # PeftExport: one per model
        placement.add_diagnostics(module)           # Diagnostics

Nobody searches modules for methods of these names. :class:`~methods.core.handle.Handle` holds what was registered in
``penalties`` and ``update_listeners``, and whoever trains passes these on (``bench.train.train``).

A part that needs training data before it is placed overrides ``training_examples`` and ``prepare``
(:meth:`methods.core.part.Part.prepare`)::

    def prepare(self, model, examples):             # batches of one example: TrainingBatch
        return {"rows": ...}                        # start values for ``place``, as ``placement.prepared``

What a module keeps
-------------------
- *Parameters* are trained, counted and saved under their names in the model (``pet.KEY...``), which do not change.
  A parameter that is not to be trained must have ``requires_grad=False``.
- *Buffers* below ``model.pet`` are state that training changes or that a resumed run needs: every checkpoint holds
  them, and resuming copies them back before the first update. They must exist, in their final shapes, once the method
  is attached. They are not part of a saved method (``Handle.save``), so evaluation must not depend on them.
- *Plain attributes* last for one forward pass. What gradient checkpointing has to find again goes through
  :mod:`methods.core.replay`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from torch import Tensor, nn

ENCODER_INPUT = "input"
"""The name in ``model.pet`` of the module that joins the encoder's input; tensors in saved files begin with it."""


class TrainingBatch(Protocol):
    """A batch of one task of the run's own training data, on any device."""

    @property
    def task(self) -> str:
        """Name of the task."""

    @property
    def input_ids(self) -> "Tensor":
        """Text, ``b t``, padded with the pad id."""

    @property
    def labels(self) -> "Tensor":
        """Answers, ``b u``, padded with -100."""

    @property
    def vis_feats(self) -> "Tensor":
        """Visual features, ``b v f``, or ``b 2 v f`` of two images, in float32."""


class Diagnostics(Protocol):
    """A module that has numbers to report about its trained state."""

    def diagnostics(self) -> dict[str, float]:
        """Return the numbers by name, such as how far a matrix is from an orthogonal one; records keep them."""


class Penalty(Protocol):
    """A term of the training loss: an ``nn.Module`` below ``model.pet``, or any object where it has no tensors."""

    def penalty(self) -> "Tensor | None":
        """Return what is added to the loss of the last forward pass: a scalar with a gradient, or None for nothing.

        Called once after every forward pass in training, outside of autocast and before the backward pass.

        What the pass was about has to be kept while it runs: by a hook on the model
        (``placement.after_forward(placement.model, ...)``, as in ``methods/adamix/consistency.py``), or as the module
        in charge of the encoder's input (``methods/clipfit/distillation.py``). Keep it in training only, let go of it
        in this call, and leave it out of copies (``__getstate__``): a tensor with a history cannot be deep-copied.
        """


class UpdateListener(Protocol):
    """A module that acts between updates, such as one that prunes by a schedule."""

    def after_update(self, step: int, total_steps: int) -> None:
        """Called after update ``step`` (from 1) of ``total_steps``, while ``parameter.grad`` is still there."""


class EncoderInput(Protocol):
    """The module that makes the encoder's input of text and visual tokens, instead of the backbone family."""

    def __call__(
        self,
        join: Callable[..., "tuple[Any, Tensor]"],
        encoder: "nn.Module",
        input_ids: "Tensor",
        attention_mask: "Tensor",
        visual_tokens: "Tensor",
    ) -> "tuple[Any, Tensor]":
        """Run the encoder and return its result with the mask ``b n`` that the decoder attends by.

        Args:
            join: ``join(encoder, input_ids, attention_mask, visual_tokens, prompt=None)``: what the backbone family
                does without a method; it encodes ``[prompt ; text ; visual tokens]`` and returns states ``b n d`` and
                their mask ``b n``.
            encoder: HF's encoder.
            input_ids: text, ``b t``, padded.
            attention_mask: ``b t``, 0 where the text is padding.
            visual_tokens: ``b v d``.

        Returns:
            States ``b n d`` and mask. In the place of the states an HF ``BaseModelOutput`` with more fields may be
            returned; it goes to the language model as ``encoder_outputs``, and generation repeats every tensor in it
            for its beams.
        """


class PeftExport(Protocol):
    """A module that knows how to write its method in HF PEFT's file format."""

    def peft_file(self) -> "tuple[Any, dict[str, Tensor]]":
        """Return the ``peft.PeftConfig`` and the tensors under the names that they have in PEFT's file."""


def encoder_input(model: Any) -> EncoderInput | None:
    """Return what the attached method put in charge of the encoder's input; None where it left that alone."""
    pet = getattr(model, "pet", None)
    return cast(EncoderInput, pet[ENCODER_INPUT]) if pet is not None and ENCODER_INPUT in pet else None
