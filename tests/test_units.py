"""Any metric comes to the scale of the judge, and what is said of it does not depend on the unit it is written in."""

import math
import random
import statistics
from typing import NamedTuple

import pytest

from bisect_cli.campaign.settings import Settings
from bisect_cli.campaign.spec import Flag, Metric, Spec
from bisect_cli.campaign.state import DIVERGED, FINISHED, Trial
from bisect_cli.evidence import curves, judge, prior
from bisect_cli.evidence.units import Unit
from bisect_cli.evidence.yardstick import measure

NAN = math.nan
AP = Metric("ap", "ap", low=0.0, high=1.0, noise=0.015, smallest_drop=0.03)
LOSS = Metric("loss", "loss", higher_is_better=False)


class Rewritten(NamedTuple):
    """The same metric as factor * value + constant; a negative factor turns its direction over."""

    factor: float
    constant: float = 0.0

    def value(self, value):
        return None if value is None else self.factor * value + self.constant

    def amount(self, amount):
        return None if amount is None else abs(self.factor) * amount

    def values(self, runs):
        return {seed: self.value(value) for seed, value in runs.items()}

    def metric(self, metric):
        ends = self.value(metric.low), self.value(metric.high)
        low, high = ends if self.factor > 0 else reversed(ends)
        better = metric.higher_is_better == (self.factor > 0)
        amounts = {name: self.amount(getattr(metric, name)) for name in ("noise", "smallest_drop")}
        return metric._replace(low=low, high=high, higher_is_better=better, **amounts)


OTHER_UNITS = [Rewritten(100.0), Rewritten(1.0, 40.0), Rewritten(-1.0), Rewritten(-37.0, 1234.5), Rewritten(1e-6, 3.0)]
DECLARED = {
    "everything": AP,
    "the range": Metric("m", "m", low=0.0, high=1.0),
    "the range and the noise": Metric("m", "m", low=0.0, high=1.0, noise=0.02),
    "the noise": Metric("m", "m", noise=0.02),
    "nothing": Metric("m", "m"),
    "nothing, lower is better": LOSS,
    "a range much wider than the noise": Metric("m", "m", low=-30.0, high=170.0, noise=0.02),
    "one end": Metric("m", "m", low=0.3),
    "a smallest drop": Metric("m", "m", smallest_drop=0.1),
}
REFERENCE = {0: 0.70, 1: 0.72, 2: 0.685, 3: NAN}
SETS = {
    "fine": {0: 0.71, 1: 0.69},
    "broken": {0: 0.5, 1: 0.52},
    "worse": {0: 0.2},
    "between": {0: 0.65},
    "better": {0: 0.78},
    "diverged": {0: NAN},
}
LOW_LOOK = {"value": 0.4, "baseline": 0.6, "log_odds": 4.6}


def judged(metric, unit=None, reference=REFERENCE, target=None, **said):
    """The Yardstick, and the verdicts on SETS, with all values in a unit."""
    unit = unit or Rewritten(1.0)
    reference = unit.values(reference)
    said = {name: unit.amount(amount) for name, amount in said.items()}
    yardstick = measure(unit.metric(metric), reference.values(), **said)
    look = {**LOW_LOOK, "value": unit.value(0.4), "baseline": unit.value(0.6)}
    early = {"between": [curves.early({"metrics": {"m": look}}, "m", yardstick.unit)]}
    sets = {name: unit.values(runs) for name, runs in SETS.items()}
    return yardstick, yardstick.judge_all(reference, sets, {"fine": 1}, early, unit.value(target))


def close(one, other, unit):
    """Up to rounding, which is of the values rather than of their small differences."""
    rounding = 1e-9 * abs(unit.factor) + 1e-13 * abs(unit.constant)
    return one == other or one == pytest.approx(other, rel=1e-9, abs=rounding)


@pytest.mark.parametrize("unit", OTHER_UNITS)
@pytest.mark.parametrize(
    "said", [{}, {"noise": 0.01}, {"smallest_drop": 0.08}, {"noise": 0.03, "smallest_drop": 0.1}, {"target": 0.67}]
)
@pytest.mark.parametrize("declared", DECLARED)
def test_the_unit_changes_no_verdict(declared, said, unit):
    metric = DECLARED[declared]
    (plain, verdicts), (other, same) = judged(metric, **said), judged(metric, unit, **said)
    assert list(verdicts) == list(same)
    for one, verdict in verdicts.items():
        assert same[one].call == verdict.call
        assert same[one].log_odds == pytest.approx(verdict.log_odds, rel=1e-7 if unit.factor == 1e-6 else 1e-9)
        assert close(same[one].mean, unit.value(verdict.mean), unit)
        assert close(same[one].sd, unit.amount(verdict.sd), unit)
        assert close(same[one].largest_drop, unit.amount(verdict.largest_drop), unit)
        difference = None if verdict.difference is None else unit.factor * verdict.difference
        assert close(same[one].difference, difference, unit)
    values = [value for value in REFERENCE.values() if math.isfinite(value)]
    rewritten = [unit.value(value) for value in values]
    assert other.noise(rewritten) == pytest.approx(unit.amount(plain.noise(values)), rel=1e-7)
    drops = plain.smallest_drop(values, 0.5), other.smallest_drop(rewritten, unit.amount(0.5))
    assert drops[1] == pytest.approx(unit.amount(drops[0]), rel=1e-7)


