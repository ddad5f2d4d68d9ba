"""The rates in the miniature's recipe are those that the shipped ledger of the search chooses, with equal budgets."""

from types import SimpleNamespace

import pandas as pd
import pytest

from bench.recipe_files import recipe_tables
from bench.report.tuned_rates import untuned_note
from benchmarks.miniature_tuning import LEDGER, RECIPE, SEARCHES, chosen, recipe_text


def entry(method: str, lr: str, *, synthetic: bool = True) -> SimpleNamespace:
    """What the note reads of an entry."""
    return SimpleNamespace(method=method, synthetic=synthetic, configuration={"lr": lr})


@pytest.fixture(scope="module")
def ledger() -> pd.DataFrame:
    return pd.read_csv(LEDGER)


def test_the_recipe_has_what_the_ledger_chooses(ledger: pd.DataFrame) -> None:
    tables = recipe_tables("mini")
    choice = chosen(ledger)
    assert {m for methods, _, _ in SEARCHES.values() for m in methods} == set(choice)
    for method, (rate, value) in choice.items():
        assert tables[f"method.{method}"] == {rate: pytest.approx(value)}
    text = RECIPE.read_text(encoding="utf-8")
    assert recipe_text(text, choice) == text


def test_every_method_was_given_the_same_number_of_values_on_every_task(ledger: pd.DataFrame) -> None:
    assert set(ledger.groupby(["method", "task"])["value"].nunique()) == {6}
    assert set(ledger.groupby("method")["task"].nunique()) == {8}


def test_the_best_value_is_chosen_by_parts_of_the_best_score_and_a_failed_run_counts_as_nothing() -> None:
    """CIDEr is ten times an accuracy, and must not decide alone."""
    rows = [
        *(("lora", "lr", 0.1, "gqa", 80.0), ("lora", "lr", 0.1, "caption", 500.0)),
        *(("lora", "lr", 0.2, "gqa", 40.0), ("lora", "lr", 0.2, "caption", 550.0)),
        *(("lora", "lr", 0.3, "gqa", None), ("lora", "lr", 0.3, "caption", 600.0)),
    ]
    assert chosen(pd.DataFrame(rows, columns=["method", "rate", "value", "task", "score"])) == {"lora": ("lr", 0.1)}


def test_rows_without_a_rate_of_their_own_are_named_and_those_with_one_are_not() -> None:
    """Only in tables of synthetic data: other recipes have rates of the papers."""
    rate = str(recipe_tables("mini")[""]["lr"])
    rows = {
        "bitfit": [entry("bitfit", rate)],
        "ia3": [entry("ia3", "0.1")],
        "lora": [entry("lora", rate)],
    }
    assert untuned_note(rows) == [f"Learning rate not tuned ({rate}): bitfit."]
    assert untuned_note({"bitfit": [entry("bitfit", rate, synthetic=False)]}) == []
