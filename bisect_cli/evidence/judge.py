"""Does a set of flags break a metric? Arithmetic over the finished runs of the baseline and of all sets tried.

Values are normalised: 0 is the worst and 1 the best (units.py).

The argument. Runs of the same flags differ by their seed: y ~ Normal(mu, sigma^2). Where all sets are trained with the
same few seeds, part of that is common to all runs of a seed (same first weights, same order of images). So y is the
level of its seed, which differs from mu by a share SEED_VARIANCE_SHARES of sigma^2, plus a rest of its own. A set is
  fine     if its runs are drawn from the baseline's distribution,
  broken   if they are drawn from it shifted down by a drop d > 0. Mostly d is the campaign's: what breaks one set
           breaks others, by about as much. Otherwise it is the set's own. Then, with even odds, it is the same for all
           its runs, or one of its own for each: some real faults leave more to chance than the baseline does. In some
           campaigns hardly any set differs; in others, with more than one culprit, many do (COMMON_DROP_SHARES).
mu, sigma, the campaign's d, how many sets share it and how alike the runs of a seed are: none of it is known. The
baseline says something of mu and sigma, and so does every other set. It is fine or broken, with even odds, and either
way its runs show where the two modes lie and how wide they are. So each verdict rests on all runs of the campaign: the
parameters are averaged out on a grid, weighted by how well they explain everything but the set that is judged.
  level    flat: anywhere;
  sigma^2  inverse gamma, worth so many runs of the NoisePrior's standard deviation as its weight is. It is a floor:
           three baseline seeds that happen to agree do not make noise zero;
  d        from the smallest drop worth naming, which is larger beside a much larger one, to the baseline's mean;
           log-uniform but leaning to the small: half of all drops lie in the lowest third, in logarithms. A large drop
           is seen whatever its prior; a flat one spoke against all small ones, and so for nothing being broken.
The evidence is the ratio of the two likelihoods of all runs of the set taken together, so several seeds of one set
combine as they should: two runs that are low alike say more than two that are low unlike.

A normal tail would let one freak run make a verdict all but certain. So every run, of the baseline too, is with
probability OUTLIER_SHARE an outlier, uniform over [0, 1] whatever its flags. One run alone can then never say more than
about 1/OUTLIER_SHARE times its density: some hundreds to one.

What is worse than the worst counts as the worst. There is such a thing where the worst is a convention: a loss has no
largest value. How far below that a run is says nothing more, and no drop reaches there: it would pass for an outlier.

A diverged run has no metric but is a result. It speaks for broken by how much likelier divergence is there, and says
nothing where the baseline diverges too.
"""

import math
from typing import NamedTuple

import numpy as np

from bisect_cli.evidence.grid import COMMON_DROP_SHARES, Memory, ParameterGrid, log_sum, weigh
from bisect_cli.evidence.noise_prior import (
    DEFAULT,
    NoisePrior,
    falls_short,
    finite_runs,
    mean_of,
    noise,
    sd_of,
    smallest_drop,
)
from bisect_cli.evidence.seed_model import OUTLIER_SHARE, SEED_VARIANCE_SHARES
from bisect_cli.evidence.verdict import (
    BASELINE,
    BROKEN,
    CRASHED,
    FINE,
    MOST_RUNS,
    UNDECIDED,
    VERDICT_ODDS,
    Verdict,
)

__all__ = [
    "BASELINE",
    "BROKEN",
    "COMMON_DROP_SHARES",
    "CRASHED",
    "DEFAULT",
    "FINE",
    "MOST_RUNS",
    "OUTLIER_SHARE",
    "SEED_VARIANCE_SHARES",
    "UNDECIDED",
    "VERDICT_ODDS",
    "Early",
    "Memory",
    "NoisePrior",
    "ParameterGrid",
    "Verdict",
    "baseline",
    "falls_short",
    "judge",
    "judge_all",
    "log_sum",
    "noise",
    "smallest_drop",
]

DIVERGES_BROKEN = 0.2  # share of broken runs that diverge
DIVERGES_FINE = (0.01, 5)  # of fine ones: 0.01 of 5 runs before any baseline run is seen (a beta prior)


class Early(NamedTuple):
    """What a run that was stopped early says of a metric: the log odds, broken to fine, the same at every grid point,
    and how far it was below the baseline then.
    """

    log_odds: float
    lost: float = 0.0


