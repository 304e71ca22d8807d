"""How large things are in a metric: from what is declared of it, what the user says and what the baseline shows.

A range alone does not fix the scale. What one run can say is limited by how seldom outliers are times how wide the
scale is in noise (see judge.py). The AP of the Mask R-CNN, for which all constants of the judge were chosen, is
67 noises wide, and 333 on COCO. So a metric of which no range is known gets the first of these scales, around its
baseline, and one whose range is very much wider than its noise gets a part of it.
"""

import math
from typing import NamedTuple, Optional

import numpy as np
from scipy.special import gammaincinv

from bisect_cli.evidence import curves, judge, noise_prior
from bisect_cli.evidence.units import Unit

MOST_NOISES = 400  # in a scale's width; COCO's AP has 333
MOST_DROPS = 100  # likewise, of the smallest: noise may be tiny where nobody asks for small drops. COCO's AP has 100
BASELINE_AT = 0.7  # of a scale that is not the whole range: room below for drops, and as much as the shapes have
# Runs that the spread of the baseline is worth as a prior. The same runs are evidence of the noise anyway: with the
# weight of known noise, twice as many sets that are fine were called broken beside one that is (2.5 % instead of 1.1 %,
# of three baseline runs), and no more of those that are.
SPREAD_WEIGHT = 1
# Of a scale that is not the whole range: what is worse counts as this. At 0, where all drops end, one run is no verdict
# yet; here it is. Faults often cost a loss more than its scale is wide, and should not take two runs each for that.
WORST = 0.05
DIGITS = 5  # of the baseline's value in a Look, normalised: it is an average, and stands in the log
ALIKE = 1e-9  # relative to their size; values that differ by less do so by rounding
ALIKE_NOISE = 0.01  # relative to their size; of values that are all alike


class Yardstick(NamedTuple):
    """How a metric is measured. All methods take and give values in the metric's own unit.

    start: where runs start; None if that is not known. worst: what is worse counts as this. Both are normalised.
    known: whether the noise is; if not, the other fields say nothing, and nothing can be judged.
    """

    unit: Unit = Unit()
    noise_prior: judge.NoisePrior = judge.DEFAULT
    start: Optional[float] = 0.0
    worst: float = 0.0
    known: bool = True

    def judge_all(self, reference, values, crashed=None, early=None, target=None, memory=None):
        """As judge.judge_all, but for `early`, which comes from curves.early. Raises ValueError where the noise is not
        known.
        """
        if not self.known:
            raise ValueError("the noise is not known")
        verdicts = judge.judge_all(
            self._normalized(reference),
            {one: self._normalized(own) for one, own in values.items()},
            crashed,
            early,
            None if target is None else self.unit.normalized(target),
            self.noise_prior,
            self.worst,
            memory,
        )
        return {one: self._in_unit(verdict) for one, verdict in verdicts.items()}

    def compare(self, baseline, curve, seed, steps, largest_drop=0.0):
        """As curves.compare: the Looks at a run under way, where a drop as large as `largest_drop` has been seen."""
        looks = curves.compare(
            {one: self._normalized(own) for one, own in baseline.items()},
            self._normalized(curve),
            seed,
            steps,
            self._given(largest_drop),
            self.start,
        )
        return [
            look._replace(value=curve[look.step], baseline=self.unit.value(round(look.baseline, DIGITS)))
            for look in looks
        ]

    def noise(self, values=()):
        """The standard deviation between seeds, given these finite values of the baseline."""
        return self.unit.amount(judge.noise(self._normalized(values), self.noise_prior))

    def smallest_drop(self, values=(), largest_drop=0.0):
        """The smallest drop that a set is called broken for, where one as large as `largest_drop` has been seen."""
        return self.unit.amount(judge.smallest_drop(self._normalized(values), self._given(largest_drop)))

    def falls_short(self, values, target):
        """Whether the baseline misses a target by more than noise explains."""
        return judge.falls_short(self._normalized(values), self.unit.normalized(target), self.noise_prior)

    def sees_drops_from(self, mean):
        """Whether a baseline of this mean is far enough from the worst for the smallest drop to be seen."""
        return self.unit.normalized(mean) >= self.noise_prior.smallest_drop

    def _given(self, largest_drop):
        return self.noise_prior.given(abs(largest_drop / self.unit.width))

    def _normalized(self, values):
        """{seed or step: value}, or values."""
        if isinstance(values, dict):
            return {one: self.unit.normalized(value) for one, value in values.items()}
        return [self.unit.normalized(value) for value in values]

    def _in_unit(self, verdict):
        unit = self.unit
        return verdict._replace(
            mean=None if verdict.mean is None else unit.value(verdict.mean),
            sd=None if verdict.sd is None else unit.amount(verdict.sd),
            difference=None if verdict.difference is None else unit.difference(verdict.difference),
            largest_drop=unit.amount(verdict.largest_drop),
        )