def curve(end, noise=0.0, seed=0):
    rng = random.Random(seed)
    return {
        **{step: end * (1 - math.exp(-step / 300)) + rng.gauss(0, noise) for step in (100, 250, 500, 750)},
        1000: end,
    }


@pytest.mark.parametrize("unit", OTHER_UNITS)
@pytest.mark.parametrize("declared", DECLARED)
def test_the_unit_changes_no_look(declared, unit):
    baseline = {seed: curve(end, 0.01, seed) for seed, end in enumerate((0.70, 0.72, 0.69))}
    run, metric = curve(0.4, 0.01, 9), DECLARED[declared]
    ends = [own[1000] for own in baseline.values()]
    looks = measure(metric, ends).compare(baseline, run, 9, 1000, 0.5)
    other = measure(unit.metric(metric), [unit.value(end) for end in ends])
    same = other.compare(
        {seed: unit.values(own) for seed, own in baseline.items()}, unit.values(run), 9, 1000, unit.amount(0.5)
    )
    assert [look.step for look in looks] == ([100, 250, 500, 750] if metric.range else [250, 500, 750])
    for look, rewritten in zip(looks, same):
        assert rewritten.log_odds == pytest.approx(look.log_odds, rel=1e-6 if unit.factor == 1e-6 else 1e-9)
        assert rewritten.value == unit.value(look.value)
        assert rewritten.baseline == pytest.approx(unit.value(look.baseline), rel=1e-9, abs=1e-4 * abs(unit.factor))


def test_there_and_back():
    unit = Unit(origin=8.0, width=-5.0)
    assert unit.normalized(8.0) == 0 and unit.normalized(3.0) == 1 and unit.normalized(13.0) == -1
    assert unit.value(unit.normalized(4.4)) == pytest.approx(4.4)
    assert unit.amount(0.1) == 0.5 and unit.difference(-0.1) == 0.5  # a drop is a loss that is larger
    assert math.isnan(unit.normalized(NAN))


@pytest.mark.parametrize("noise, drop", [(0.015, 0.03), (0.025, 0.03), (0.003, 0.01)])
def test_the_ap_of_the_mask_rcnn_stays_as_it_is(noise, drop):
    """To the last bit, so that old campaigns keep their verdicts."""
    for values in ([], [0.7, 0.71, 0.69], [0.38], [0.02, 0.01]):
        yardstick = measure(AP._replace(noise=noise, smallest_drop=drop), values)
        assert yardstick == (Unit(0.0, 1.0), judge.NoisePrior(noise, drop), 0.0, 0.0, True)
    yardstick, verdicts = judged(AP)
    directly = judge.judge_all(REFERENCE, SETS, {"fine": 1}, {"between": [judge.Early(4.6, 0.6 - 0.4)]})
    for one, verdict in verdicts.items():
        assert verdict[:8] == directly[one][:8]
    assert yardstick.noise([0.7, 0.71]) == judge.noise([0.7, 0.71])
    assert yardstick.smallest_drop([0.7, 0.71], 0.5) == 0.05


def test_what_the_user_says_comes_first():
    by_noise, by_drop = measure(AP, noise=0.004), measure(AP, smallest_drop=0.02)
    assert by_noise.noise_prior == judge.NoisePrior(0.004, 0.03)
    assert by_drop.noise_prior == judge.NoisePrior(0.015, 0.02, beside=0.0)  # whatever else is lost
    assert measure(AP._replace(noise=None, smallest_drop=None), noise=0.01).noise_prior.smallest_drop == 0.02


def test_a_metric_of_which_nothing_is_known_is_taken_as_the_shapes_are():
    yardstick = measure(LOSS, [3.0, 3.02, 2.98])
    sd = yardstick.noise_prior.noise * -yardstick.unit.width
    assert 0.02 < sd < 0.03 and yardstick.noise_prior.noise == pytest.approx(judge.DEFAULT.noise)
    assert yardstick.noise_prior.smallest_drop == pytest.approx(judge.DEFAULT.smallest_drop)
    assert yardstick.unit.normalized(3.0) == pytest.approx(0.7) and yardstick.start is None
    known = measure(LOSS._replace(noise=0.02), [3.0])
    assert known.known and known.unit.width == pytest.approx(-0.02 / 0.015)
    assert known.noise_prior.weight > yardstick.noise_prior.weight  # the same runs are evidence of it anyway


def test_the_spread_of_a_few_runs_is_too_low_as_often_as_too_high():
    rng = random.Random(0)
    for runs in (2, 3, 5):
        drawn = ([rng.gauss(40, 2) for _ in range(runs)] for _ in range(2000))
        noise = [measure(LOSS, values).noise() for values in drawn]
        assert statistics.median(noise) == pytest.approx(2, rel=0.06)


