"""The base class of the data that methods are written in: validated once, then frozen."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from methods.core.errors import MethodError

Init = Literal["backbone", "normal", "torch", "kaiming", "zeros"]
"""The start rule of a matrix, as in :class:`methods.blocks.layer_factory.LayerFactory`: ``backbone`` as in the official
code on this backbone (:mod:`methods.core.start_values`), ``normal`` N(0, 0.02²), ``torch`` torch's default, ``kaiming``
Kaiming-uniform, or ``zeros``."""

LONGEST_VALUE = 200  # characters of a value in a message


class FrozenSchema(BaseModel):
    """Frozen data without unknown fields; values that are not allowed raise MethodError with the reason.

    The names of the subclasses and of their fields are written into saved files (:meth:`data`), so they do not change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise MethodError(reasons(error, type(self).__name__)) from error

    @property
    def formula(self) -> str:
        """The formula that ``--explain`` prints: the first paragraph of the class's docstring unless overridden."""
        return " ".join((type(self).__doc__ or "").replace("``", "").split("\n\n")[0].split())

    def data(self) -> dict[str, Any]:
        """Return JSON-able content that identifies this object: its class and the fields that differ from their
        defaults."""
        fields = type(self).model_fields
        changed = {name: value for name in fields if (value := getattr(self, name)) != fields[name].default}
        return {"type": type(self).__name__, **{name: _plain(value) for name, value in changed.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, FrozenSchema):
        return value.data()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def reasons(error: ValidationError, name: str) -> str:
    """Return one line with everything that pydantic found wrong with the object or option called ``name``."""
    faults = []
    for item in error.errors():
        path = ".".join([name, *(str(key) for key in item["loc"])])
        given = "" if item["type"] == "value_error" else f" (given: {_short(item['input'])})"
        faults.append(f"{path}: {item['msg'].removeprefix('Value error, ')}{given}")
    return "; ".join(faults)
