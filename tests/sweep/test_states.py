"""The tables of states and causes, and the policies that decide whether a failure is tried again."""

from typing import get_args

import pytest

from bench import states
from bench.states import CAUSES, NEVER, RETRY_POLICIES, STATES, UNTIL_PARKED


def test_every_name_has_an_entry_of_its_own() -> None:
    assert set(STATES) == set(get_args(states.StateName))
    assert set(CAUSES) == set(get_args(states.CauseName))
    assert set(RETRY_POLICIES) == set(get_args(states.RetryName))
    assert all(name == entry.name for table in (STATES, CAUSES, RETRY_POLICIES) for name, entry in table.items())
    assert len({cause.code for cause in CAUSES.values()}) == len(CAUSES)


@pytest.mark.parametrize(
    ("state", "cause", "never", "until_parked"),
    [
        ("done", "", True, True),
        ("parked", "oom", True, True),
        ("cancelled", "", True, True),
        ("failed", "oom", True, False),
        ("failed", "error", True, False),
        ("failed", "a cause of a newer version", True, False),
        ("failed", "nan", True, True),
        ("failed", "unsupported", True, True),
        ("interrupted", "killed", False, False),
        ("missing", "", False, False),
        ("corrupt", "record.json: torn", False, False),
        ("running", "", False, False),
    ],
)
def test_what_a_policy_leaves_alone(state: str, cause: str, never: bool, until_parked: bool) -> None:
    assert (NEVER.is_settled(state, cause), UNTIL_PARKED.is_settled(state, cause)) == (never, until_parked)
