"""What a training that works is known to reach, beside the baseline; and what the preset `coco` hands to its runs."""

import json

import pytest
from bisecting import BLOCK, Bench
from click.testing import CliRunner

from bisect_cli.campaign.settings import Settings
from bisect_cli.campaign.spec import Spec
from bisect_cli.cli import main
from bisect_cli.evidence.judge import BROKEN, FINE, falls_short, judge
from bisect_cli.storage import store
from bisect_cli.trainers.maskrcnn import TRAINER


def test_a_campaign_hands_weights_and_ranks_to_its_runs():
    spec = TRAINER.spec({"preset": "coco", "weights": "/w.npz", "np": 8, "hosts": "a:4,b:4"})
    settings = Settings("c", spec, BLOCK, spec.default_metrics)
    words = TRAINER.argv(settings, (), 0, "out")
    for option, value in (("--weights", "/w.npz"), ("--np", "8"), ("--hosts", "a:4,b:4")):
        assert words[words.index(option) + 1] == value
    assert TRAINER.fills_machine(settings)
    again = Spec.from_json(json.loads(json.dumps(spec.to_json())))
    assert Settings.from_json(json.loads(json.dumps(settings.to_json())), again) == settings
    assert {metric.name: metric.target for metric in spec.metrics if metric.target} == {"bbox": 0.377, "segm": 0.339}


def test_a_run_that_reaches_the_target_is_fine_however_high_the_baseline():
    baseline = [0.42, 0.43, 0.41]
    assert judge(baseline, [0.30]).call == BROKEN
    assert judge(baseline, [0.33, 0.33], target=0.32).call == FINE
    assert judge(baseline, [0.30], target=0.32) == judge(baseline, [0.30])
    low = judge(baseline, [0.33], target=0.32)
    assert low.mean == 0.33 and low.difference == pytest.approx(-0.09)
    assert judge([0.30, 0.31, 0.29], [0.30], target=0.35) == judge([0.30, 0.31, 0.29], [0.30])


def test_a_baseline_falls_short_only_by_more_than_its_noise():
    assert falls_short([0.30, 0.31, 0.29], 0.377)
    assert not falls_short([0.371, 0.372, 0.37], 0.377)
    assert not falls_short([0.40], 0.377)
    assert not falls_short([float("nan")], 0.377)


def test_targets_stand_beside_the_baseline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bench = Bench(tmp_path, base=0.6)

    def start(name, target):
        words = ["start", "--flags", "L2B5", "--no-parity", "--name", name, "--target", target]
        return CliRunner().invoke(main, words, obj=bench.trainer)

    done = start("short", "bbox=.5,segm=.8")
    assert done.exit_code == 0, done.output
    summary = json.loads(CliRunner().invoke(main, ["status", "short", "--json"]).output)
    assert [summary["baseline"][metric]["target"] for metric in ("bbox", "segm")] == [0.5, 0.8]
    (note,) = summary["notes"]
    assert "baseline itself does not reach its target of segm, ." in note
    shown = CliRunner().invoke(main, ["status", "short"]).output
    assert "target bbox .500, segm .800" in shown and note in shown
    assert store.load(tmp_path / "runs/short")[0].settings.targets == {"bbox": 0.5, "segm": 0.8}
    for wrong in ("bbox", "bbox=37.7", "mask=.3", "segm/AP50=.5"):
        done = start("wrong", wrong)
        assert done.exit_code == 2 and done.output.count("\n") == 1
