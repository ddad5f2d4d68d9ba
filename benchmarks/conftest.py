"""Options of the benchmarks: how many rounds, and whether at the size that counts or at a small one that tries them."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vlpet-bench benchmarks")
    group.addoption("--rounds", type=int, default=7, help="interleaved rounds of every contest (7)")
    group.addoption("--small", action="store_true", help="small models, roots and plans: figures mean nothing")


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--rounds"))


@pytest.fixture(scope="session")
def small(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--small"))
