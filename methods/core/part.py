"""What every part of a method promises and does: the base of patches, prompts, side networks and penalties.

Nothing in this module imports torch at import time.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from methods.core.schema import FrozenSchema
from methods.core.shape import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from methods.core.contracts import TrainingBatch
    from methods.core.placement import Placement


class Part(FrozenSchema):
    """Something a method puts into the model. A new kind of part is a subclass with fields and a ``place``.

    The properties below are promises, by which the suite decides how a method may be run and which the tests over all
    methods check (those that :class:`~methods.core.deltas.Delta` names); a subclass overrides those that differ for it.
    What a part's modules may ask of training, of the encoder's input and of export, and what they may keep for a
    checkpoint, is in :mod:`methods.core.contracts`; what a part needs of the training data before it is placed,
    :meth:`prepare` computes.
    """

    @property
    def per_task(self) -> bool:
        """Whether some weights belong to one task, so that whoever runs the model has to name the current task."""
        return False

    @property
    def mergeable(self) -> bool:
        """Whether it can be folded into the backbone's weights; ``place`` then adds to ``placement.merge_steps``."""
        return False

    @property
    def exact_with_cache(self) -> bool:
        """Whether decoding with a cache of keys and values gives the same result as decoding without one."""
        return True

    @property
    def in_encoder(self) -> bool:
        """Whether it acts in the encoder only, so that the decoder and the output layer compute what they did."""
        return False

    @property
    def reads_padding(self) -> bool:
        """Whether an example's result depends on how much padding stands behind it."""
        return False

    @property
    def needs_wrapper(self) -> bool:
        """Whether it needs the vision-language wrapper, because it acts where text and visual tokens are joined."""
        return False

    @property
    def training_examples(self) -> int:
        """How many examples of the run's own training data :meth:`prepare` asks for; 0 where it is never called."""
        return 0

    @property
    def official_decay(self) -> Mapping[str, bool]:
        """Whether the official code decays a tensor, where its name here would tell otherwise.

        Decay follows names (:mod:`bench.optim`), and the official code has other names than this one. A part states
        the tensors for which that makes a difference, by their names below its module and without those of tasks.
        False is for biases and norms only.
        """
        return {}

    def check(self, shape: Shape) -> None:
        """Raise MethodError where a backbone of this shape cannot have the part."""

    def prepare(self, model: Any, examples: Iterator["TrainingBatch"]) -> dict[str, "Tensor"]:
        """Return what :meth:`place` needs of the training data, under names of the part's own.

        Called by whoever trains (:func:`methods.core.preparation.prepare`) before the method is attached; ``place``
        gets the result as ``placement.prepared``. It decides start values alone, never shapes or what is
        computed: a part is also placed without it (counts, ``--explain``, kept weights), and ``prepared`` is None then.
        The result must depend on the weights of the model and on the examples alone. It is kept and used again, so it
        should be small.

        Args:
            model: the model as it is before any method is attached; it must be left as it was.
            examples: at most ``training_examples`` batches of one example each, in the official order of tasks.
        """
        raise NotImplementedError

    def place(self, placement: "Placement") -> None:
        """Build the part's modules and plan what is done to the model, which is not touched here.

        ``placement.sites`` finds modules of the model by the names of sites, ``placement.make`` makes layers on the
        model's device and in its dtype (see :meth:`Delta.build`), ``placement.add_module`` puts a module below
        ``model.pet``, and the other methods of :class:`~methods.core.placement.Placement` plan hooks and register
        modules for the contracts of :mod:`methods.core.contracts`. Where a module changes what a site returns,
        :func:`methods.core.patching.place_site` plans all of its hooks.

        Raises:
            MethodError: the part does not fit this model; nothing has been changed then.
        """
        raise NotImplementedError
