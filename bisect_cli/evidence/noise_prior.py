"""What is assumed of noise and drops before any run, and what the baseline's runs add. All values are normalised."""

import math
from typing import NamedTuple

NOISE_WEIGHT = 4  # runs that a known noise is worth: five baseline seeds outweigh it
SMALLEST_DROP_IN_NOISE = 2.5  # where noise is large: smaller drops take more runs than they are worth


class NoisePrior(NamedTuple):
    """How large things are before any run, as shares of the range.

    noise: standard deviation between seeds. weight: how many runs that is worth. smallest_drop: the smallest drop worth
    naming. beside: the same as a share of the largest one seen. One piece of a pair that costs half an AP took a
    twentieth of that by itself: true, and not what is looked for. Culprits of their own have been within 1 to 4.
    """

    noise: float = 0.015  # the Mask R-CNN's generated shapes have .013 of mask AP
    smallest_drop: float = 0.03
    beside: float = 0.1
    weight: float = NOISE_WEIGHT

    def given(self, largest_drop):
        """The NoisePrior of a campaign that has seen such a drop."""
        return self._replace(smallest_drop=max(self.smallest_drop, self.beside * largest_drop))


DEFAULT = NoisePrior()


def noise(values, noise_prior=DEFAULT):
    """The standard deviation between seeds, by these baseline values and the prior together."""
    shape, rate = noise_prior.weight / 2, noise_prior.weight / 2 * noise_prior.noise**2
    if len(values) > 1:
        shape, rate = shape + (len(values) - 1) / 2, rate + sd_of(values) ** 2 * (len(values) - 1) / 2
    return math.sqrt(rate / shape)


def smallest_drop(values, noise_prior=DEFAULT):
    """The smallest drop that a set is called broken for, given these baseline values."""
    return max(noise_prior.smallest_drop, SMALLEST_DROP_IN_NOISE * noise(values, noise_prior))


def falls_short(values, target, noise_prior=DEFAULT):
    """Whether the mean of these baseline values is below the target by more than their noise explains: by two standard
    errors.
    """
    finite = [value for _, value in finite_runs(values)]
    return bool(finite) and mean_of(finite) + 2 * noise(finite, noise_prior) / math.sqrt(len(finite)) < target


def finite_runs(values):
    """The runs that did not diverge, as (seed, value). values: {seed: value}; or just values, whose seed is None."""
    runs = values.items() if isinstance(values, dict) else ((None, value) for value in values)
    return [(seed, value) for seed, value in runs if math.isfinite(value)]


def mean_of(values):
    return sum(values) / len(values) if values else None


def sd_of(values):
    if len(values) < 2:
        return None
    mean = mean_of(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
