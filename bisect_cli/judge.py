"""Does a set of flags break a metric? Pure arithmetic over the finished runs of the set and of the baseline.

The argument. Runs of the same flags differ by their seed: y ~ Normal(mu, sigma^2). The baseline's replicates tell mu
and sigma. A set is
  fine     if its runs are drawn from that same distribution,
  broken   if they are drawn from it shifted down by a drop d > 0: with even odds the same d for all runs of the set, or
           one of its own for each, as real faults do that leave more to chance than the baseline does.
Neither mu, sigma nor d is known, so each is averaged out, exactly where there is a closed form:
  mu       flat over [0, 1], where a metric lives;
  sigma^2  inverse gamma, worth NOISE_WEIGHT runs of standard deviation NOISE. With mu this is the normal-inverse-gamma
           prior, whose predictive is Student's t. It is the floor: three baseline seeds that happen to agree do not
           make noise zero;
  d        log-uniform from the smallest drop worth naming to the baseline's mean, on a grid.
The evidence is the ratio of the two marginal likelihoods of all runs taken together, so several seeds of one set
combine as they should: two runs that are low alike say more than two that are low unlike.

A normal tail would let one freak run make a verdict all but certain. So every run, of the baseline too, is with
probability OUTLIER a stray, uniform over [0, 1] whatever the flags. One run alone can then never say more than about
1/OUTLIER times its density: some hundreds to one. The sum over which runs are strays is exact up to MOST_STRAYS of
them.

A diverged run has no metric but is a result. It speaks for broken by how much likelier divergence is there, and says
nothing where the baseline diverges too.
"""

import math
from itertools import combinations
from typing import NamedTuple, Optional

NOISE = 0.015  # standard deviation of AP between seeds; measured .010 and .013 on the shapes preset, taken high
NOISE_WEIGHT = 4  # runs that the prior on the noise is worth: five baseline seeds outweigh it
SMALLEST_DROP = 0.03  # the smallest drop of AP worth naming ...
SMALLEST_DROP_IN_NOISE = 3  # ... and, where noise is large, in standard deviations of it
OUTLIER = 0.01
MOST_STRAYS = 2
GRID = 100  # drops; neighbours differ by 2 to 3 %, less than the noise at any drop that occurs
DIVERGES_BROKEN = 0.2  # share of broken runs that diverge
DIVERGES_FINE = (0.01, 5)  # of fine ones: 0.01 of 5 runs before any baseline run is seen (a beta prior)
ODDS = 20  # a verdict needs these odds, the prior being even
MOST_RUNS = 4  # of one set; undecided after that stays undecided

FINE, BROKEN, UNDECIDED, CRASHED, BASELINE = "fine", "broken", "undecided", "crashed", "baseline"


class Verdict(NamedTuple):
    """What the runs of one set say about one metric.

    call: fine, broken, undecided, crashed (no run gave a result) or baseline. runs: those that ended, crashed ones
    included.
    log_odds: natural logarithm of broken : fine. mean, sd: of the runs with a value (None without any; sd None for
    one).
    difference: mean minus the baseline's mean. diverged: how many diverged.
    """

    call: str
    runs: int
    log_odds: float = 0.0
    mean: Optional[float] = None
    sd: Optional[float] = None
    difference: Optional[float] = None
    diverged: int = 0

    @property
    def broken(self):
        """The probability that the set is broken."""
        return 1 / (1 + math.exp(-max(-500.0, min(500.0, self.log_odds))))


def baseline(values):
    """The Verdict that carries the baseline's numbers. values: the metric of each run, NaN where it diverged."""
    finite = _finite(values)
    return Verdict(BASELINE, len(values), 0.0, _mean(finite), _sd(finite), 0.0, len(values) - len(finite))


def judge(reference, values, crashed=0, target=None):
    """The Verdict on a set. reference, values: the metric of each run of the baseline and of the set, NaN where it
    diverged.

    crashed: runs of the set that gave no result; they count as runs but are no evidence. target: what a training that
    works is known to reach; a run that reaches it is as good as the baseline's mean, however high that is. Raises
    ValueError without a finite reference.
    """
    anchor, finite = _finite(reference), _finite(values)
    if not anchor:
        raise ValueError("the baseline has no finished run")
    diverged, runs = len(values) - len(finite), len(values) + crashed
    if not values:
        return Verdict(CRASHED, runs)
    reached = [value if target is None or value < target else max(value, _mean(anchor)) for value in finite]
    log_odds = _drop_evidence(anchor, reached) + _divergence_evidence(
        len(reference), len(anchor), diverged, len(finite)
    )
    call = UNDECIDED if abs(log_odds) < math.log(ODDS) else BROKEN if log_odds > 0 else FINE
    difference = _mean(finite) - _mean(anchor) if finite else None
    return Verdict(call, runs, log_odds, _mean(finite), _sd(finite), difference, diverged)


