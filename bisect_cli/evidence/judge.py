"""Does a set of flags break a metric? Pure arithmetic over the finished runs of all sets tried and of the baseline.

The argument. Runs of the same flags differ by their seed: y ~ Normal(mu, sigma^2). Where all sets are trained with the
same few seeds, part of that is common to all runs of a seed (same first weights, same order of images), so y is the
level of its seed, which differs from mu by a share SEED_VARIANCE_SHARES of sigma^2, plus a rest of its own. A set is
  fine     if its runs are drawn from the baseline's distribution,
  broken   if they are drawn from it shifted down by a drop d > 0. Mostly d is the campaign's: what breaks one set
           breaks others, by about as much. Otherwise it is the set's own, and then, with even odds, the same for all
           its runs, or one of its own for each, as real faults do that leave more to chance than the baseline does. In
           some campaigns hardly any set differs, in others, with more than one culprit, many do.
Neither mu, sigma, the campaign's d, how many share it nor how alike the runs of a seed are is known. The baseline tells
something of mu and sigma, and so does every other set: it is fine or broken, with even odds, and either way its runs
say where the two heaps lie and how wide they are. So each verdict rests on all runs of the campaign: all are averaged
out on a grid, weighted by how well they explain everything but the set that is judged. Most runs are of the first seed,
so its level is what the grid has; that of another seed follows from it and from the baseline's runs.
  level    flat over [0, 1], where a metric lives;
  sigma^2  inverse gamma, worth NOISE_WEIGHT runs of the standard deviation of the NoisePrior. It is the floor: three
           baseline seeds that happen to agree do not make noise zero;
  d        from the smallest drop worth naming, which is larger beside a much larger one, to the baseline's mean;
           log-uniform but leaning to the small: half of all drops lie in the lowest third, in logarithms. A large drop
           is seen whatever its prior; a flat one spoke against all small ones, and so for nothing being broken.
The evidence is the ratio of the two likelihoods of all runs of the set taken together, so several seeds of one set
combine as they should: two runs that are low alike say more than two that are low unlike.

A normal tail would let one freak run make a verdict all but certain. So every run, of the baseline too, is with
probability OUTLIER_SHARE a stray, uniform over [0, 1] whatever the flags. One run alone can then never say more than about
1/OUTLIER_SHARE times its density: some hundreds to one.

A diverged run has no metric but is a result. It speaks for broken by how much likelier divergence is there, and says
nothing where the baseline diverges too.
"""

import math
from typing import NamedTuple, Optional

import numpy as np


class NoisePrior(NamedTuple):
    """How large things are, in AP, before any run. noise: standard deviation between seeds. smallest_drop: the smallest
    drop worth naming; beside: the same as a share of the largest one seen. One piece of a pair that costs half an AP
    took a twentieth of that by itself: true, and not what is looked for. Culprits of their own have been within 1 to 4.
    """

    noise: float = 0.015  # the shapes preset has .013 of mask AP and .027 of box AP; a campaign's own runs tell
    smallest_drop: float = 0.03
    beside: float = 0.1

    def given(self, largest_drop):
        """The NoisePrior of a campaign that has seen such a drop."""
        return self._replace(smallest_drop=max(self.smallest_drop, self.beside * largest_drop))


SHAPES = NoisePrior()
SHAPES_BOXES = NoisePrior(0.025)
COCO = NoisePrior(0.003, 0.01)  # a full schedule on COCO: seeds differ by a few tenths of a point; papers report whole ones
NOISE_WEIGHT = 4  # runs that the prior on the noise is worth: five baseline seeds outweigh it
SMALLEST_DROP_IN_NOISE = 2.5  # where noise is large: smaller drops take more runs than they are worth
OUTLIER_SHARE = 0.01
# Of sigma^2, common to all runs of a seed; either, with even odds. The shapes preset has .6, box and mask alike, over
# 29 and 21 runs that are fine; long training from pretrained weights makes less of its seed.
SEED_VARIANCE_SHARES = np.array([0.0, 0.6])
COMMON_DROP_SHARES = np.array([0.5, 0.95])  # share of broken sets whose drop is the campaign's; either, with even odds
DIVERGES_BROKEN = 0.2  # share of broken runs that diverge
DIVERGES_FINE = (0.01, 5)  # of fine ones: 0.01 of 5 runs before any baseline run is seen (a beta prior)
VERDICT_ODDS = 20  # a verdict needs these odds, the prior being even
MOST_RUNS = 4  # of one set; undecided after that stays undecided

