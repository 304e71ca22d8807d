"""Runs count for what they were computed with: fingerprints, stale runs, further flags, runs of other campaigns."""

import json
import time
from dataclasses import replace

import pytest
from bisecting import BLOCK, Bench
from click.testing import CliRunner

from bisect_cli.analysis import analyse
from bisect_cli.campaign import events, fingerprint
from bisect_cli.campaign.state import State
from bisect_cli.cli import main
from bisect_cli.run.reconcile import changes
from bisect_cli.storage import store

FAULT = {"segm": [["ROI_ALIGN_MASK"]]}
KEY = {"code": "a", "data": "d", "flags": {"ROI_ALIGN_MASK": "v1"}}
FIXED = {**KEY, "flags": {"ROI_ALIGN_MASK": "v2"}}
EDITED = {**KEY, "code": "b"}


def test_fingerprints():
    assert (
        fingerprint.differences(None, KEY)
        == fingerprint.differences(KEY, None)
        == fingerprint.differences(KEY, dict(KEY))
        == ()
    )
    assert fingerprint.differences(KEY, FIXED) == ("what is planted in ROI_ALIGN_MASK",)
    assert (
        fingerprint.for_flags(KEY, ("MASK_LOSS",)) == {"code": "a", "data": "d", "flags": {}}
        and fingerprint.for_flags(None, ()) is None
    )
    assert fingerprint.differences(KEY, {"code": "b", "weights": "w"}) == (
        *("code", "data", "weights"),
        "what is planted in ROI_ALIGN_MASK",
    )


# Stale runs


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, breaks=FAULT, key=KEY)


@pytest.fixture
def cli(bench):
    def call(*words, code=0):
        result = CliRunner().invoke(main, words, obj=bench.trainer)
        assert result.exit_code == code, result.output
        return result.output

    return call


def state(bench, name="x"):
    return store.load(bench.runs / name)[0]


def named(bench, name="x"):
    return [one.flags for one in analyse(state(bench, name)).plans["segm"].culprits]


def test_a_piece_that_was_mended_is_run_again_and_the_baseline_is_not(bench, cli):
    cli("start", "--flags", "L2B5", "--name", "x", "--slots", "2")
    before = bench.starts()
    assert named(bench) == [("ROI_ALIGN_MASK",)]
    cli("resume", "x")
    assert bench.starts() == before  # nothing has changed

    bench.set(key=FIXED)
    output = cli("resume", "x")
    assert "what is planted in ROI_ALIGN_MASK has changed since the last run: " in output
    assert "are stale; they say little now (at most 3:1 a set), and what is needed is trained again" in output
    assert named(bench) == [] and "segm: nothing breaks" in output
    again = bench.starts()[len(before) :]
    assert again and all("ROI_ALIGN_MASK" in run for run in again)
    assert again[0] in before  # with the same seed: another run all the same

    shown = json.loads(cli("status", "x", "--json"))
    stale = [trial for trial in shown["trials"] if trial["stale"]]
    assert {tuple(trial["stale"]) for trial in stale} == {("what is planted in ROI_ALIGN_MASK",)}
    assert all("ROI_ALIGN_MASK" in trial["flags"] and not trial["verdict"] for trial in stale)
    evidence = {tuple(one["flags"]): one["log_odds"] for one in shown["prior_evidence"]["segm"]}
    assert evidence[("ROI_ALIGN_MASK",)] == pytest.approx(1.0986, abs=1e-3)  # three times likelier broken, and no more
    assert "stale (what is planted in ROI_ALIGN_MASK)" in cli("status", "x")
    assert "ROI_ALIGN_MASK: 3.0 times likelier broken than fine" in cli("explain", "x")
    assert "it is stale, as what is planted in ROI_ALIGN_MASK differs" in cli("explain", "x", stale[0]["id"])

    before = bench.starts()
    bench.set(breaks=FAULT, key=KEY)  # as it was: so the first runs count again, against what is prior evidence now
    cli("resume", "x")
    assert len(bench.starts()) <= len(before) + 2 and named(bench) == [("ROI_ALIGN_MASK",)]