def noise(values):
    """The standard deviation between seeds that these baseline values and the prior say."""
    return math.sqrt(_posterior(values)[1] / _posterior(values)[0])


def smallest_drop(values):
    """The smallest drop that a set is called broken for, given these baseline values."""
    return max(SMALLEST_DROP, SMALLEST_DROP_IN_NOISE * noise(values))


def falls_short(values, target):
    """Whether the mean of these baseline values is below the target by more than their noise explains: by two standard
    errors."""
    finite = _finite(values)
    return bool(finite) and _mean(finite) + 2 * noise(finite) / math.sqrt(len(finite)) < target


def _drop_evidence(anchor, values):
    """Log marginal likelihood ratio, broken to fine, of the finished runs."""
    if not values:
        return 0.0
    nothing, _ = _log_likelihoods(anchor, [])
    fine, one_drop = _log_likelihoods(anchor, values)
    own_drops = nothing + sum(_log_likelihoods(anchor, [value])[1] - nothing for value in values)
    return _log_sum([one_drop, own_drops]) - math.log(2) - fine


def _log_likelihoods(anchor, values):
    """Log marginal likelihoods of all the runs together: if the values are fine, and if all dropped by the same."""
    fine, broken = [], []
    for kept_anchor, strays in _without_strays(anchor, MOST_STRAYS):
        drops = _drops(kept_anchor or anchor)
        for kept, more in _without_strays(values, MOST_STRAYS - strays):
            total = strays + more
            weight = total * math.log(OUTLIER) + (len(anchor) + len(values) - total) * math.log1p(-OUTLIER)
            fine.append(weight + _log_marginal(kept_anchor + kept))
            if not kept:  # a stray says nothing about d
                broken.append(fine[-1])
                continue
            shifted = [_log_marginal(kept_anchor + [value + drop for value in kept]) for drop in drops]
            broken.append(weight + _log_sum(shifted) - math.log(len(drops)))
    return _log_sum(fine), _log_sum(broken)


def _divergence_evidence(reference_runs, reference_finished, diverged, finished):
    seen, of = DIVERGES_FINE
    fine = (seen + reference_runs - reference_finished) / (of + reference_runs)
    return diverged * math.log(max(DIVERGES_BROKEN / fine, 1.0)) + finished * math.log(
        min((1 - DIVERGES_BROKEN) / (1 - fine), 1.0)
    )


def _without_strays(values, most):
    """Every way to leave out up to `most` of the values as strays: what is kept, and how many were left out."""
    for strays in range(min(most, len(values)) + 1):
        for out in combinations(range(len(values)), strays):
            yield [value for i, value in enumerate(values) if i not in out], strays


def _drops(anchor):
    low = smallest_drop(anchor)
    high = max(_mean(anchor), 2 * low)
    return [low * (high / low) ** ((i + 0.5) / GRID) for i in range(GRID)]


def _posterior(values):
    """Shape and scale of the inverse gamma of sigma^2 given values of unknown mean."""
    shape, scale = NOISE_WEIGHT / 2, NOISE_WEIGHT / 2 * NOISE**2
    if len(values) < 2:
        return shape, scale
    mean = _mean(values)
    return shape + (len(values) - 1) / 2, scale + sum((value - mean) ** 2 for value in values) / 2


def _log_marginal(values):
    """Log density of values ~ Normal(mu, sigma^2), with mu averaged over [0, 1] and sigma^2 over its prior. Edges are
    ignored.
    """
    n = len(values)
    if n < 2:
        return 0.0  # one value: its mean is as uniform as itself
    shape, scale = _posterior([])
    after_shape, after_scale = _posterior(values)
    return (
        -(n - 1) / 2 * math.log(2 * math.pi)
        - math.log(n) / 2
        + shape * math.log(scale)
        - after_shape * math.log(after_scale)
        + math.lgamma(after_shape)
        - math.lgamma(shape)
    )


def _log_sum(logs):
    top = max(logs)
    return top + math.log(sum(math.exp(log - top) for log in logs))


def _finite(values):
    return [value for value in values if math.isfinite(value)]


def _mean(values):
    return sum(values) / len(values) if values else None


def _sd(values):
    if len(values) < 2:
        return None
    mean = _mean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
