"""Memory of large arrays that is used again, because to touch new memory costs several times what filling it does."""

import math
import weakref
from collections import deque

import numpy as np
import torch
from torch import Tensor

KEPT = 6  # as many batches as exist at once (bench.data.prefetch)


class Buffers:
    """Lends float32 tensors with arbitrary content; several threads may ask at once.

    A tensor's memory comes back, and is lent again, when nothing refers to the tensor or to a view of it any more.
    """

    def __init__(self) -> None:
        self._free: deque[np.ndarray] = deque(maxlen=KEPT)

    def lend(self, *shape: int) -> Tensor:
        """Return a tensor of a shape."""
        size = math.prod(shape)
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = np.empty(size, np.float32)
        if buffer.size < size:
            buffer = np.empty(size, np.float32)
        lent = buffer[:size].reshape(shape)
        tensor = torch.from_numpy(lent)  # refers to `lent` for as long as its memory is used
        weakref.finalize(lent, self._free.append, buffer).atexit = False
        return tensor
