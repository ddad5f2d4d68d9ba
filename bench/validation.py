"""Checking plain data against a model; one error line names where the data came from, the fields and the faults."""

from collections.abc import Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from bench.errors import UsageError, did_you_mean
from bench.toml_files import shortened

T = TypeVar("T", bound=BaseModel)


def validated(model: type[T], content: Any, origin: str) -> T:
    """Validate plain data; one error line names where it came from, the field and what is wrong with it."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _faults(model, error.errors(), origin) from None


def check_fields(model: type[BaseModel], content: Any, origin: str) -> None:
    """Raise like :func:`validated` for fields that are wrong; those that are missing and rules between fields are not
    looked at."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        if faults := [fault for fault in error.errors() if fault["loc"] and fault["type"] != "missing"]:
            raise _faults(model, faults, origin) from None


def _faults(model: type[BaseModel], faults: Sequence[Any], origin: str) -> UsageError:
    """Return the error of pydantic's faults."""
    lines = []
    for fault in faults:
        place = fault["loc"]
        name = ".".join(str(part) for part in place)
        message = 'Input should be a list, for example ["a", "b"]' if fault["type"] == "tuple_type" else fault["msg"]
        message = message.removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message += did_you_mean(str(place[-1]), _fields(model, place))
        lines.append(f"{name}: {message}")
    return UsageError(f"{origin}: {shortened('; '.join(lines), 1000)}")


def _fields(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Return the fields, as a user writes them, of the (nested) model in which ``place`` is."""
    for part in place[:-1]:
        if part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
            kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
            model = next((kind for kind in kinds if issubclass(kind, BaseModel)), model)
    return [field.alias or name for name, field in model.model_fields.items()]