def test_a_baseline_that_agrees_to_the_last_digit_has_some_noise_still():
    assert measure(LOSS, [2.5, 2.5, 2.5]).noise() == pytest.approx(0.025)
    accuracy = Metric("accuracy", "accuracy", low=0.0, high=1.0)
    assert measure(accuracy, [0.93, 0.93]).noise() == pytest.approx(0.0093)
    one_step_less = measure(accuracy, [0.93] * 3).judge_all([0.93] * 3, {"set": [0.92]})
    assert one_step_less["set"].call != judge.BROKEN
    assert measure(accuracy, [0.0, 0.0]).noise() == pytest.approx(0.01)


@pytest.mark.parametrize("values", [[], [3.0], [3.0, NAN], [0.0, 0.0]])
def test_without_a_spread_nothing_is_known_and_nothing_judged(values):
    yardstick = measure(LOSS, values)
    assert not yardstick.known
    with pytest.raises(ValueError):
        yardstick.judge_all([3.0], {"set": [4.0]})
    assert measure(LOSS, values, noise=0.1).known and measure(LOSS._replace(noise=0.1), values).known


def test_a_range_much_wider_than_the_noise_is_cut():
    """Else one run, outlier or not, would make a verdict certain."""
    throughput = Metric("t", "t", low=0.0, high=1e9, noise=1.0)
    cut = measure(throughput, [5e8])
    assert cut.unit.width == 400 and cut.unit.normalized(5e8) == pytest.approx(0.7) and cut.start < 0
    assert measure(throughput, [100.0]).unit.origin == 0  # no more room below it than there is
    (verdict,) = (v for one, v in cut.judge_all([5e8], {"set": [0.0]}).items() if one)
    assert 0 < verdict.log_odds < math.log(1000) and verdict.mean == 0.0
    assert measure(throughput, [5e8], smallest_drop=1e8).unit == (0.0, 1e9)  # noise is no limit to large drops


def test_a_large_smallest_drop_has_room():
    yardstick = measure(LOSS, [3.0, 3.001], smallest_drop=0.5)
    verdicts = yardstick.judge_all([3.0, 3.001], {"small": [3.002], "large": [3.8, 3.8]})
    assert verdicts["small"].call == judge.FINE and verdicts["large"].call == judge.BROKEN


def test_a_run_far_outside_the_scale_is_broken_and_shows_its_own_value():
    yardstick = measure(LOSS, [3.0, 3.02, 2.98])
    verdict = yardstick.judge_all([3.0, 3.02, 2.98], {"set": [1e30]})["set"]
    assert verdict.call == judge.BROKEN and verdict.mean == pytest.approx(1e30)
    reached = yardstick.judge_all([3.0, 3.02, 2.98], {"set": [5.0]}, target=6.0)["set"]
    assert reached.call == judge.FINE  # a target counts, wherever it is


def test_a_target_of_a_loss_is_missed_from_above():
    yardstick = measure(LOSS, [3.0, 3.02, 2.98])
    assert yardstick.falls_short([3.0, 3.02, 2.98], 2.5) and not yardstick.falls_short([3.0, 3.02, 2.98], 3.5)


def test_a_metric_at_its_worst_can_show_no_drop():
    assert measure(AP, [0.7]).sees_drops_from(0.7) and not measure(AP, [0.01, 0.02]).sees_drops_from(0.015)
    error = Metric("error", "error", higher_is_better=False, low=0.0, high=100.0, noise=1.0)
    assert measure(error, [20.0]).sees_drops_from(20.0) and not measure(error, [99.0]).sees_drops_from(99.0)


def test_old_runs_of_a_loss_are_prior_evidence():
    spec = Spec("command", (Flag("A"), Flag("B")), metrics=(LOSS,), default_metrics=("loss",))
    settings = Settings("x", spec, ("A", "B"), ("loss",))

    def trial(number, flags, seed, value, code="old"):
        metrics = {} if value is None else {"loss": value}
        state = DIVERGED if value is None else FINISHED
        return Trial(f"r{number}", flags, seed, state, metrics=metrics, fingerprint={"code": code})

    old = [trial(k, (), k, 3.0 + 0.02 * k) for k in range(3)]
    old += [trial(3, ("A",), 0, 3.9), trial(4, ("A",), 1, 3.9), trial(5, ("B",), 0, 3.0), trial(6, ("A", "B"), 0, None)]
    new = [trial(7, (), 0, 3.0, code="new"), trial(8, ("B",), 0, 9.0, code="new")]

    def by_baseline(metric, values):
        return measure(settings.metric(metric), values)

    rows = prior.rows_of_runs(settings, by_baseline, old + new, old)
    odds = {flags: log_odds for flags, metric, log_odds in rows}
    assert odds[("A",)] > 3 and odds[("B",)] < 0 < odds[("A", "B")]
    assert prior.rows_of_runs(settings, by_baseline, new, new) == []  # one run of the baseline shows no noise
    limited = prior.weigh(rows, settings)["loss"]
    assert limited[("A",)] == pytest.approx(math.log(prior.MOST_ODDS))
    assert prior.weigh([[["A"], "loss", 1.0], [["C"], "loss", 1.0], [[], "loss", 1.0]], settings) == {
        "loss": {("A",): 1.0}
    }
