"""Facts about a forward pass that must still be there when gradient checkpointing runs a layer a second time.

With gradient checkpointing a layer runs again during the backward pass. By then the ``with`` blocks of the forward pass
(:mod:`methods.core.context`) have been left, another batch may have gone through the model, and HF's layers take no
further arguments that could carry a fact. What does come back is the very tensor object that the layer was given. So a
fact about the pass is tied to that tensor, as an attribute, and read from it again. This module is the only place where
tensors carry attributes; everything else uses arguments or the context.
"""

from typing import Any

from torch import Tensor

ATTRIBUTE = "_facts_of_the_forward_pass"


def remember(states: Tensor, key: str, fact: Any) -> None:
    """Tie ``fact`` under the name ``key`` to the tensor object ``states``, in place of an earlier fact of this name."""
    setattr(states, ATTRIBUTE, {**getattr(states, ATTRIBUTE, {}), key: fact})


def recall(states: Tensor, key: str, default: Any = None) -> Any:
    """Return the fact called ``key`` that is tied to ``states``, or ``default`` where there is none."""
    return getattr(states, ATTRIBUTE, {}).get(key, default)