def measure(metric, baseline=(), noise=None, smallest_drop=None):
    """The Yardstick of a campaign.spec.Metric.

    baseline: its values in the baseline's runs so far; NaN ones do not count. noise, smallest_drop: what the user says,
    in the metric's own unit, if anything; it comes before what the metric declares. A smallest drop that the user says
    holds whatever else is lost.
    """
    finite = [value for value in baseline if math.isfinite(value)]
    known = noise if noise is not None else metric.noise
    noise = known if known is not None else _spread(metric, finite)
    if not noise:
        return Yardstick(Unit(width=_sign(metric)), start=None, known=False)
    declared = smallest_drop if smallest_drop is not None else metric.smallest_drop
    drop = declared if declared is not None else noise * judge.DEFAULT.smallest_drop / judge.DEFAULT.noise
    unit = _unit(metric, finite, noise, drop)
    prior = judge.NoisePrior(
        noise / abs(unit.width),
        drop / abs(unit.width),
        judge.DEFAULT.beside if smallest_drop is None else 0.0,
        noise_prior.NOISE_WEIGHT if known is not None else SPREAD_WEIGHT,
    )
    start = None if metric.range is None else unit.normalized(_worst(metric))
    return Yardstick(unit, prior, start, 0.0 if unit.origin == _worst(metric) else WORST)


def _unit(metric, finite, noise, drop):
    """The whole range, where it is known and not too wide; else a part of it, or of what has no ends, that holds the
    baseline.
    """
    sign, worst = _sign(metric), _worst(metric)
    if metric.range is None:
        width = max(noise / judge.DEFAULT.noise, drop / judge.DEFAULT.smallest_drop)
    else:
        width = min(metric.high - metric.low, max(MOST_NOISES * noise, MOST_DROPS * drop))
        if width == metric.high - metric.low or not finite:
            return Unit(worst, sign * width)
    if not finite:
        return Unit(0.0 if worst is None else worst, sign * width)
    origin = float(np.median(finite)) - sign * BASELINE_AT * width
    if worst is not None and sign * (origin - worst) < 0:
        origin = worst
    return Unit(origin, sign * width)


def _spread(metric, finite):
    """The standard deviation of all runs as these say it, too low as often as too high; None if they say nothing.

    The plain standard deviation of n values is mostly too low, of two by 32 % and of three by 17 % in the median.
    Values that are all alike give none. Either the metric comes in coarse steps, or all that differs was rounded away,
    or the training does not follow its seed. To take their noise for 0 would make any difference a verdict. So it is
    taken to be what trainings mostly have, some hundredth of the metric: too much rather than too little, as small
    drops are then left undecided.
    """
    if len(finite) < 2:
        return None
    worst, mean = _worst(metric), noise_prior.mean_of(finite)
    size = abs(mean) if worst is None else abs(mean - worst) or (metric.high - metric.low if metric.range else 0.0)
    sd, freedom = noise_prior.sd_of(finite), len(finite) - 1
    if sd <= ALIKE * size:
        return ALIKE_NOISE * size or None
    median = 2 * gammaincinv(freedom / 2, 0.5)  # of chi-square; scipy.stats takes half a second to import
    return sd * math.sqrt(freedom / median)


def _sign(metric):
    return 1.0 if metric.higher_is_better else -1.0


def _worst(metric):
    """The end of the range where nothing works, None if it is not known."""
    return metric.low if metric.higher_is_better else metric.high
