"""FrozenModel, validated data: what methods are written in."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from methods.core.errors import MethodError

Init = Literal["backbone", "normal", "torch", "kaiming", "zeros"]
"""Start of a matrix: as the official code's backbone had it, N(0, 0.02²), torch's default, Kaiming-uniform or 0."""


class FrozenSchema(BaseModel):
    """Frozen data without unknown fields; what does not hold raises MethodError with the reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise MethodError(reasons(error, type(self).__name__)) from error

    @property
    def formula(self) -> str:
        """What it computes, for a reader: the first sentence of its class's docstring unless it says more."""
        return " ".join((type(self).__doc__ or "").replace("``", "").split("\n\n")[0].split())

    def data(self) -> dict[str, Any]:
        """JSON-able content that tells this object from any other: its kind and the fields off their defaults."""
        fields = type(self).model_fields
        off = {name: value for name in fields if (value := getattr(self, name)) != fields[name].default}
        return {"type": type(self).__name__, **{name: _plain(value) for name, value in off.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, FrozenSchema):
        return value.data()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def reasons(error: ValidationError, where: str) -> str:
    """One line for all that pydantic found wrong with ``where``."""
    found = []
    for item in error.errors():
        path = ".".join([where, *(str(key) for key in item["loc"])])
        given = "" if item["type"] == "value_error" else f" (given: {item['input']!r})"
        found.append(f"{path}: {item['msg'].removeprefix('Value error, ')}{given}")
    return "; ".join(found)
