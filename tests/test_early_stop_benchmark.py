"""The replay of recorded trainings: what is stopped in them, what it saves, and that nothing fine is."""

import json
import os
import statistics
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def early_stop(root):
    sys.path.insert(0, str(root / "benchmarks"))
    try:
        import early_stop

        return early_stop
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def runs(early_stop):
    return early_stop.load(early_stop.DATA)


def replays(early_stop, runs, case, metrics, every):
    baseline = [run for run in runs if run.case == "baseline"]
    own = [run for run in runs if case in run.case]
    return [
        early_stop.replay(run, chosen, metrics, every) for run in own for chosen in early_stop.choices(run, baseline)
    ]


def test_the_recordings_are_small_and_of_every_fault(early_stop, runs):
    from maskrcnn.faults import FAULTS

    cases = {run.case for run in runs}
    assert {f"{fault.flag}={fault.name}" for fault in FAULTS.values()} <= cases and "baseline" in cases
    assert os.path.getsize(early_stop.DATA) < 64 * 1024
    assert all(run.steps == 1000 and len(run.curve["segm"]) == 10 for run in runs)


@pytest.mark.parametrize("every", [100, 600])
def test_no_recorded_run_is_stopped_falsely(early_stop, runs, every):
    for metrics in (("bbox",), ("segm",)):
        assert not any(one.false for one in replays(early_stop, runs, "", metrics, every))
        assert not any(one.step for one in replays(early_stop, runs, "baseline", metrics, every))
    assert early_stop.nearest(runs, 600) < 3 < early_stop.curves.SETTLED


def test_a_large_fault_is_stopped_and_evaluations_are_paid_for(early_stop, runs):
    large = replays(early_stop, runs, "half_pixel_train", ("segm",), 600)
    assert {one.step for one in large} == {600} and statistics.mean(one.saved for one in large) > 0.3
    untouched = replays(early_stop, runs, "half_pixel_train", ("bbox",), 600)
    assert all(one.step is None and -0.05 < one.saved < 0 for one in untouched)


def test_a_whole_campaign_names_the_same_in_shorter_runs(early_stop, runs):
    case = "ROI_ALIGN_MASK=half_pixel_train"
    plain, stopping = (early_stop.bisect(runs, case, ("segm",), every) for every in (0, 600))
    assert plain.found == stopping.found == {"segm": (("ROI_ALIGN_MASK",),)}
    assert plain.early == 0 < stopping.early and not stopping.false
    assert stopping.seconds / stopping.runs < plain.seconds / plain.runs


def test_run_folders_are_condensed(early_stop, root, tmp_path):
    out = tmp_path / "runs" / "RPN_LOSS=x-3"
    out.mkdir(parents=True)
    lines = []
    for number, step in enumerate((100, 200, 300)):
        lines.append({"step": step, "steps": 300, "wall": 10.0 * (number + 1) + 2 * number})
        lines.append({"step": step, "steps": 300, "wall": 12.0 * (number + 1), "bbox/AP": 0.1 * step, "segm/AP": 0.2})
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (out / "result.json").write_text(json.dumps({"status": "finished"}))
    script, data = root / "benchmarks" / "early_stop.py", tmp_path / "curves.csv"
    subprocess.run([sys.executable, script, "--record", out.parent, "--data", data], check=True)
    (run,) = early_stop.load(data)
    assert (run.case, run.seed, run.evaluation, run.first) == ("RPN_LOSS=x", 3, 2.0, 0.0)
    assert run.trained == {100: 10.0, 200: 20.0, 300: 30.0} and run.seconds(200, 2) == 24.0
    assert run.curve == {"bbox": {100: 10.0, 200: 20.0, 300: 30.0}, "segm": {100: 0.2, 200: 0.2, 300: 0.2}}
