"""Weak evidence: what a journal may hold, and that it never decides anything."""

import json
import math
import os

import pytest
from bisecting import BLOCK, Bench
from click.testing import CliRunner
from rich.console import Console
from test_bayes import campaign, named

from bisect_cli.analysis import analyse
from bisect_cli.campaign.settings import Settings
from bisect_cli.cli import main
from bisect_cli.errors import UserError
from bisect_cli.evidence import prior
from bisect_cli.report.table import render
from bisect_cli.run import journal
from bisect_cli.search import Question, find
from bisect_cli.storage import store
from bisect_cli.trainers.maskrcnn import SPEC

ALL = SPEC.flag_names
W = math.log(prior.MOST_ODDS)
HEAD = "date,flags,metric,verdict\n"
FAULT = {"segm": [["ROI_ALIGN_MASK"]]}


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "old.csv"
        path.write_text(text)
        return path

    return write


def test_a_journal_is_read(file):
    rows = journal.read(
        file(
            HEAD
            + "2019-03-20,RPN_LOSS ROI_ALIGN_BOX,bbox,converged\n,roi_align_box + BATCH_RPN_LOSS,segm/AP_small,Broken\n"
            '2019-03-21,L2B4,segm/AP,"diverged"\n,,segm,fine\n'
        ),
        SPEC,
    )
    assert rows == [
        [["RPN_LOSS", "ROI_ALIGN_BOX"], "bbox", -W],
        [["RPN_LOSS", "ROI_ALIGN_BOX"], "segm/AP_small", W],
        [["FAST_RCNN_OUTPUTS", "FAST_RCNN_LOSSES"], "segm", W],
        [[], "segm", -W],
    ]


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "line 1: no column flags and no metric and no verdict"),
        ("flags,metric\n", "line 1: no column verdict;"),
        (
            HEAD + ",MASK_LOSS,segm,fine\n,MASK_LOS,segm,fine\n",
            "line 3: unknown flag or group 'MASK_LOS': did you mean",
        ),
        (HEAD + ",MASK_LOSS,mask,fine\n", "line 2: unknown metric 'mask'"),
        (HEAD + ",MASK_LOSS,segm,running\n", "line 2: unknown verdict 'running': known: fine, converged, broken"),
        (HEAD + ",MASK_LOSS,segm\n", "line 2: it has other columns than line 1"),
        (HEAD + ",MASK_LOSS,segm,fine,more\n", "line 2: it has other columns than line 1"),
    ],
)
def test_what_a_journal_may_not_hold_is_said_with_its_line(file, text, said):
    with pytest.raises(UserError) as error:
        journal.read(file(text), SPEC)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_no_journal(tmp_path):
    for path, said in ((tmp_path, "cannot be read"), (tmp_path / "no.csv", "cannot be read")):
        with pytest.raises(UserError, match=said):
            journal.read(path, SPEC)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="no CSV file in UTF-8"):
        journal.read(tmp_path / "binary.csv", SPEC)


def test_prior_evidence_on_a_set_has_a_limit():
    settings = Settings("x", SPEC, BLOCK, ("bbox", "segm"))
    rows = [
        [["MASK_LOSS"], "segm", 9.0],
        [["MASK_LOSS"], "segm", W],
        [list(BLOCK), "bbox", -9.0],
        [list(BLOCK), "bbox", W],
    ]
    others = [[[], "segm", W], [["RPN_LOSS", "MASK_LOSS"], "segm", W], [["MASK_LOSS"], "segm/AP_small", W]]
    assert prior.weigh(rows + others, settings) == {"bbox": {BLOCK: 0.0}, "segm": {("MASK_LOSS",): W}}


def odds(rows):
    """Of the likeliest two explanations, before any run."""
    plan = find("bayes").answer(Question(BLOCK, {"segm": {}}, prior_evidence={"segm": rows})).plans["segm"]
    return {belief.culprits: belief.probability for belief in plan.beliefs}


def test_prior_evidence_moves_the_prior_by_what_it_says_and_no_more():
    plain, moved = odds({}), odds({("MASK_LOSS",): W})
    one, other = (("MASK_LOSS",),), (("ROI_ALIGN_MASK",),)
    assert moved[one] / moved[other] == pytest.approx(3 * plain[one] / plain[other])
    sets = [BLOCK, BLOCK[:2], BLOCK[1:], BLOCK[:1], BLOCK[2:], BLOCK[1:2]]
    most = odds({subset: W if "MASK_LOSS" in subset else -W for subset in sets})
    assert most[one] / most[other] <= 20.001 * plain[one] / plain[other]


@pytest.mark.parametrize("culprits", [[], [("RPN_LOSS",)], [("RPN_LOSS", "MASK_LOSS")]])
def test_a_false_journal_neither_names_nor_clears(culprits):
    """All that it says is wrong, of every flag and most sets, and the result is the same: by fresh runs, as without."""
    wrong = {(flag,): W if (flag,) not in culprits else -W for flag in ALL}
    wrong[("GENERATE_PROPOSALS",)] = W
    wrong[tuple(flag for flag in ALL if flag != "GENERATE_PROPOSALS")] = -W
    if culprits:
        wrong[ALL] = wrong[culprits[0]] = -W
    plan, _, table = campaign(ALL, culprits, prior_evidence={"segm": wrong})
    assert named(plan) == culprits and bool(plan.clean) == (not culprits)
    for culprit in plan.culprits:
        assert culprit.flags in table and tuple(f for f in ALL if f not in culprit.flags) in table
    if not culprits:
        assert table[ALL].runs >= 2


