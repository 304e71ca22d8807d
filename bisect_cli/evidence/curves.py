"""Is a run's verdict settled before its end? From its curve so far, the baseline's beside it. Values are normalised.

What may happen to a run whose curve lies below the baseline's: it stays there, or it catches up. The baseline's own
runs show how much of the second there is: at the same step they differ from each other by more than at the end, and
change places until then. So a run is compared at each of its evaluations with the baseline's runs at that step:
  fine     Student's t around their mean, or around the baseline's run of the same seed where that is lower: runs of
           one seed share their first weights and the order of their images, and much of their luck with them;
  broken   the same, shifted down by a drop, as likely as the judge's.
The width of t is the noise at that step, which a few runs show badly. So it starts from a floor, worth as many runs as
the judge's: the noise at the end, and what the baseline's curve rises within LAG of a run, for while it is steep a
little lead or lag is worth much. (Evaluations may be far apart and curves flatten steadily, so how steep it is at one
of them is the geometric mean of before and after it.) Nothing is learned from runs with flags on, whose curves are the
question.

The tails of t are heavy, so this takes a gap of some six times the noise. That a run is an outlier, low by a freak
whatever its flags, is left out here: it would end as one too, so it is no reason to train on. It is a reason not to
believe it, and limits what a run that was stopped early says (MOST_LOG_ODDS).

Never is a run settled as fine. That would need differences below the smallest drop worth naming to be distinguished in
the middle of a run, and faults have been seen to show late.
"""

import math
from typing import NamedTuple

import numpy as np

from bisect_cli.evidence import judge
from bisect_cli.evidence.grid import DROPS

SETTLED = math.log(0.995 / 0.005)  # log odds, broken to fine, with what the other runs say of the set
BY_ITSELF = math.log(judge.VERDICT_ODDS)  # log odds of the curve alone: what a verdict needs, as it is to stand as one
LAG = 0.03  # share of a run's steps: seeds of the Mask R-CNN's shapes are as far ahead or behind each other, halfway
FEWEST = 2  # runs of the baseline at a step, below which nothing is known of its noise
MOST_LOG_ODDS = round(-math.log(judge.OUTLIER_SHARE), 3)  # of a run that was stopped early: it may be an outlier


class Look(NamedTuple):
    """A metric at an evaluation, before the end: of a run, and of the baseline there (its mean, or the run of the same
    seed where that is lower); log_odds: natural logarithm of broken : fine.
    """

    step: int
    value: float
    baseline: float
    log_odds: float


def compare(baseline, curve, seed, steps, noise_prior=judge.DEFAULT, start=0.0):
    """The Looks at one metric of a run, at the steps where the baseline has been evaluated too. NaN is no evaluation.

    baseline: {seed: {step: value}}, with the end. curve: {step: value} of the run. steps: of a whole run. noise_prior:
    the judge's. start: the metric before the first step, None if that is not known; then the first evaluation is only
    the start of the second's slope.
    """
    there = {step: {} for step in sorted(set().union(*baseline.values())) if step <= steps}
    for step, values in there.items():
        values.update((of, own[step]) for of, own in baseline.items() if math.isfinite(own.get(step, math.nan)))
    there = {step: values for step, values in there.items() if len(values) >= FEWEST}
    means = {} if start is None else {0: start}
    means.update((step, sum(values.values()) / len(values)) for step, values in there.items())
    known, looks = list(means), []
    for before, step, after in zip(known, known[1:], known[2:]):
        if math.isfinite(curve.get(step, math.nan)):
            rise = math.sqrt(_rise(means, before, step) * _rise(means, step, after))  # a step
            here = noise_prior._replace(noise=noise_prior.noise + LAG * steps * rise)
            center = min(means[step], there[step].get(seed, math.inf))
            looks.append(Look(step, curve[step], center, _log_odds([*there[step].values()], center, curve[step], here)))
    return looks


def stop(looks, relevance, steps):
    """Where a run can be stopped early, as plain JSON, or None: its last step looked at, the steps of a whole run, and
    for each metric the value, the baseline's, and the log odds that this is worth as evidence.

    looks: {metric: its Looks}, with values in the metric's own unit, in which they are recorded. relevance: {metric:
    search.Relevance} of the metrics that are still searched. All to which the run matters have to be settled, and one
    in any case.
    """
    settled = [metric for metric, own in looks.items() if own and _settled(own[-1], relevance.get(metric))]
    if not settled or any(one.matters and metric not in settled for metric, one in relevance.items()):
        return None
    step = max(looks[metric][-1].step for metric in settled)
    metrics = {metric: _evidence(own[-1]) if own else _NOTHING for metric, own in looks.items()}
    return {"step": step, "steps": steps, "metrics": metrics}


def early(stop, metric, unit):
    """What a run stopped there says of a metric, as judge.Early. unit: the metric's, to read what was recorded."""
    there = stop["metrics"][metric]
    if there["value"] is None:
        return judge.Early(there["log_odds"])
    baseline, value = (max(0.0, unit.normalized(there[name])) for name in ("baseline", "value"))
    return judge.Early(there["log_odds"], baseline - value)


def words(stop):
    """Why a run was stopped early, in words."""
    low = [
        f"{metric} {_number(there['value'])} where the baseline has {_number(there['baseline'])}"
        for metric, there in stop["metrics"].items()
        if there["log_odds"] > BY_ITSELF
    ]
    return f"settled at step {stop['step']} of {stop['steps']}, {', '.join(low)}"


def _settled(look, relevance):
    expected = relevance.log_odds if relevance else 0.0
    return look.log_odds > BY_ITSELF and look.log_odds + expected > SETTLED


_NOTHING = {"value": None, "baseline": None, "log_odds": 0.0}


def _evidence(look):
    return {
        "value": look.value,
        "baseline": look.baseline,
        "log_odds": round(min(max(look.log_odds, 0.0), MOST_LOG_ODDS), 3),
    }


def _number(value):
    """Three digits behind the point, as of AP; of larger numbers four in all, of very small ones two."""
    if 0 < abs(value) < 0.0005:
        return f"{value:.2g}"
    if abs(value) < 1:
        return f"{value:.3f}".replace("0.", ".", 1)
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"


def _rise(means, first, last):
    """What the baseline gains a step between two of its evaluations."""
    return max(0.0, means[last] - means[first]) / (last - first)


def _log_odds(reference, center, value, noise_prior):
    """Of a run's value beside the baseline's at that step. What is worse than the worst counts as the worst, as for the
    judge: where the baseline itself is still there, nothing is said.
    """
    center, value = max(center, 0.0), max(value, 0.0)
    noise = judge.noise(reference, noise_prior)
    wide = noise * math.sqrt(1 + 1 / len(reference))
    low = judge.smallest_drop(reference, noise_prior)
    drops = low * max(center / low, 2) ** DROPS
    freedom = noise_prior.weight + len(reference) - 1

    def density(gap):
        return (1 + (gap / wide) ** 2 / freedom) ** (-(freedom + 1) / 2)

    return math.log(np.mean(density(center - value - drops)) / density(center - value))
