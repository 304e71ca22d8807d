"""Why a verdict or a culprit was named: the numbers shown are those of the judge and the search."""

import math
import re

import pytest
from bisecting import Bench
from click.testing import CliRunner

from bisect_cli.analysis import analyse
from bisect_cli.cli import main
from bisect_cli.report.numbers import percent
from bisect_cli.storage import store


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("explain"), breaks={"segm": [["ROI_ALIGN_MASK"]]})
    words = ["start", "--flags", "L2B5", "--name", "c", "--runs-dir", str(bench.runs), "--slots", "2", "--trust"]
    result = CliRunner().invoke(main, [*words, "MASK_LOSS", "--suspect", "ROI_ALIGN_MASK=3"], obj=bench.trainer)
    assert result.exit_code == 0, result.output
    return bench


def explain(bench, *words):
    return CliRunner().invoke(main, ["explain", *words, "--runs-dir", str(bench.runs)])


def times(verdict):
    odds = math.exp(verdict.log_odds)
    return f"{odds:.0f}" if odds < 1e6 else "over a million"


def test_a_culprit(bench):
    output = explain(bench, "c").output
    (culprit,) = analyse(store.load(bench.runs / "c")[0]).plans["segm"].culprits
    assert f"ROI_ALIGN_MASK breaks it, with probability {percent(culprit.confidence)}. " in output
    assert "That rests on:\n    ROI_ALIGN_MASK: broken, " in output
    assert "nothing breaks it, with probability 99" in output
    assert re.search(r"explanations, and how likely each is given all verdicts:\n    99\.\d% ROI_ALIGN_MASK\n", output)
    assert "separates the first two" in output


def test_a_verdict_and_what_would_change_it(bench):
    state, _ = store.load(bench.runs / "c")
    analysis = analyse(state)
    trial = next(t for t in state.trials.values() if t.flags == ("ROI_ALIGN_MASK",))
    output = explain(bench, "c", trial.id).output
    assert output.startswith(f"{trial.id}: ROI_ALIGN_MASK, seed 0, finished\n  it was run because: ")
    verdict = analysis.verdicts["segm"][trial.flags]
    assert verdict.log_odds > 3 and f"{times(verdict)} times likelier broken than fine, so it is broken" in output
    shown = f"{verdict.difference:+.3f}".replace("0.", ".", 1)
    assert f"{shown} to the baseline" in output
    assert re.search(r"One more run with segm \.\d{3} would make it \w+ \([\d.]+ times likelier", output)
    assert "segm of the baseline: ." in explain(bench, "c", "t01").output


def test_before_the_baseline_is_complete(bench):
    words = ["start", "--flags", "L2B5", "--name", "early", "--runs-dir", str(bench.runs), "--max-runs", "2"]
    assert CliRunner().invoke(main, words, obj=bench.trainer).exit_code == 3
    assert "nothing is known before all 3 runs of the baseline have ended" in explain(bench, "early").output
    assert "no verdict before all 3 runs" in explain(bench, "early", "t01").output


def test_unknown_names(bench):
    for words, said in ((("d",), "no campaign 'd'"), (("c", "t99"), "unknown trial of campaign 'c' 't99'")):
        result = explain(bench, *words)
        assert result.exit_code == 2 and said in result.output and result.output.count("\n") == 1