def test_a_true_journal_saves_runs():
    right = {(flag,): W if flag == "RPN_LOSS" else -W for flag in ALL}
    spent = []
    for evidence in ({}, {"segm": right}):
        _, _, table = campaign(ALL, [("RPN_LOSS",)], prior_evidence=evidence)
        spent.append(sum(verdict.runs for verdict in table.values()))
    assert spent[1] < spent[0]


# A whole campaign


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bench = Bench(tmp_path, breaks=FAULT)
    false = ",ROI_ALIGN_MASK,segm,converged\n,L2B5,segm,fine\n,MASK_LOSS,segm,broken\n"
    (tmp_path / "old.csv").write_text(f"{HEAD}{false},,segm,fine\n,RPN_LOSS,segm,broken\n")

    def call(*words, code=0):
        result = CliRunner().invoke(main, words, obj=bench.trainer)
        assert result.exit_code == code, result.output
        return result.output

    call.bench = bench
    return call


def test_a_campaign_with_a_false_journal(cli):
    output = cli("start", "--flags", "L2B5", "--name", "x", "--journal", "old.csv")
    assert "journal old.csv: 3 verdicts as prior evidence (at most 3:1 a set); 2 left out, of the baseline, " in output
    analysis = analyse(store.load(cli.bench.runs / "x")[0])
    assert [one.flags for one in analysis.plans["segm"].culprits] == [("ROI_ALIGN_MASK",)]
    assert analysis.plans["bbox"].clean
    assert analysis.prior_evidence["segm"] == {("ROI_ALIGN_MASK",): -W, BLOCK: -W, ("MASK_LOSS",): W}
    shown = json.loads(cli("status", "x", "--json"))["prior_evidence"]
    assert shown["bbox"] == [] and shown["segm"][0]["label"] == "ROI_ALIGN_MASK"
    assert "    MASK_LOSS: 3.0 times likelier broken than fine" in cli("explain", "x")


def test_other_searches_say_that_they_do_not_use_it(cli):
    output = cli("start", "--flags", "L2B5", "--name", "x", "--journal", "old.csv", "--search", "halving")
    assert "note: --journal does nothing: --search halving goes by runs alone." in output
    assert "journals, which counts for nothing:" in cli("explain", "x")


def test_size_classes_are_judged_like_any_metric(cli):
    output = cli("start", "--flags", "L2B5", "--name", "x", "--metrics", "bbox,bbox/AP_small", code=2)
    assert "metric 'bbox/AP_small' will not be in the results" in output and "choose among bbox/AP, segm/AP." in output
    assert not cli.bench.starts()
    cli.bench.set(breaks={"bbox/AP_small": [["MASK_LOSS"]]}, sizes=True)
    output = cli("start", "--flags", "L2B5", "--name", "x", "--metrics", "bbox,segm,bbox/AP_small")
    assert "bbox/AP_small: MASK_LOSS (confidence 9" in output and "segm: nothing breaks" in output
    shown = json.loads(cli("status", "x", "--json"))
    assert shown["metrics"] == ["bbox", "segm", "bbox/AP_small"] and shown["culprits"]["bbox/AP_small"]
    assert shown["baseline"]["bbox/AP_small"]["runs"] == 3
    assert "bbox/AP_small of the baseline: ." in cli("explain", "x")
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(render(shown))
    text = console.export_text()
    assert "bbox/AP_small" in text and "✗" in text and "…" not in text
    assert "unknown metric 'bbox/AP_smal'" in cli("start", "--flags", "L2B5", "--metric", "bbox,bbox/AP_smal", code=2)


def test_the_scale_of_the_judge_can_be_said(cli):
    words = ["start", "--flags", "L2B5", "--name", "x", "--noise", ".004", "--smallest-drop", ".02"]
    output = cli(*words, "--dry-run")
    assert "Seeds are taken to differ by .004 until the baseline shows more, and drops of .020 and more" in output
    assert "drops of .100 and more are looked for (smaller ones, as .020, would drown)" in cli(
        *words[:5], "--noise", ".04", "--smallest-drop", ".02", "--dry-run"
    )
    cli(*words)
    settings = store.load(cli.bench.runs / "x")[0].settings
    assert (settings.noise, settings.smallest_drop) == (0.004, 0.02)
    prior_of_segm = analyse(store.load(cli.bench.runs / "x")[0]).yardsticks["segm"].noise_prior
    assert (prior_of_segm.noise, prior_of_segm.smallest_drop, prior_of_segm.beside) == (0.004, 0.02, 0.0)
    assert "with other noise" in cli(*words[:5], "--noise", ".005", "--smallest-drop", ".02", code=2)
    for value in ("0", "-1", "3", "nan", "inf"):
        assert f"--noise {value}: write a number above 0 and below 0.5 in the metric's own unit" in cli(
            *words[:5], "--noise", value, code=2
        )
