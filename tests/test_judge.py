import math
import random

import numpy as np
import pytest

from bisect_cli.evidence import grid, seed_model
from bisect_cli.evidence import judge as judging
from bisect_cli.evidence.judge import BROKEN, CRASHED, DEFAULT, FINE, UNDECIDED, NoisePrior, judge

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
    assert list(judging.judge_all(BASELINE, {"none": {}}, {"none": 0}, {"none": []})) == [()]


def test_a_run_stopped_early_speaks_with_the_odds_it_had():
    early = {"both": [judging.Early(4.6)], "only": [judging.Early(4.6)]}
    verdicts = judging.judge_all(BASELINE, {"both": [0.5]}, early=early)
    both, only = verdicts["both"], verdicts["only"]
    assert only.log_odds == pytest.approx(4.6) and only.call == BROKEN
    assert only.runs == 1 and only.mean is None
    assert both.log_odds == pytest.approx(judge(BASELINE, [0.5]).log_odds + 4.6) and both.runs == 2
    fine, broken = only.log_likelihoods
    assert np.allclose(broken - fine, 4.6)  # at every grid point


def test_a_baseline_without_results_is_an_error():
    with pytest.raises(ValueError):
        judge([NAN, NAN], [0.7])


def test_more_seeds_that_agree_say_more():
    for value in (0.5, 0.7):
        odds = [abs(judge(BASELINE, [value] * n).log_odds) for n in (1, 2, 3)]
        assert odds[0] < odds[1] < odds[2]


def test_one_outlier_is_never_near_certain():
    """However far off, a single run stays below the odds that an outlier of probability 1 % allows."""
    for baseline in (BASELINE, [0.7] * 10):
        for value in (0.0, 0.1, 0.3, 0.5, 0.6):
            assert judge(baseline, [value]).log_odds < math.log(3000)
    assert judge(BASELINE, [0.0]).log_odds < math.log(100)


def test_two_runs_low_alike_say_more_than_two_low_unlike():
    assert judge(BASELINE, [0.45, 0.46]).log_odds > judge(BASELINE, [0.30, 0.61]).log_odds


def test_an_outlier_of_the_baseline_does_not_hide_a_fault():
    assert judge([0.70, 0.71, 0.69, 0.45], [0.50, 0.51]).call == BROKEN


def test_agreeing_baseline_seeds_do_not_make_noise_zero():
    assert judging.noise([0.7, 0.7, 0.7]) > 0.8 * DEFAULT.noise
    assert judge([0.7, 0.7, 0.7], [0.68]).call != BROKEN


def test_what_is_worse_than_the_worst_is_as_bad_as_the_worst():
    verdict = judge(BASELINE, [-3.0, -40.0])
    assert verdict.log_odds == judge(BASELINE, [0.0, 0.0]).log_odds > 5
    assert verdict.mean == pytest.approx(-21.5)  # and its numbers are its own
    assert judging.judge_all(BASELINE, {"a": [-9.0], "b": [-8.0]})[()].largest_drop == pytest.approx(0.7)
    below, reached = (judge(BASELINE, [value], target=-1.0).log_odds for value in (-3.0, -0.5))
    assert below == judge(BASELINE, [0.0]).log_odds and reached == pytest.approx(judge(BASELINE, [0.7]).log_odds)
    high = judging.judge_all(BASELINE, {"a": [-3.0], "b": [0.05]}, worst=0.1)
    assert high["a"].log_odds == high["b"].log_odds


def test_a_prior_of_less_weight_leaves_more_to_the_runs():
    assert judging.noise([0.5, 0.7], DEFAULT._replace(weight=1)) > judging.noise([0.5, 0.7])
    assert judging.noise([0.5], DEFAULT._replace(weight=1)) == DEFAULT.noise


def test_divergence_says_nothing_where_the_baseline_diverges():
    assert judge([0.7, NAN, NAN, 0.7], [NAN]).call == UNDECIDED


def test_the_smallest_drop_grows_with_noise():
    assert judging.smallest_drop([0.5, 0.6, 0.7]) > judging.smallest_drop(BASELINE) >= DEFAULT.smallest_drop


def test_beside_a_much_larger_drop_a_small_one_is_none():
    few = {"few": [0.665, 0.66, 0.67, 0.665]}
    many = {**few, "many": [0.15, 0.16]}
    alone, beside = judging.judge_all(BASELINE, few), judging.judge_all(BASELINE, many)
    by_itself = judging.judge_all(BASELINE, many, noise_prior=DEFAULT._replace(beside=0.0))
    assert alone["few"].log_odds > 0.5 > -0.5 > beside["few"].log_odds and by_itself["few"].log_odds > 0.5
    assert beside["many"].call == BROKEN


