"""A campaign is the same in any unit: the same verdicts, and the same runs in the same order."""

import random

import pytest

from bisect_cli.analysis import analyse
from bisect_cli.campaign.events import Created, Ended, Opened, Started, apply, parse, record_of
from bisect_cli.campaign.settings import Settings
from bisect_cli.campaign.spec import Flag, Metric, Spec
from bisect_cli.campaign.state import State
from bisect_cli.report.lines import describe
from bisect_cli.run.schedule import next_runs

FLAGS = ("a", "b", "c", "d", "e", "f", "g")
SLOTS = 2
# Of a metric of AP: what it becomes. factor, offset; negative factors are of metrics of which lower is better.
UNITS = {
    "percent": (100.0, 0.0),
    "shifted": (1.0, 5.0),
    "error": (-1.0, 1.0),
    "seconds": (-3600.0, 7000.0),
    "tiny": (1e-6, 0.0),
}
DECLARED = Metric("m", "m", low=0.0, high=1.0, noise=0.015, smallest_drop=0.03)
BARE = Metric("m", "m")


def in_unit(metric, factor, offset):
    """The same metric in another unit."""

    def value(of):
        return None if of is None else factor * of + offset

    def amount(of):
        return None if of is None else abs(factor) * of

    low, high = sorted([value(metric.low), value(metric.high)]) if metric.range else (None, None)
    return metric._replace(
        higher_is_better=factor > 0,
        low=low,
        high=high,
        noise=amount(metric.noise),
        smallest_drop=amount(metric.smallest_drop),
    )


def run_campaign(metric, culprits, number, factor=1.0, offset=0.0, **more):
    """The runs of a whole campaign in their order, {subset: call} at its end, its result and its last lines."""
    spec = Spec("other", tuple(map(Flag, FLAGS)), metrics=(in_unit(metric, factor, offset),), default_metrics=("m",))
    settings = Settings("c", spec, FLAGS, ("m",), search="bayes", **more)
    state, runs = State(), []

    def log(event):
        nonlocal state
        state = apply(state, parse(record_of(event, 0.0)))

    log(Created(settings.to_json(), spec.to_json()))
    log(Opened(1, "here", SLOTS))
    analysis = analyse(state)
    while analysis.requests:
        started = list(next_runs(state, analysis.requests))[:SLOTS]
        assert started and len(runs) < 60, "the search does not end"
        for run in started:
            runs.append((run.flags, run.seed))
            log(Started(f"t{len(runs)}", run.flags, run.seed, 1, 1, {}))
        for place, run in enumerate(started, len(runs) - len(started) + 1):
            noise = random.Random(f"{number} {run.flags} {run.seed}").gauss(0, 0.015)
            broken = any(set(culprit) <= set(run.flags) for culprit in culprits)
            value = 0.65 - 0.12 * broken + noise
            last = Ended(f"t{place}", "finished", 1, 0, metrics={"m": factor * value + offset})
            log(last)
        analysis = analyse(state)
    table = analysis.verdicts["m"]
    result = [culprit.flags for culprit in analysis.plans["m"].culprits], analysis.plans["m"].clean
    return (
        runs,
        {subset: verdict.call for subset, verdict in table.items()},
        result,
        (describe(last, state, analysis), analysis),
    )


@pytest.mark.parametrize("metric", [DECLARED, BARE], ids=["declared", "bare"])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("culprits", [[], [("c",)], [("b", "f")]], ids=["none", "one", "pair"])
def test_the_same_campaign_in_another_unit(metric, unit, culprits):
    factor, offset = UNITS[unit]
    runs, calls, (named, clean), (_, plain) = run_campaign(metric, culprits, 1)
    others, other_calls, (other_named, other_clean), (_, other) = run_campaign(metric, culprits, 1, factor, offset)
    assert others == runs and other_calls == calls and other_named == named == culprits
    assert (clean is None) == (other_clean is None) and (clean is None or abs(clean - other_clean) < 1e-3)
    for subset, verdict in plain.verdicts["m"].items():
        converted = other.verdicts["m"][subset]
        assert converted.log_odds == pytest.approx(verdict.log_odds, rel=1e-4, abs=1e-4)
        assert converted.mean == pytest.approx(factor * verdict.mean + offset, rel=1e-6)
        assert converted.difference == pytest.approx(factor * verdict.difference, rel=1e-4, abs=1e-6 * abs(factor))


@pytest.mark.parametrize("culprits", [[], [("c",)], [("b", "f")]], ids=["none", "one", "pair"])
def test_a_metric_of_which_nothing_is_known_is_searched_as_well(culprits):
    """The baseline's own spread is all there is; over many draws the result is right."""
    right = 0
    for number in range(6):
        _, _, (named, clean), _ = run_campaign(BARE, culprits, number, -40.0, 90.0)
        assert not named or named == culprits  # no wrong name
        right += named == culprits and (clean is not None) == (not culprits)
    assert right >= 5


def test_lines_are_in_the_metrics_own_unit():
    for unit, pattern in {"percent": "m 6", "error": "m .", "seconds": "m 4"}.items():
        line, _ = run_campaign(DECLARED, [], 0, *UNITS[unit])[3]
        assert pattern in line, line


def test_a_single_baseline_run_of_an_unknown_metric_says_what_to_do():
    spec = Spec("other", (Flag("a"),), metrics=(BARE,), default_metrics=("m",))
    state = State()
    for event in (
        Created(Settings("c", spec, ("a",), ("m",), seeds=1).to_json(), spec.to_json()),
        Opened(1, "here", 1),
        Started("t1", (), 0, 1, 1, {}),
        Ended("t1", "finished", 1, 0, metrics={"m": 3.2}),
    ):
        state = apply(state, parse(record_of(event, 0.0)))
    assert "by --noise, or --seeds 2 or more" in analyse(state).failure