# The grid: standard deviations in steps of 28 %, means in steps of half their own uncertainty, drops in steps of 2 to
# 15 %, finest where they are small; each about what the runs of a campaign could tell apart.
SIGMAS = np.geomspace(0.2, 8, 16)  # in the noise of the NoisePrior
MEANS = np.linspace(-3.5, 3.5, 15)  # in standard errors of the first seed's level, given the baseline
LEFT = 10  # grid further below the likeliest, in logarithms of their posterior weight, are left out
DROPS = ((np.arange(28) + 0.5) / 28) ** 1.5  # between the smallest and the largest, in logarithms

FINE, BROKEN, UNDECIDED, CRASHED, BASELINE = "fine", "broken", "undecided", "crashed", "baseline"


class ParameterGrid(NamedTuple):
    """What may be true of a metric, each [K]: the prior's and the baseline's logarithm of the weight; the mean of runs
    of the first seed and their standard deviation; what a broken set loses, if its drop is the campaign's, and how
    often it is.
    """

    log_weight: np.ndarray
    mean: np.ndarray
    sigma: np.ndarray
    drop: np.ndarray
    common: np.ndarray


class Early(NamedTuple):
    """What a run that was stopped early says of a metric: the log odds, broken to fine, the same in every world, and
    how far it was below the baseline then.
    """

    log_odds: float
    lost: float = 0.0


class Verdict(NamedTuple):
    """What the runs of one set say about one metric.

    call: fine, broken, undecided, crashed (no run gave a result) or baseline. runs: those that ended, crashed ones
    included.
    log_odds: natural logarithm of broken : fine. mean, sd: of the runs with a value (None without any; sd None for
    one).
    difference: mean minus the baseline's mean. diverged: how many diverged. largest_drop: of the baseline's verdict,
    what at least two runs of the campaign have lost, be they of one set or of two. What a search needs to weigh several
    sets together, as mu, sigma and d are the same for all of them: grid, of the baseline's verdict, and
    log_likelihoods of the others', [2, K], of the set's runs if it is fine and if it is broken, in each of the K
    grid; None where there is none.
    """

    call: str
    runs: int
    log_odds: float = 0.0
    mean: Optional[float] = None
    sd: Optional[float] = None
    difference: Optional[float] = None
    diverged: int = 0
    largest_drop: float = 0.0
    log_likelihoods: Optional[np.ndarray] = None
    grid: Optional[ParameterGrid] = None

    @property
    def broken(self):
        """The probability that the set is broken."""
        return 1 / (1 + math.exp(-max(-500.0, min(500.0, self.log_odds))))


def baseline(values):
    """The Verdict that carries the baseline's numbers. values: as the reference of `judge_all`."""
    finite = [value for _, value in _finite(values)]
    return Verdict(BASELINE, len(values), 0.0, _mean(finite), _sd(finite), 0.0, len(values) - len(finite))


def judge(reference, values, crashed=0, target=None, noise_prior=SHAPES):
    """The Verdict on one set by itself, as `judge_all`; without what only a search of several sets needs."""
    told = judge_all(reference, {"set": values}, {"set": crashed}, target=target, noise_prior=noise_prior)
    return told["set"]._replace(log_likelihoods=None)


def judge_all(reference, values, crashed=None, early=None, target=None, noise_prior=SHAPES):
    """The Verdicts on all sets of a campaign, {set: Verdict}, with the baseline's under ().

    reference: the metric of each run of the baseline, NaN where it diverged; {seed: metric} where sets are trained with
    the same seeds, or else just the metrics. values: {set: the same of its runs}. crashed: {set: runs that gave no
    result}; they count as runs but are no evidence. target: what a training that works is known to reach; a run that
    reaches it is as good as the baseline's mean, however high that is. early: {set: the Early of each of its runs that
    was stopped}. A set without any run gets no verdict. Raises ValueError without a finite reference.
    """
    anchor = _finite(reference)
    if not anchor:
        raise ValueError("the baseline has no finished run")
    crashed, early = crashed or {}, early or {}
    values = {one: values.get(one, ()) for one in (*values, *early)}
    finite = {one: _finite(own) for one, own in values.items()}
    lifted = {one: _lifted(own, _mean([value for _, value in anchor]), target) for one, own in finite.items()}
    largest_drop = _largest_drop(anchor, lifted, early)
    grid, told = _drop_evidence(anchor, lifted, noise_prior.given(largest_drop))
    verdicts = {(): baseline(reference)._replace(grid=grid, largest_drop=largest_drop)}
    for one in dict.fromkeys((*values, *crashed)):
        runs = len(values.get(one, ())) + crashed.get(one, 0) + len(early.get(one, ()))
        if not values.get(one) and not early.get(one):
            if runs:
                verdicts[one] = Verdict(CRASHED, runs)
            continue
        mine = [value for _, value in finite[one]]
        diverged = len(values[one]) - len(mine)
        log_odds, log_likelihoods = told[one]
        more = _divergence_evidence(len(reference), len(anchor), diverged, len(mine))
        more += sum(run.log_odds for run in early.get(one, ()))
        log_odds += more
        call = UNDECIDED if abs(log_odds) < math.log(VERDICT_ODDS) else BROKEN if log_odds > 0 else FINE
        difference = _mean(mine) - verdicts[()].mean if mine else None
        log_likelihoods = log_likelihoods + np.array([[0.0], [more]])
        numbers = _mean(mine), _sd(mine), difference, diverged
        verdicts[one] = Verdict(call, runs, log_odds, *numbers, log_likelihoods=log_likelihoods)
    return verdicts


