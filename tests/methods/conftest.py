from collections.abc import Iterator

import pytest
from tiny_models import FAMILIES

from methods.core import context


@pytest.fixture(autouse=True)
def task() -> Iterator[None]:
    """Methods that hold weights per task run those of this one."""
    with context.task("vqa"):
        yield


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param
