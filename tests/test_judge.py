import math
import random

import pytest

from bisect_cli import judge as judging
from bisect_cli.judge import BROKEN, CRASHED, FINE, UNDECIDED, judge

NAN = math.nan
BASELINE = [0.70, 0.71, 0.69]


@pytest.mark.parametrize(
    "values, call",
    [
        ([0.70], FINE),
        ([0.75], FINE),
        ([0.50], BROKEN),
        ([0.10], BROKEN),
        ([0.64], UNDECIDED),
        ([0.5, 0.7], UNDECIDED),
        ([0.5, 0.51, 0.52], BROKEN),
        ([NAN], BROKEN),
        ([NAN, NAN], BROKEN),
        ([NAN, 0.7], UNDECIDED),
    ],
)
def test_calls(values, call):
    assert judge(BASELINE, values).call == call


def test_numbers_are_kept():
    verdict = judge(BASELINE, [0.5, 0.52, NAN], crashed=1)
    assert verdict.runs == 4 and verdict.diverged == 1
    assert verdict.mean == pytest.approx(0.51)
    assert verdict.sd == pytest.approx(0.02 / math.sqrt(2))
    assert verdict.difference == pytest.approx(-0.19)
    assert verdict.broken == pytest.approx(1 / (1 + math.exp(-verdict.log_odds)))


def test_crashes_are_no_evidence():
    assert judge(BASELINE, [], crashed=3) == judging.Verdict(CRASHED, 3)
    assert judge(BASELINE, [0.7], crashed=2).log_odds == judge(BASELINE, [0.7]).log_odds


def test_a_baseline_without_results_is_an_error():
    with pytest.raises(ValueError):
        judge([NAN, NAN], [0.7])


def test_more_seeds_that_agree_say_more():
    for value in (0.5, 0.7):
        odds = [abs(judge(BASELINE, [value] * n).log_odds) for n in (1, 2, 3)]
        assert odds[0] < odds[1] < odds[2]


def test_one_stray_run_is_never_near_certain():
    """However far off, a single run stays below the odds that a stray of probability 1 % allows."""
    for baseline in (BASELINE, [0.7] * 10):
        for value in (0.0, 0.1, 0.3, 0.5, 0.6):
            assert judge(baseline, [value]).log_odds < math.log(3000)
    assert judge(BASELINE, [0.0]).log_odds < math.log(100)


def test_two_runs_low_alike_say_more_than_two_low_unlike():
    assert judge(BASELINE, [0.45, 0.46]).log_odds > judge(BASELINE, [0.30, 0.61]).log_odds


def test_a_stray_baseline_seed_does_not_hide_a_fault():
    assert judge([0.70, 0.71, 0.69, 0.45], [0.50, 0.51]).call == BROKEN


def test_agreeing_baseline_seeds_do_not_make_noise_zero():
    assert judging.noise([0.7, 0.7, 0.7]) > 0.8 * judging.NOISE
    assert judge([0.7, 0.7, 0.7], [0.68]).call != BROKEN


def test_divergence_says_nothing_where_the_baseline_diverges():
    assert judge([0.7, NAN, NAN, 0.7], [NAN]).call == UNDECIDED


def test_the_smallest_drop_grows_with_noise():
    assert judging.smallest_drop([0.5, 0.6, 0.7]) > judging.smallest_drop(BASELINE) >= judging.SMALLEST_DROP


def test_log_marginal_is_the_integral_it_stands_for():
    """The closed form of the normal-inverse-gamma marginal against summing over mu and sigma."""
    values, shape, scale = [0.50, 0.52, 0.49], *judging._posterior([])
    total, steps = 0.0, 400
    for i in range(steps):
        sigma = 0.002 * 150 ** ((i + 0.5) / steps)
        width = sigma * math.log(150) / steps
        prior = 2 * sigma * scale**shape / math.gamma(shape) * sigma ** (-2 * shape - 2) * math.exp(-scale / sigma**2)
        for j in range(steps):
            mu = 0.4 + 0.2 * (j + 0.5) / steps
            likelihood = math.prod(
                math.exp(-(((y - mu) / sigma) ** 2) / 2) / (sigma * math.sqrt(2 * math.pi)) for y in values
            )
            total += likelihood * prior * width * 0.2 / steps
    assert judging._log_marginal(values) == pytest.approx(math.log(total), abs=0.01)


@pytest.fixture(scope="module")
def simulated():
    """Calls on sets with a drop of 0, .1 and .2, each judged with more seeds until it is clear, and the seeds taken."""
    rng, outcomes = random.Random(3), {}
    for drop in (0.0, 0.1, 0.2):
        for _ in range(150):
            sd = rng.uniform(0.01, 0.025)
            baseline = [rng.gauss(0.7, sd) for _ in range(3)]
            values = []
            while len(values) < judging.MOST_RUNS:
                values.append(rng.gauss(0.7 - drop, sd))
                verdict = judge(baseline, values)
                if verdict.call != UNDECIDED:
                    break
            outcomes.setdefault(drop, []).append((verdict.call, len(values)))
    return outcomes


def share(outcomes, call):
    return sum(called == call for called, _ in outcomes) / len(outcomes)


def test_verdicts_are_right_as_often_as_they_claim(simulated):
    """A call needs odds of 20, so at most one in twenty may be wrong."""
    assert share(simulated[0.0], BROKEN) <= 0.05
    assert share(simulated[0.1], FINE) <= 0.05
    assert share(simulated[0.2], FINE) <= 0.01


def test_verdicts_are_reached_with_few_seeds(simulated):
    assert share(simulated[0.0], FINE) >= 0.95
    assert share(simulated[0.1], BROKEN) >= 0.90
    assert share(simulated[0.2], BROKEN) >= 0.99
    for drop, most in ((0.0, 1.3), (0.1, 1.8), (0.2, 1.1)):
        assert sum(seeds for _, seeds in simulated[drop]) / len(simulated[drop]) < most
