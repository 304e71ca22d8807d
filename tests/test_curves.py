"""Runs compared with the baseline before their end: what settles a verdict, and what does not."""

import math
import random
from collections import namedtuple

import pytest

from bisect_cli.evidence import curves
from bisect_cli.evidence.units import Unit

STEPS = 1000
Relevance = namedtuple("Relevance", "matters log_odds", defaults=(0.0,))  # as search.Relevance
LOOKED_AT = (250, 500, 750)


def curve(end, noise=0.0, seed=0, late=0):
    """A curve as those of the shapes preset: steep at first, flat at the end; `late` by so many steps."""
    rng = random.Random(f"{end} {noise} {seed}")
    part = {step: (1 - math.exp(-3.2 * max(0, step - late) / STEPS)) / (1 - math.exp(-3.2)) for step in LOOKED_AT}
    return {**{step: end * part[step] + rng.gauss(0, noise) for step in LOOKED_AT}, STEPS: end}


BASELINE = {seed: curve(end, 0.02, seed) for seed, end in enumerate((0.69, 0.71, 0.70))}


def looks(run, seed=7, baseline=BASELINE):
    return curves.compare(baseline, run, seed, STEPS)


def stopped(run, expected=0.0, **options):
    return curves.stop({"bbox": looks(run, **options)}, {"bbox": Relevance(True, expected)}, STEPS)


def test_a_run_far_below_the_baseline_is_stopped_and_says_where():
    stop = stopped(curve(0.3))
    assert stop["step"] == 750 and stop["steps"] == STEPS
    bbox = stop["metrics"]["bbox"]
    assert bbox["value"] == pytest.approx(curve(0.3)[750]) and bbox["value"] < bbox["baseline"] < 0.72
    assert math.exp(bbox["log_odds"]) == pytest.approx(100, rel=0.01)
    assert curves.words(stop).startswith("settled at step 750 of 1000, bbox .2")


@pytest.mark.parametrize("end", [0.70, 0.66, 0.63, 0.90])
def test_a_run_near_the_baseline_or_above_it_is_not_stopped(end):
    assert stopped(curve(end)) is None


def test_a_run_that_lags_is_not_stopped():
    """It is far below where the curve is steep, but has all but caught up where that is flat."""
    lagging = curve(0.70, late=100)
    assert BASELINE[0][250] - lagging[250] > 0.1
    assert all(stopped({step: lagging[step] for step in LOOKED_AT[: n + 1]}) is None for n in range(3))


def test_no_verdict_where_the_baseline_itself_is_scattered():
    wide = {seed: curve(end, 0.02, seed) for seed, end in enumerate((0.50, 0.80, 0.70))}
    assert stopped(curve(0.4), baseline=wide) is None and stopped(curve(0.4)) is not None


def test_a_seed_that_is_low_without_any_flag_is_judged_by_itself():
    """A bad draw of first weights: compared with the mean it would look broken."""
    low = {0: curve(0.40), **{seed: BASELINE[seed] for seed in (1, 2)}}
    odds = {seed: looks(curve(0.38), seed=seed, baseline=low)[-1].log_odds for seed in (0, 7)}
    assert odds[0] < 0 and odds[0] < odds[7]


def test_the_end_and_what_the_baseline_has_not_seen_are_not_looked_at():
    assert [look.step for look in looks({100: 0.0, 250: 0.1, STEPS: 0.1})] == [250]
    assert looks({250: 0.1}, baseline={0: BASELINE[0]}) == []  # one run shows nothing of the noise
    assert looks({250: 0.1}, baseline={seed: {STEPS: 0.7} for seed in range(3)}) == []
    assert curves.stop({"bbox": []}, {"bbox": Relevance(True)}, STEPS) is None


def test_without_a_known_start_the_first_evaluation_has_no_slope():
    unknown = curves.compare(BASELINE, curve(0.3), 7, STEPS, start=None)
    assert [look.step for look in unknown] == [500, 750] and unknown == looks(curve(0.3))[1:]
    at_zero = {seed: {0: 0.0, **own} for seed, own in BASELINE.items()}  # a trainer may evaluate before it trains
    assert curves.compare(at_zero, curve(0.3), 7, STEPS, start=None) == looks(curve(0.3))