def scale_of(preset, metric):
    """The NoisePrior of a metric, with the data of a preset."""
    if preset == "coco":
        return COCO
    return SHAPES_BOXES if metric.startswith("bbox") else SHAPES


def noise(values, noise_prior=SHAPES):
    """The standard deviation between seeds that these baseline values and the prior say."""
    shape, rate = NOISE_WEIGHT / 2, NOISE_WEIGHT / 2 * noise_prior.noise**2
    if len(values) > 1:
        shape, rate = shape + (len(values) - 1) / 2, rate + _sd(values) ** 2 * (len(values) - 1) / 2
    return math.sqrt(rate / shape)


def smallest_drop(values, noise_prior=SHAPES):
    """The smallest drop that a set is called broken for, given these baseline values."""
    return max(noise_prior.smallest_drop, SMALLEST_DROP_IN_NOISE * noise(values, noise_prior))


def falls_short(values, target, noise_prior=SHAPES):
    """Whether the mean of these baseline values is below the target by more than their noise explains: by two standard
    errors."""
    finite = [value for _, value in _finite(values)]
    return bool(finite) and _mean(finite) + 2 * noise(finite, noise_prior) / math.sqrt(len(finite)) < target


def _largest_drop(anchor, sets, early):
    """What the lowest run but one lost: the lowest may be a stray."""
    center = _mean([value for _, value in anchor])
    lost = [center - value for runs in sets.values() for _, value in runs]
    lost += [run.lost for runs in early.values() for run in runs]
    return max(0.0, sorted(lost)[-2]) if len(lost) > 1 else 0.0


def _drop_evidence(anchor, sets, noise_prior):
    """The ParameterGrid that are left, and {set: (log likelihood ratio, broken to fine, of its finished runs, given all other
    sets; the two log likelihoods, [2, K])}. anchor: the baseline's runs, (seed, value); sets: {set: the same}. Arrays
    before are [sigma, level, drop, SEED_VARIANCE_SHARES, COMMON_DROP_SHARES].
    """
    kin = _SeedModel(anchor, [seed for runs in sets.values() for seed, _ in runs], noise_prior)
    low = np.maximum(noise_prior.smallest_drop, SMALLEST_DROP_IN_NOISE * kin.own)
    reach = np.maximum(kin.center / low, 2)
    drop = low * reach ** DROPS[:, None]
    blur = (drop * np.log(reach) * np.gradient(DROPS)[:, None]) ** 2 / 12  # a drop lies anywhere within its step
    # an inverse gamma of sigma^2; the grid's equal steps of log sigma are worth sigma^2 each
    prior = -NOISE_WEIGHT * np.log(kin.sigma) - NOISE_WEIGHT / 2 * noise_prior.noise**2 / kin.sigma**2
    prior = prior + np.log(kin.step) + np.zeros((len(SIGMAS), len(MEANS), len(DROPS), 1))
    prior = prior + kin.baseline()
    prior = np.repeat(prior[..., None], len(COMMON_DROP_SHARES), axis=-1)
    weight, either, likelihoods = prior, {}, {}
    for one, runs in sets.items():
        if runs:
            expected = [kin.expected(seed) for seed, _ in runs]
            fine = sum(_log_density(value, *told) for (_, value), told in zip(runs, expected))[..., None]
            each = [
                _log_density(value, mean - drop, np.sqrt(sd**2 + blur))
                for (_, value), (mean, sd) in zip(runs, expected)
            ]
            shared = sum(each)
            broad = np.logaddexp(_log_mean(shared), sum(map(_log_mean, each))) - math.log(2)
            broken = np.logaddexp(np.log(COMMON_DROP_SHARES) + shared[..., None], np.log1p(-COMMON_DROP_SHARES) + broad[..., None])
            fine = fine + np.zeros_like(broken)
        else:
            fine = broken = np.zeros_like(prior)
        likelihoods[one] = np.stack([fine, broken])
        either[one] = np.logaddexp(fine, broken)
        weight = weight + either[one]
    kept = weight > weight.max() - LEFT
    told = {}
    for one, both in likelihoods.items():
        fine, broken = (log_sum(weight - either[one] + each) for each in both)
        told[one] = float(broken - fine), both[:, kept]
    each = np.broadcast_arrays(prior, *(of[..., None] for of in (kin.level, kin.own, drop)), COMMON_DROP_SHARES)
    return ParameterGrid(*(of[kept] for of in each)), told


