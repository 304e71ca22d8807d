"""Is a run's verdict settled before its end? From the accuracies so far, the baseline's beside them; pure arithmetic.

What may happen to a run whose curve lies below the baseline's: it stays there, or it catches up. The baseline's own
runs tell how much of the second there is: at the same step they differ from each other by more than at the end, and
change places until then. So a run is compared at each of its evaluations with the baseline's runs at that step:
  fine     Student's t around their mean, or around the baseline's run of the same seed where that is lower: runs of
           one seed share their first weights and the order of their images, and much of their luck with them;
  broken   the same, shifted down by a drop, as likely as the judge's.
The width of t is the noise at that step, which a few runs tell badly. So it starts, as the judge's, from a floor worth
judge.NOISE_WEIGHT runs: the noise at the end, and what the baseline's curve rises within LAG of a run, for while it is
steep a little lead or lag is worth much. (Evaluations may be far apart and curves flatten steadily, so how steep it is
at one of them is the geometric mean of before and after it.) Nothing is learned from runs with flags on, whose curves
are the question.

The tails of t are heavy, so this takes a gap of some six times the noise. That a run is a stray, low by a freak
whatever its flags, is left out here: it would end as a stray too, so it is no reason to train on. It is a reason not to
believe it, and limits what a stopped run says (MOST_TOLD).

Never is a run settled as fine. That would need differences below the smallest drop worth naming to be told apart in
the middle of a run, and faults have been seen to show late.
"""

import math
from typing import NamedTuple

import numpy as np

from bisect_cli.evidence import judge

SETTLED = math.log(0.995 / 0.005)  # log odds, broken to fine, with what the other runs say of the set
BY_ITSELF = math.log(judge.VERDICT_ODDS)  # log odds of the curve alone: what a verdict needs, as it is to stand as one
LAG = 0.03  # of a run: seeds of the shapes preset are as far ahead of or behind each other, halfway
FEWEST = 2  # runs of the baseline at a step, below which nothing is known of its noise
MOST_TOLD = round(-math.log(judge.OUTLIER_SHARE), 3)  # log odds that a stopped run speaks with: it may be a stray


class Look(NamedTuple):
    """A metric at an evaluation, before the end: of a run, and of the baseline there (its mean, or the run of the same
    seed where that is lower); log_odds: natural logarithm of broken : fine.
    """

    step: int
    value: float
    baseline: float
    log_odds: float


def compare(baseline, curve, seed, steps, noise_prior=judge.SHAPES):
    """The Looks at one metric of a run, at the steps where the baseline has been evaluated too.

    baseline: {seed: {step: value}}, with the end. curve: {step: value} of the run. steps: of a whole run. noise_prior: the
    judge's.
    """
    steps_seen = sorted(step for step in set().union(*baseline.values()) if step <= steps)
    there = {step: {of: values[step] for of, values in baseline.items() if step in values} for step in steps_seen}
    there = {step: values for step, values in there.items() if len(values) >= FEWEST}
    means = {0: 0.0, **{step: sum(values.values()) / len(values) for step, values in there.items()}}
    looks = []
    for before, step, after in zip([0, *there], there, list(there)[1:]):
        if step in curve:
            rise = math.sqrt(_rise(means, before, step) * _rise(means, step, after))
            here = noise_prior._replace(noise=noise_prior.noise + LAG * steps * rise)
            center = min(means[step], there[step].get(seed, math.inf))
            looks.append(Look(step, curve[step], center, _log_odds([*there[step].values()], center, curve[step], here)))
    return looks


def stop(looks, stakes, steps):
    """Where a run can be stopped, as plain JSON, or None: its last step looked at, the steps of a whole run, and for
    each metric the value, the baseline's, and the log odds that this is worth as evidence.

    looks: {metric: its Looks}. stakes: {metric: search.Stake} of the metrics that are still searched. All to which the
    run matters have to be settled, and one in any case.
    """
    settled = [metric for metric, own in looks.items() if own and _settled(own[-1], stakes.get(metric))]
    if not settled or any(stake.matters and metric not in settled for metric, stake in stakes.items()):
        return None
    step = max(looks[metric][-1].step for metric in settled)
    told = {metric: _evidence(own[-1]) if own else _NOTHING for metric, own in looks.items()}
    return {"step": step, "steps": steps, "metrics": told}


def told(stop, metric):
    """What a run stopped there says of a metric, as judge.Early."""
    there = stop["metrics"][metric]
    lost = there["baseline"] - there["value"] if there["value"] is not None else 0.0
    return judge.Early(there["log_odds"], lost)


def words(stop):
    """Why a run was stopped, in words."""
    low = [
        f"{metric} {told['value']:.3f} where the baseline has {told['baseline']:.3f}".replace("0.", ".")
        for metric, told in stop["metrics"].items()
        if told["log_odds"] > BY_ITSELF
    ]
    return f"settled at step {stop['step']} of {stop['steps']}, {', '.join(low)}"


def _settled(look, stake):
    expected = stake.log_odds if stake else 0.0
    return look.log_odds > BY_ITSELF and look.log_odds + expected > SETTLED


_NOTHING = {"value": None, "baseline": None, "log_odds": 0.0}


def _evidence(look):
    return {
        "value": look.value,
        "baseline": round(look.baseline, 5),
        "log_odds": round(min(max(look.log_odds, 0.0), MOST_TOLD), 3),
    }


def _rise(means, first, last):
    """What the baseline gains a step between two of its evaluations."""
    return max(0.0, means[last] - means[first]) / (last - first)


def _log_odds(reference, center, value, noise_prior):
    noise = judge.noise(reference, noise_prior)
    wide = noise * math.sqrt(1 + 1 / len(reference))
    low = judge.smallest_drop(reference, noise_prior)
    drops = low * max(center / low, 2) ** judge.DROPS
    freedom = judge.NOISE_WEIGHT + len(reference) - 1

    def density(gap):
        return (1 + (gap / wide) ** 2 / freedom) ** (-(freedom + 1) / 2)

    return math.log(np.mean(density(center - value - drops)) / density(center - value))