def test_an_evaluation_that_is_no_number_is_none():
    run = {**curve(0.3), 750: math.nan}
    assert looks(run) == looks(curve(0.3))[:2]
    broken = {**BASELINE, 3: {step: math.nan for step in BASELINE[0]}}
    assert looks(run, baseline=broken) == looks(run)


def test_curves_that_start_below_the_worst_say_nothing_there():
    deep = {seed: {step: value - 0.9 * (step < 600) for step, value in own.items()} for seed, own in BASELINE.items()}
    run = {step: value - 5.0 for step, value in curve(0.3).items()}
    at_250, at_500, at_750 = curves.compare(deep, run, 7, STEPS, start=-1.0)
    assert at_250.log_odds <= 0 and at_500.log_odds <= 0 < at_750.log_odds


def test_what_a_stopped_run_says_is_read_in_the_unit_of_the_metric():
    loss = Unit(origin=8.0, width=-5.0)  # 0 is a loss of 8, 1 one of 3
    there = {"value": 7.0, "baseline": 4.5, "log_odds": 4.6}
    stop = {"step": 600, "steps": 1000, "metrics": {"loss": there, "other": {**there, "value": None}}}
    assert curves.early(stop, "loss", loss) == (4.6, pytest.approx(0.5))
    assert curves.early(stop, "other", loss) == (4.6, 0.0)
    there["value"] = 1e6
    assert curves.early(stop, "loss", loss).lost == pytest.approx(0.7)  # no more than what there is to lose


@pytest.mark.parametrize(
    "value, text",
    [(0.0, ".000"), (0.4321, ".432"), (-0.5, "-.500"), (10.5, "10.50"), (23456.7, "23457"), (1e-6, "1e-06")],
)
def test_numbers_of_any_size_are_written_short(value, text):
    there = {"value": value, "baseline": value, "log_odds": 4.6}
    stop = {"step": 600, "steps": 1000, "metrics": {"m": there}}
    assert curves.words(stop) == f"settled at step 600 of 1000, m {text} where the baseline has {text}"


def test_all_metrics_to_whom_it_matters_have_to_be_settled():
    both = {"bbox": looks(curve(0.7)), "segm": looks(curve(0.2))}
    matters, not_so = Relevance(True), Relevance(False)
    assert curves.stop(both, {"bbox": matters, "segm": matters}, STEPS) is None
    assert curves.stop({"bbox": both["bbox"]}, {"bbox": not_so}, STEPS) is None  # nothing is known of it yet
    for relevance in ({"bbox": not_so, "segm": matters}, {"segm": matters}, {"bbox": not_so, "segm": not_so}):
        metrics = curves.stop(both, relevance, STEPS)["metrics"]
        assert metrics["bbox"]["log_odds"] == 0  # looking fine so far is no evidence
        assert metrics["segm"]["log_odds"] > 4


def test_what_other_runs_say_of_the_set_counts_but_never_replaces_its_own_curve():
    (look,) = looks({500: 0.42})
    assert curves.BY_ITSELF < look.log_odds < curves.SETTLED
    assert stopped({500: 0.42}) is None and stopped({500: 0.42}, expected=-5.0) is None
    stop = stopped({500: 0.42}, expected=3.0)
    assert stop["metrics"]["bbox"]["log_odds"] == pytest.approx(look.log_odds, abs=0.001)  # and is not counted twice
    assert stopped({500: 0.60}, expected=9.0) is None
    assert stopped(curve(0.2), expected=-9.0) is None  # too great a surprise


def test_fine_runs_are_stopped_as_seldom_as_claimed():
    """Runs that differ from the baseline's by chance alone, more so than at the end, as real ones do."""
    rng, wrong, trials = random.Random(1), 0, 400
    for trial in range(trials):
        runs = [curve(rng.gauss(0.7, 0.02), 0.03, (trial, k)) for k in range(4)]
        baseline = dict(enumerate(runs[:3]))
        wrong += any(
            stopped({step: runs[3][step] for step in LOOKED_AT[: n + 1]}, baseline=baseline) is not None
            for n in range(3)
        )
    assert wrong <= 0.005 * trials