def baseline(values):
    """The Verdict that carries the baseline's numbers. values: as the reference of `judge_all`."""
    finite = [value for _, value in finite_runs(values)]
    return Verdict(BASELINE, len(values), 0.0, mean_of(finite), sd_of(finite), 0.0, len(values) - len(finite))


def judge(reference, values, crashed=0, target=None, noise_prior=DEFAULT):
    """The Verdict on one set by itself, as `judge_all`; without what only a search of several sets needs."""
    verdicts = judge_all(reference, {"set": values}, {"set": crashed}, target=target, noise_prior=noise_prior)
    return verdicts["set"]._replace(log_likelihoods=None)


def judge_all(reference, values, crashed=None, early=None, target=None, noise_prior=DEFAULT, worst=0.0, memory=None):
    """The Verdicts on all sets of a campaign, {set: Verdict}, with the baseline's under (). All values are normalised.

    reference: the metric of each run of the baseline, NaN where it diverged; {seed: metric} where sets are trained with
    the same seeds, or else just the metrics. values: {set: the same of its runs}. crashed: {set: runs that gave no
    result}; they count as runs but are no evidence. target: what a training that works is known to reach; a run that
    reaches it is as good as the baseline's mean, however high that is. early: {set: the Early of each of its runs that
    was stopped}. worst: what is below it counts as this. memory: as in grid.weigh. A set without any run gets no
    verdict. Raises ValueError without a finite reference.
    """
    finite_reference = _from(worst, finite_runs(reference))
    if not finite_reference:
        raise ValueError("the baseline has no finished run")
    crashed, early = crashed or {}, early or {}
    values = {one: values.get(one, ()) for one in (*values, *early)}
    center = mean_of([value for _, value in finite_reference])
    runs = {one: _from(worst, _lifted(finite_runs(own), center, target)) for one, own in values.items()}
    largest_drop = _largest_drop(center, runs, early)
    grid, said = weigh(finite_reference, runs, noise_prior.given(largest_drop), memory)
    base = baseline(reference)._replace(grid=grid, largest_drop=largest_drop)
    verdicts = {(): base}
    for one in dict.fromkeys((*values, *crashed)):
        stopped = early.get(one, ())
        if values.get(one) or stopped:
            verdicts[one] = _verdict(base, values[one], crashed.get(one, 0), stopped, *said[one])
        elif crashed.get(one, 0):
            verdicts[one] = Verdict(CRASHED, crashed[one])
    return verdicts


def _verdict(base, values, crashed, early, log_odds, log_likelihoods):
    """The Verdict on one set. base: the baseline's. log_odds, log_likelihoods: of its finished runs, as grid.weigh."""
    mine = [value for _, value in finite_runs(values)]
    diverged = len(values) - len(mine)
    more = _divergence_evidence(base.runs, base.runs - base.diverged, diverged, len(mine))
    more += sum(run.log_odds for run in early)
    log_odds += more
    call = UNDECIDED if abs(log_odds) < math.log(VERDICT_ODDS) else BROKEN if log_odds > 0 else FINE
    mean = mean_of(mine)
    return Verdict(
        call,
        len(values) + crashed + len(early),
        log_odds,
        mean,
        sd_of(mine),
        mean - base.mean if mine else None,
        diverged,
        log_likelihoods=log_likelihoods + np.array([[0.0], [more]]),
    )


def _largest_drop(center, sets, early):
    """What the lowest run but one lost: the lowest may be an outlier."""
    lost = [center - value for runs in sets.values() for _, value in runs]
    lost += [run.lost for runs in early.values() for run in runs]
    return max(0.0, sorted(lost)[-2]) if len(lost) > 1 else 0.0


def _divergence_evidence(reference_runs, reference_finished, diverged, finished):
    seen, of = DIVERGES_FINE
    fine = (seen + reference_runs - reference_finished) / (of + reference_runs)
    return diverged * math.log(max(DIVERGES_BROKEN / fine, 1.0)) + finished * math.log(
        min((1 - DIVERGES_BROKEN) / (1 - fine), 1.0)
    )


def _lifted(runs, mean, target):
    return [(seed, value if target is None or value < target else max(value, mean)) for seed, value in runs]


def _from(worst, runs):
    return [(seed, max(value, worst)) for seed, value in runs]