class _SeedModel:
    """What is expected of the runs of each seed, given the level of the first seed and the baseline.

    The first seed is that of the baseline's which most other runs share. Arrays are [sigma, level, drop, SEED_VARIANCE_SHARES], some
    of length 1. sigma: the standard deviation between seeds. own: within one, between sets. level: the first seed's.
    step: what a step of the grid of levels is worth. center: the mean of the baseline.

    With a share a of sigma^2 in the seeds' levels, and mu flat: given the first seed's level L and the values b of m
    other seeds, mu is normal with mean (L + a sum(b)) / (1 + a m) and variance a sigma^2 / (1 + a m).
    """

    def __init__(self, anchor, seeds, noise_prior):
        known = [seed for seed, _ in anchor if seed is not None]
        self.alike = SEED_VARIANCE_SHARES if known else SEED_VARIANCE_SHARES[:1]
        first = max(known, key=lambda seed: (seeds.count(seed), -known.index(seed)), default=None)
        self.first = next((run for run in anchor if run[0] == first), anchor[0])
        self.others = [run for run in anchor if run is not self.first]
        values = [value for _, value in anchor]
        self.center = _mean(values)
        self.sigma = noise_prior.noise * SIGMAS[:, None, None, None]
        self.own = self.sigma * np.sqrt(1 - self.alike)
        sd, m = noise(values, noise_prior), len(self.others)
        # the grid lies where the baseline says the level is: the first seed's run, and the others' mean through mu
        mine, theirs = 1 / (1 - self.alike), 1 / (self.alike + 1 / m) if m else 0.0
        rest = _mean([value for _, value in self.others]) if m else 0.0
        middle = (mine * self.first[1] + theirs * rest) / (mine + theirs)
        self.step = sd / np.sqrt(mine + theirs)
        self.level = middle + self.step * MEANS[:, None, None]

    def baseline(self):
        """The logarithm of the density of its runs, each given those before."""
        told = _log_density(self.first[1], self.level, self.own)
        for number, (_, value) in enumerate(self.others):
            mean, variance = self._mu(self.others[:number])
            told = told + _log_density(value, mean, np.sqrt(self.sigma**2 + variance))
        return told

    def expected(self, seed):
        """The mean of runs of a seed of a set that is fine, and their standard deviation."""
        if seed is not None and seed == self.first[0]:
            return self.level, self.own
        mean, variance = self._mu(self.others)
        twin = next((value for one, value in self.others if seed is not None and one == seed), None)
        if twin is None:
            return mean, np.sqrt(self.sigma**2 + variance)
        apart = 1 - self.alike
        return apart * mean + self.alike * twin, np.sqrt(self.sigma**2 * (1 - self.alike**2) + apart**2 * variance)

    def _mu(self, others):
        """Its mean and variance, given the level and some of the other seeds' values."""
        weight = 1 + self.alike * len(others)
        total = sum(value for _, value in others)
        return (self.level + self.alike * total) / weight, self.alike * self.sigma**2 / weight


def _log_density(value, mean, sigma):
    """Of one run: a normal, and with probability OUTLIER_SHARE uniform over [0, 1]."""
    normal = np.exp(-0.5 * ((value - mean) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    return np.log((1 - OUTLIER_SHARE) * normal + OUTLIER_SHARE)


def _divergence_evidence(reference_runs, reference_finished, diverged, finished):
    seen, of = DIVERGES_FINE
    fine = (seen + reference_runs - reference_finished) / (of + reference_runs)
    return diverged * math.log(max(DIVERGES_BROKEN / fine, 1.0)) + finished * math.log(
        min((1 - DIVERGES_BROKEN) / (1 - fine), 1.0)
    )


def _lifted(runs, mean, target):
    return [(seed, value if target is None or value < target else max(value, mean)) for seed, value in runs]


def _log_mean(logs):
    """Over the drops, the last axis but one, kept."""
    top = logs.max(axis=-2, keepdims=True)
    return top + np.log(np.exp(logs - top).mean(axis=-2, keepdims=True))


def log_sum(logs, axis=None):
    """The logarithm of the sum of what `logs` are the logarithms of, over an axis or all."""
    top = logs.max(axis=axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.exp(logs - top).sum(axis=axis))


def _finite(values):
    """The runs that did not diverge, as (seed, value); the seed None where none is told."""
    runs = values.items() if isinstance(values, dict) else ((None, value) for value in values)
    return [(seed, value) for seed, value in runs if math.isfinite(value)]


def _mean(values):
    return sum(values) / len(values) if values else None


def _sd(values):
    if len(values) < 2:
        return None
    mean = _mean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
