"""Landscapes to search in: which sets of flags break which metric, by how much, and how noisy a training run is.

A run's outcome is a pure function of the landscape's seed, the subset and its replicate. So all methods that ask for
the same run see the same value, and every campaign can be repeated.
"""

import math
import random
from statistics import NormalDist
from typing import NamedTuple

from bisect_cli.evidence.judge import NoisePrior

GAP = 0.05  # AP that a culprit costs
BASE = 0.40  # AP of the baseline
TRUTHS = {  # sizes of the culprits
    "none": (),
    "one": (1,),
    "pair": (2,),
    "two": (1, 1),
    "one+pair": (1, 2),
    "triple": (3,),
}
SHAPES = {"bbox": NoisePrior(0.025, 0.03), "segm": NoisePrior(0.015, 0.03)}  # of the preset with generated images
COCO = NoisePrior(0.003, 0.01)  # of a full schedule, whatever the metric


class Effect(NamedTuple):
    """A minimal set of flags that breaks, and by how much AP."""

    flags: tuple
    drop: float


class Landscape(NamedTuple):
    """effects: {metric: Effects}. base: {metric: AP of the baseline}. sd: of AP between seeds, {metric: sd}. heavy:
    Student's t with 3 degrees of freedom, of that same sd, instead of a normal. crash: probability that an attempt ends
    without result. spread: a run takes 1 +- spread. seed: anything; with the subset it determines the noise. alike: the
    share of sd^2 that all runs of a replicate have in common; above 0, replicates are seeds, which the judge is given.
    beneath: {metric: Effects} that are no culprits, as they cost so much less than those. noise_priors: {metric:
    NoisePrior} of the judge, which is given no more than that. groups: of the flags, for the search.
    """

    flags: tuple
    effects: dict
    base: dict
    sd: dict
    heavy: bool = False
    crash: float = 0.0
    spread: float = 0.0
    seed: object = 0
    alike: float = 0.0
    beneath: dict = {}  # noqa: RUF012 - never written to
    noise_priors: dict = {}  # noqa: RUF012 - never written to
    groups: tuple = ()

    def truth(self, metric):
        """The culprits of a metric, as a set of tuples of flags."""
        return {effect.flags for effect in self.effects[metric]}

    def mean(self, subset, metric):
        """Of several culprits in a subset the worst one counts, so that they are no easier to see than one alone."""
        effects = (*self.effects[metric], *self.beneath.get(metric, ()))
        drops = [effect.drop for effect in effects if set(effect.flags) <= set(subset)]
        return self.base[metric] - max(drops, default=0.0)

    def run(self, subset, replicate, begun=0):
        """One training run: its AP {metric: value}, or None if it crashed, and its duration in units of a run. begun:
        how many were begun before it, which makes no difference here.
        """
        rng = random.Random(f"{self.seed} {','.join(subset)} {replicate}")
        duration = 1 + self.spread * rng.uniform(-1, 1)
        if rng.random() < self.crash:
            return None, duration * rng.random()
        own = {metric: math.sqrt(1 - self.alike) * self._noise(rng) for metric in self.effects}
        common = {metric: math.sqrt(self.alike) * self._level(metric, replicate) for metric in self.effects}
        noise = {metric: self.sd[metric] * (own[metric] + common[metric]) for metric in self.effects}
        return {metric: self.mean(subset, metric) + noise[metric] for metric in self.effects}, duration

    def _level(self, metric, replicate):
        return self._noise(random.Random(f"{self.seed} {metric} of seed {replicate}")) if self.alike else 0.0

    def _noise(self, rng):
        """Of mean 0 and variance 1."""
        normal = rng.gauss(0, 1)
        if not self.heavy:
            return normal
        chi_square = rng.gammavariate(1.5, 2)  # 3 degrees of freedom; the variance of Student's t is then 3
        return normal / math.sqrt(chi_square / 3) / math.sqrt(3)


def noise(error, gap=GAP):
    """The sd with which one run, held against a threshold at half the gap, errs with this probability."""
    return gap / 2 / NormalDist().inv_cdf(1 - error) if error else 0.0


def names(n):
    """n flags that mean nothing."""
    return tuple(f"F{i:02d}" for i in range(1, n + 1))


def draw(n, truth, error, seed, **more):
    """A landscape with one metric, in which culprits of the sizes TRUTHS[truth] lie at random among n flags, apart from
    each other.
    """
    flags, rng = names(n), random.Random(f"culprits {seed}")
    left = list(flags)
    rng.shuffle(left)
    effects = []
    for size in TRUTHS[truth]:
        chosen, left = left[:size], left[size:]
        effects.append(Effect(tuple(sorted(chosen)), GAP))
    known = {"effects": {"metric": tuple(effects)}, "base": {"metric": BASE}, "sd": {"metric": noise(error)}}
    return Landscape(flags, **known, seed=seed, **more)


def bound(n, truth, error):
    """The runs that any search needs on average which sees each only above or below the threshold: the bits that tell
    which culprits of this kind it is, by the capacity of a binary channel with this error.
    """
    ways, left = 1, n
    for size in TRUTHS[truth]:
        ways, left = ways * math.comb(left, size), left - size
    alike = math.prod(math.factorial(TRUTHS[truth].count(size)) for size in set(TRUTHS[truth]))
    return math.log2(ways // alike) / capacity(error)


def capacity(error):
    """Bits per thresholded run."""
    if not error:
        return 1.0
    return 1 + error * math.log2(error) + (1 - error) * math.log2(1 - error)
