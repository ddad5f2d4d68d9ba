"""What a mutation is, the registry of all of them, and how a seed draws its cases."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzz.judge import Verdict
    from tests.fuzz.sandbox import Outcome
    from tests.fuzz.world import Box

#: endings that a mutation may declare as right; every other ending of a case is a fault
RIGHT = ("error", "tolerance", "harmless")
#: endings that are faults; "unclear" is a refusal that names no place, or the refusal of something harmless
WRONG = ("traceback", "silent", "hang", "unclear")
ENDINGS = (*RIGHT, *WRONG)


@dataclass
class Step:
    """One command line of a case.

    ``seconds`` is the processor time that it may take; on the clock it may take several times as long. ``stdout`` is
    "file", "closed pipe", or a name of an encoding to print in; without ``plots`` every figure is drawn and an empty
    picture saved, which is what costs the time.
    """

    argv: Sequence[str]
    env: dict[bytes, bytes | None] = field(default_factory=dict)
    stdout: str = "file"
    seconds: int = 12
    plots: bool = False


Check = Callable[["Box", "list[Outcome]"], "str | None"]
Judge = Callable[["Box", "Plan", frozenset[str]], "Verdict"]


@dataclass
class Plan:
    """What to do with a mutated input, and what a message about it must name.

    Attributes:
        steps: the command lines, in order; the first that refuses ends the case.
        names: a message is clear if it contains one of these words.
        fields: where not empty, a message must contain one of these words as well.
        check: looks at the files and outputs afterwards and returns what is wrong, or None.
        judge: classifies in place of the general judge.
        facts: what a judge of one area needs besides (the tasks of a data case, for example).
    """

    steps: list[Step] = field(default_factory=list)
    names: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    check: Check | None = None
    judge: Judge | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Mutation:
    """A registered kind of mutation: ``apply(box, rng)`` changes the files of the box and returns the plan."""

    kind: str
    area: str
    expected: frozenset[str]
    why: str
    weight: int
    apply: Callable[["Box", random.Random], Plan]


MUTATIONS: dict[str, Mutation] = {}


def mutation(
    area: str, expected: str = "error", *, why: str = "", weight: int = 1, kind: str | None = None
) -> Callable[[Callable[..., Plan]], Callable[..., Plan]]:
    """Register a function ``(box, rng) -> Plan`` as a kind of mutation.

    Args:
        area: "data", "configuration" or "records".
        expected: the endings that are right, separated by spaces.
        why: the reason of a documented tolerance; needed where "tolerance" is among the expected endings.
        weight: how often it stands in the deck from which cases are drawn.
        kind: its name; by default the function's, with hyphens.
    """

    def register(function: Callable[..., Plan]) -> Callable[..., Plan]:
        name = kind or function.__name__.replace("_", "-")
        endings = frozenset(expected.split())
        assert endings <= set(RIGHT), f"{name}: {expected}"
        assert why or "tolerance" not in endings, f"{name}: a tolerance needs a reason"
        assert name not in MUTATIONS, f"{name} is registered twice"
        MUTATIONS[name] = Mutation(name, area, endings, why, weight, function)
        return function

    return register


@dataclass(frozen=True)
class Case:
    """One drawn case; its id is all that is needed to make it again."""

    id: str
    mutation: Mutation

    @property
    def rng(self) -> random.Random:
        """A generator that depends on the id alone."""
        return random.Random(self.id)


def draw(seed: int, count: int) -> Iterator[Case]:
    """Yield the cases of a seed: decks of all mutations, shuffled, so that every kind comes before one comes twice."""
    rng = random.Random(seed)
    deck: list[Mutation] = []
    for number in range(count):
        if not deck:
            deck = [m for m in MUTATIONS.values() for _ in range(m.weight if number else 1)]
            rng.shuffle(deck)
        chosen = deck.pop()
        yield Case(f"{seed}-{number}-{chosen.kind}", chosen)


def named(case_id: str) -> Case:
    """Return the case of an id that an earlier call printed."""
    kind = case_id.split("-", 2)[2]
    return Case(case_id, MUTATIONS[kind])