def test_after_a_change_of_code_the_baseline_is_repeated(bench, cli):
    cli("start", "--flags", "L2B5", "--name", "x", "--search", "halving")
    before = bench.starts()
    bench.set(breaks=FAULT, key=EDITED)
    output = cli("resume", "x")
    assert (
        f"code has changed since the last run: {len(before)} of {len(before)} runs are stale; they count no more"
        in output
    )
    assert sorted(bench.starts()[len(before) :]) == sorted(before) and named(bench) == [("ROI_ALIGN_MASK",)]
    assert [trial.fingerprint["code"] for trial in state(bench).trials_of(())] == ["b"] * 3


def test_a_change_while_runs_are_under_way(bench, cli):
    """What was begun before counts no more, what is begun after does, and nothing runs for ever."""
    seen = []

    def listen(event, state, analysis):
        if isinstance(event, events.Ended) and not seen:
            bench.set(breaks=FAULT, key=EDITED)
            seen.append(event)

    ended = bench.run(listen=listen, changes=[events.Fingerprint(KEY)])
    assert ended.state == "finished" and named(bench, "c") == [("ROI_ALIGN_MASK",)]
    assert any(event["kind"] == "fingerprint" and event["changed"] == ["code"] for event in bench.events())
    assert {trial.fingerprint["code"] for trial in ended.current} == {"b"} and len(ended.trials_of(())) == 3
    assert any(ended.stale(trial) for trial in ended.trials.values())


