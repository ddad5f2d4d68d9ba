"""Bad flags and names: one line that names the fix, exit code 2, and nothing done."""

import pytest

from bench.cli import main


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["sweeep"], "'sweep'"),
        (["sweep", "--methds", "lora"], "'--methods'"),
        (["sweep", "--methods", "vl-pet-larg"], "'vl-pet-large'"),
        (["sweep", "--suites", "image-txt"], "'image-text'"),
        (["sweep", "--tasks", "captoin"], "'caption'"),
        (["sweep", "--set", "stesp=3"], "'steps'"),
        (["sweep", "--set", "steps"], "KEY=VALUE"),
        (["sweep", "--seeds", "one"], "1,2,3"),
        (["sweep", "--executor", "lokal"], "local"),
        (["sweep", "--jobs", "0"], "at least 1"),
        (["sweep", "--data", "mini"], "NAME=PATH"),
        (["sweep", "--data", "mini=/no/such/folder"], "no such folder"),
        (["sweep", "defalt"], "'default'"),
        (["ablate"], "granularity"),
        (["ablate", "granularty"], "'granularity'"),
        (["sweep", "--methods", "vl-pet-large", "--axis", "rnk=1,2"], "'rank'"),
        (["sweep", "--methods", "vl-pet-large", "--axis", "rank"], "KEY=VALUE"),
        (["sweep", "--methods", "vl-pet-large", "--drop", "gates"], "'gate'"),
        (["sweep", "--methods", "vl-pet-large", "--drop", "gate", "--only=-gat"], "'-gate'"),
        (["sweep", "--backbone", "facebook/bart-base"], "--data official=PATH"),
        (
            ["sweep", "--backbone", "bart-base", "--dry-run"],
            "--backbone facebook/bart-base or the folder of one; random",
        ),
        (["run", "--method", "lora", "--backbone", "t5-base"], "--backbone random:t5-base"),
        (["sweep", "--backbone", "random:bart-bse", "--dry-run"], "did you mean 'bart-base'"),
        (["run"], "--method"),
        (["run", "--method", "lora", "--set", "rnk=3"], "'rank'"),
        (["run", "--method", "lora", "--set", "name=x"], "unknown setting 'name'"),
        (["score"], "--all"),
        (["score", "some-run", "--results", "/no/such/results"], "some-run"),
        (["methods", "--explain", "lroa", "--backbone", "mini-bart"], "'lora'"),
        (["methods", "--suite", "video"], "'video-text'"),
        (["data", "check", "/no/such/folder"], "no such folder"),
        (["cancel"], "--run RUN"),
        (["retry"], "--failed"),
        (["tasks", "--format", "yaml"], "json"),
        *((["sweep", f"--{flag}="], flag) for flag in ("methods", "suites", "tasks", "seeds", "zip", "only", "except")),
        *((["sweep", f"--{flag}="], flag) for flag in ("axis", "drop", "data", "results", "reports", "backbone")),
        (["cancel", "--run", ""], "--run"),
        (["retry", "--run", ""], "--run"),
        (["logs", ""], "RUN"),
        (["sweep", "--data", "=x"], "--data"),
        (["sweep", "--data", "mini="], "NAME=PATH"),
        (["sweep", "--data", "../x=."], "--data"),
        (["status", "--data", "a/b"], "--data"),
        (["sweep", "--data", "mini=" + "x" * 9999], "--data"),
        (["sweep", "--seeds", "1..1000000000"], "--seeds"),
        (["sweep", "--seeds", "3..1"], "--seeds"),
        (["sweep", "--seeds", "1..2..3"], "--seeds"),
        (["sweep", "--jobs", "9" * 5000], "--jobs"),
        (["sweep", "--zip", "lr,steps"], "zip"),
        (["sweep", "--set", "lr=1e-3\nsteps=2"], "lr"),
        (["sweep", "--axis", "lr=1e-3,"], "--axis lr"),
        (["sweep", "--axis", "lr=1e-3", "--axis", "lr=1e-2"], "given twice"),
        (["sweep", "--max-cells", "3"], "18 (9 methods x 2 suites)"),
        (["sweep", "x" * 5000], "unknown sweep"),
        (["sweep", "--" + "x" * 5000], "unknown argument"),
        (["sweep", "--results=~nobody-is-called-so/x"], "--results"),
        (["sweep", "--executor", "slurm"], "gpu"),
        (["sweep", "--executor", "slurm", "--profile", "gpuu"], "no such profile; did you mean 'gpu'"),
        (["sweep", "--backbone", "x" * 5000], "backbone"),
        (["watch", "--every", "nan"], "--every"),
        (["watch", "--every", "inf"], "--every"),
        (["watch", "--every", "1e300"], "--every"),
        (["watch", "--every=0"], "--every"),
        (["mini", "pretrain", "mini-bart", "--steps", "0"], "--steps"),
        (["mini", "pretrain", "mini-bart", "--seed=-1"], "--seed"),
        (["plan", "--detect", "nan"], "--detect"),
        (["plan", "--detect", "inf"], "--detect"),
        (["logs", "x", "--lines", "0"], "--lines"),
        (["tune", "--space", ""], "--space"),
        (["tune", "--space", "=1..2"], "--space"),
        (["tune", "--space", "lr=nan..inf"], "--space"),
        (["tune", "--space", "lr=1e-3..1e400"], "--space"),
        (["tune", "--space", "lr=1e-3,1e-3"], "twice"),
        (["tune", "--space", "lr=1e-3..1e-2", "--space", "lr=1,2"], "twice"),
        (["tune", "--space", "steps=1..99999999999999999999999"], "--space"),
        (["tune", "--space", "lr=1e-3..1e-2", "--sampler-seed=-1"], "--sampler-seed"),
        (["tune", "--space", "lr=1e-3..1e-2", "--trials", "100000000"], "--trials 100,000,000"),
        (["tune", "--space", "lr=1e-3..1e-2", "--trials", "0"], "--trials"),
        (["tune", "--methods", "lora", "--space", "rank=4,8", "--trials", "6"], "--trials 2"),
    ],
)
def test_bad_input_is_one_line_with_a_hint_and_exit_code_2(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1 and len(captured.err) < 2100
    assert hint in captured.err
