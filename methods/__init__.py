"""Parameter-efficient tuning methods for BART and T5, alone or in a vision-language wrapper.

>>> import methods
>>> methods.get("vl-pet-middle").name
'vl-pet-middleX'

``methods.attach(model, "vl-pet-large")`` freezes a model, puts the method in place and returns a
:class:`~methods.core.handle.Handle` that counts, saves, loads and detaches.

The names of this package are listed once, in ``__init__.pyi``, for type checkers and at run time. Each is imported on
first use, so that ``import methods`` is fast; only ``attach`` and what comes with it need torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