def test_the_loop_goes_on_while_the_trainer_is_asked_again(bench):
    """The answer takes seconds: runs end meanwhile, none is started, and a request to stop is heard at once."""
    looks, began = [], []

    def listen(event, state, analysis):
        if isinstance(event, events.Ended) and not began:
            bench.set(breaks=FAULT, key=EDITED, check=60)
            began.append(time.monotonic())
        if began and event is None:
            looks.append(len(bench.starts()))
            if time.monotonic() > began[0] + 2:
                (bench.runs / "c" / store.STOP).touch()

    bench.set(breaks=FAULT, key=KEY, slow={"": 0.3})
    ended = bench.run(listen=listen, changes=[events.Fingerprint(KEY)], slots=2, parity=False)
    assert ended.state == "interrupted" and time.monotonic() < began[0] + 10
    assert len(looks) > 5  # 2 s, at five looks a second
    settled = looks[len(looks) // 2 :]
    assert len(set(settled)) == 1, "a run was started while it was not known what it would be computed with"

    bench.set(breaks=FAULT, key=EDITED)
    again = bench.run(changes=[events.Fingerprint(EDITED, ("code",))])
    assert again.state == "finished" and {trial.fingerprint["code"] for trial in again.current} == {"b"}


def test_a_run_from_a_machine_with_other_code_is_said(bench, cli):
    bench.set(breaks=FAULT, key=KEY, elsewhere={"code": "other", "data": "d"})
    output = cli("start", "--flags", "L2B5", "--name", "x", code=2)
    assert "t01 was trained with another code than is found here" in output.splitlines()[-1]


def test_campaigns_and_trainers_without_fingerprints_are_resumed_as_before(bench, cli):
    bench.set(breaks=FAULT)
    cli("start", "--flags", "L2B5", "--name", "x", "--max-runs", "4", code=3)
    bench.set(breaks=FAULT, key=KEY)
    cli("resume", "x", "--max-runs", "20")
    assert len(bench.starts()) == len(set(bench.starts()))
    assert not any(state(bench).stale(trial) for trial in state(bench).trials.values())


# Further flags


def test_flags_can_be_added(bench, cli):
    bench.set(breaks={"segm": [["RPN_LOSS"]]}, key=KEY)
    assert "nothing breaks" in cli("start", "--flags", "L2B5", "--name", "x")
    before = bench.starts()
    output = cli("resume", "x", "--add-flags", "rpn_loss,MASK_LOSS")
    assert (
        "flags are now RPN_LOSS, ROI_ALIGN_MASK, CROP_AND_RESIZE_MASK, MASK_LOSS; the runs so far still count" in output
    )
    assert state(bench).settings.flags == ("RPN_LOSS", *BLOCK) and named(bench) == [("RPN_LOSS",)]
    after = bench.starts()[len(before) :]
    assert [run for run in after if run.startswith("- ")] == ["- 3"]  # the baseline once more
    assert len(set(bench.starts())) == len(bench.starts())
    assert any(trial.flags == BLOCK for trial in state(bench).current)  # the old whole set counts
    assert "campaign 'x' has them already" in cli("resume", "x", "--add-flags", "L2B5", code=2)
    assert "unknown flag or group 'RPN'" in cli("resume", "x", "--add-flags", "RPN", code=2)


# Runs of other campaigns


def test_runs_of_another_campaign_are_imported(bench, cli):
    cli("start", "--flags", "L2B5", "--name", "x", "--slots", "2")
    before = bench.starts()
    first = cli("start", "--flags", "L2B5,RPN_LOSS", "--name", "y", "--from", "x", "--dry-run")
    assert "t01 baseline (all off), seed 0: imported from x/t01, bbox ." in first
    assert "baseline (all off): " not in first.partition("First would run:")[2] and not (bench.runs / "y").exists()
    output = cli("start", "--flags", "L2B5,RPN_LOSS", "--name", "y", "--from", "x", "--slots", "2")
    assert named(bench, "y") == [("ROI_ALIGN_MASK",)]
    assert not set(before) & set(bench.starts()[len(before) :])
    imported = [trial for trial in state(bench, "y").trials.values() if trial.source]
    assert len(imported) == len(before) and f"seed {imported[0].seed}: imported from x/{imported[0].id}" in output
    assert (store.trial_folder(bench.runs / "y", imported[0].id) / "out" / "metrics.jsonl").exists()
    assert "from x/t01" in cli("status", "y") and "imported from x/t01" in cli("explain", "y", "t01")
    length = len(bench.events("y"))
    cli("start", "--flags", "L2B5,RPN_LOSS", "--name", "y", "--from", "x", "--slots", "2")  # again: nothing is new
    assert len(bench.events("y")) == length


def test_runs_with_another_fingerprint_are_prior_evidence_only(bench, cli):
    cli("start", "--flags", "L2B5", "--name", "x")
    bench.set(key=EDITED)
    output = cli("start", "--flags", "L2B5", "--name", "y", "--from", "x")
    assert "campaign x: " in output and "verdicts as prior evidence (at most 3:1 a set)" in output
    assert not any(trial.source for trial in state(bench, "y").trials.values())
    assert analyse(state(bench, "y")).prior_evidence["segm"][("ROI_ALIGN_MASK",)] > 1
    assert "segm: nothing breaks" in output
    for words, said in ((["--from", "y"], "that is this campaign itself"), (["--from", "z"], "no campaign 'z'")):
        assert said in cli("start", "--flags", "L2B5", "--name", "y", *words, code=2)


def test_an_imported_run_costs_nothing_of_the_budget(bench, cli):
    cli("start", "--flags", "L2B5", "--name", "x", "--max-runs", "4", code=3)
    cli("start", "--flags", "L2B5", "--name", "y", "--from", "x", "--max-runs", "2", "--slots", "1", code=3)
    assert state(bench, "y").trained == 2 and len(state(bench, "y").trials) == 6


def test_runs_without_what_a_campaign_asks_for_are_left(bench, cli):
    cli("start", "--flags", "L2B5", "--name", "x", "--max-runs", "3", code=3)
    other = state(bench, "x")
    assert len(changes(State(other.settings), KEY, others={"x": other})) == 4  # the fingerprint and three runs
    small = replace(other.settings, metrics=("segm/AP_small",))
    fewer = replace(other.settings, flags=("MASK_LOSS",))
    assert [event.kind for event in changes(State(small), KEY, others={"x": other})] == ["fingerprint"]
    assert len(changes(State(fewer), KEY, others={"x": other})) == 1 + len(other.trials_of(()))
