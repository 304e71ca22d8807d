"""Campaigns of older versions are read, shown and resumed."""

import json
import shutil
from pathlib import Path

import pytest
from bisecting import BLOCK, Bench

from bisect_cli.analysis import analyse
from bisect_cli.report.summary import summarize_folder
from bisect_cli.report.words import verdict_lines
from bisect_cli.storage import eventlog, store
from bisect_cli.trainers.maskrcnn import SPEC

CAMPAIGNS = Path(__file__).with_name("campaigns")
OLD_KEYS = """version name state reason conclusion resume folder flags metrics settings slots max_runs parity hearsay
baseline
    trials subsets culprits suspects explanations odds unresolved notes"""
OLD_SETTINGS = """name flags metrics preset data weights targets np hosts plants batch sets search suspects trusts noise
    smallest_drop seeds seed early_stop trainer workdir"""
OLD_TRIAL = """id flags seed state slot attempts step steps seconds_left wall metrics stopped_early stale source verdict
    reason folder"""


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, breaks={"segm": [["ROI_ALIGN_MASK"]]})


def handed_over(bench, name):
    """A copy of a campaign, whose trainer is the one of these tests from now on."""
    folder = bench.runs / name
    shutil.copytree(CAMPAIGNS / name, folder)
    records = eventlog.read(folder / store.LOG).events
    (folder / store.LOG).unlink()
    log = eventlog.Writer(folder / store.LOG)
    for record in records:
        if record["kind"] == "created":
            record["settings"] = {**record["settings"], "trainer": list(bench.trainer)}
        log.append(record)
    log.close()
    return folder


def summarize_copy(name, folder):
    """The summary of a campaign, which keeps what it works out beside the log."""
    return summarize_folder(shutil.copytree(CAMPAIGNS / name, folder / name))


@pytest.mark.parametrize("name", sorted(path.name for path in CAMPAIGNS.iterdir() if path.is_dir()))
def test_it_is_read_as_what_it_is(name):
    state, notes = store.load(CAMPAIGNS / name)
    assert notes == () and state.settings.name == name and state.settings.flags == BLOCK
    assert state.settings.metrics == ("bbox", "segm") and state.settings.spec.flags == SPEC.flags
    assert state.settings.spec.options["plants"] == ["ROI_ALIGN_MASK=half_pixel_train"]
    assert state.trials and all(trial.attempts == 1 for trial in state.trials.values())
    known = name != "before-parity"
    assert all(bool(trial.fingerprint) == known for trial in state.trials.values())
    assert bool(state.fingerprint) == known and bool(state.parity) == known


@pytest.mark.parametrize("name", ["before-parity", "before-specs"])
def test_the_keys_of_its_json_are_still_there(name, tmp_path):
    summary = json.loads(json.dumps(summarize_copy(name, tmp_path)))
    assert set(OLD_KEYS.split()) <= set(summary)
    assert set(OLD_SETTINGS.split()) <= set(summary["settings"])
    assert all(set(OLD_TRIAL.split()) <= set(trial) for trial in summary["trials"])
    assert summary["settings"]["preset"] == "shapes" and summary["settings"]["trainer"] == []
    assert all(set(summary["baseline"][metric]) == {"mean", "sd", "runs", "target"} for metric in ("bbox", "segm"))


def test_a_finished_one_says_what_it_found(tmp_path):
    summary = summarize_copy("before-parity", tmp_path)
    assert summary["state"] == "finished" and summary["settings"]["search"] == "halving"
    assert verdict_lines(summary)[-1].startswith("segm: ROI_ALIGN_MASK (confidence 99.")
    verdicts = analyse(store.load(CAMPAIGNS / "before-parity")[0]).verdicts["segm"]
    assert {flags: verdict.call for flags, verdict in verdicts.items() if flags} == {
        BLOCK: "broken",
        ("ROI_ALIGN_MASK",): "broken",
        ("CROP_AND_RESIZE_MASK", "MASK_LOSS"): "fine",
    }


def test_a_finished_one_is_shown_and_not_run_again(bench):
    folder = handed_over(bench, "before-parity")
    before = (folder / store.LOG).read_bytes()
    code, out, err = bench.call("resume", "before-parity", "--yes")
    assert code == 0 and err == "" and "segm: ROI_ALIGN_MASK (confidence 99." in out
    assert not bench.starts() and (folder / store.LOG).read_bytes() == before


def test_an_interrupted_one_is_resumed_where_it_was(bench):
    folder = handed_over(bench, "before-specs")
    finished = [trial for trial in store.load(folder)[0].trials.values() if trial.state == "finished"]
    code, out, err = bench.call("resume", "before-specs", "--slots", "2", "--yes")
    assert code == 0 and err == "" and "ROI_ALIGN_MASK is a culprit" in out
    state, _ = store.load(folder)
    assert [trial.flags for trial in finished] == [(), ()]
    assert all(state.trials[trial.id] == trial for trial in finished)
    assert not {f"- {trial.seed}" for trial in finished} & set(bench.starts())  # no finished run was made again
    assert [one.flags for one in analyse(state).plans["segm"].culprits] == [("ROI_ALIGN_MASK",)]