def test_the_largest_drop_takes_two_runs_be_they_stopped_early():
    def largest(values, lost=()):
        early = {"early": [judging.Early(4.6, each) for each in lost]}
        return judging.judge_all([0.7, 0.7, 0.7], values, early=early)[()].largest_drop

    assert largest({"a": [0.0]}) == 0.0  # a single one may be an outlier
    assert largest({"a": [0.0], "b": [0.6]}) == pytest.approx(0.1)
    assert largest({"a": [0.5], "b": [0.75]}, lost=[0.3]) == pytest.approx(0.2)


def test_other_sets_show_how_large_the_drop_and_the_noise_are():
    """A value half-way is undecided by itself; once other sets show a larger drop and less noise, it is not."""
    alone = judge(BASELINE, [0.665])
    fine = {f"f{i}": [0.70 + 0.004 * (-1) ** i] for i in range(5)}
    broken = {f"b{i}": [0.60 + 0.004 * (-1) ** i] for i in range(5)}
    among = judging.judge_all(BASELINE, {"set": [0.665], **fine, **broken})
    assert alone.call == UNDECIDED and among["set"].log_odds != pytest.approx(alone.log_odds)
    wide = judging.judge_all(BASELINE, {"set": [0.60], **fine, **broken})["set"].log_odds
    assert wide > judge(BASELINE, [0.60]).log_odds


def test_the_odds_are_the_integral_they_stand_for(monkeypatch):
    """One set's odds against those on a grid of sixteen times as many steps in noise and mean, and more drops."""
    values = [0.655, 0.64]
    coarse = judge(BASELINE, values).log_odds
    monkeypatch.setattr(seed_model, "SIGMAS", np.geomspace(0.1, 12, 60))
    monkeypatch.setattr(seed_model, "MEANS", np.linspace(-5, 5, 60))
    monkeypatch.setattr(grid, "DROPS", ((np.arange(90) + 0.5) / 90) ** 1.5)
    fine = judge(BASELINE, values).log_odds
    assert coarse == pytest.approx(fine, abs=0.25)


def test_what_the_noise_is_taken_to_be_matters():
    """A drop of two points is nothing on short training, and six times the noise of a long one."""
    assert judge([0.37, 0.373, 0.368], [0.35]).call != BROKEN
    assert judge([0.37, 0.373, 0.368], [0.35], noise_prior=NoisePrior(0.003, 0.01)).call == BROKEN


def test_a_run_is_compared_with_the_baseline_of_its_seed():
    """The seed whose baseline is high makes a run that would do for another seed a low one, and the other way round."""
    reference = {0: 0.66, 1: 0.725, 2: 0.71, 3: 0.70, 4: 0.673}
    fine = {f"fine {i}": {0: 0.66 + 0.005 * (-1) ** i, 1: 0.725 + 0.005 * (-1) ** i} for i in range(3)}
    verdicts = judging.judge_all(reference, {"low": {0: 0.658}, "high": {1: 0.658}, **fine})
    assert verdicts["low"].call == FINE and verdicts["high"].call == BROKEN
    apart = judging.judge_all(list(reference.values()), {"one": [0.658]})["one"]
    assert apart.call == UNDECIDED
    assert judge({0: 0.70, 1: 0.71, 2: 0.69}, {3: 0.66}).call == UNDECIDED


@pytest.mark.parametrize("seed, at", [(0, 0), (2, 2), (9, 3)])
def test_what_is_expected_of_a_seed_is_the_normal_distribution_given_the_baseline(seed, at):
    """Against the textbook formula for conditioning; index 3 stands for a seed that the baseline lacks."""
    reference = [(0, 0.66), (1, 0.725), (2, 0.71)]
    model = seed_model.SeedModel(reference, [0, 0, 2], DEFAULT)
    s, m, share = 9, 4, judging.SEED_VARIANCE_SHARES[1]
    level, sigma = model.level[m, 0, 1], model.sigma[s, 0, 0, 0]
    flat = 1e4  # standard deviation of mu, in sigma
    levels = flat**2 + share * np.eye(4)  # covariance of the four seeds' levels
    # given the first level, the two other baseline runs: what of a run of seed `at`?
    given = np.array([level, 0.725, 0.71])
    among = levels[np.ix_([0, 1, 2], [0, 1, 2])] + np.diag([0, 1 - share, 1 - share])
    cross = levels[at, [0, 1, 2]]
    mean = given.mean() + cross @ np.linalg.solve(among, given - given.mean())
    variance = levels[at, at] + 1 - share - cross @ np.linalg.solve(among, cross)
    shape = len(seed_model.SIGMAS), len(seed_model.MEANS), 1, 2
    expected, sd = (np.broadcast_to(each, shape) for each in model.expected(seed))
    assert expected[s, m, 0, 1] == pytest.approx(mean, abs=1e-4)
    assert sd[s, m, 0, 1] == pytest.approx(sigma * math.sqrt(variance), rel=1e-3)


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
    for drop, most in ((0.0, 1.4), (0.1, 1.8), (0.2, 1.1)):
        assert sum(seeds for _, seeds in simulated[drop]) / len(simulated[drop]) < most
