"""How much a run of a subset would say about the hypotheses, in bits, with other runs still out.

What a run may show is cut into a few bins. How often it falls into each, if its subset is fine and if it is broken,
is what the campaign has learned of noise and drop so far: it is averaged over the grid points of the posterior,
hypothesis by hypothesis. That nothing breaks goes with another mean of the baseline than that all subsets tried are
broken, so a run of the baseline is informative too. Another run of a subset that was run before is less so, by the
chance that the subset is an exception, given its runs. For runs in flight, `Outlook` keeps the weight of each
hypothesis for every pattern in which they may end, above or below a cut.
Shapes: H hypotheses, the last one "something else", C subsets, P patterns, K grid points, Y bins.
"""

import numpy as np
from scipy.special import expit, ndtr, xlogy

from bisect_cli.evidence.judge import OUTLIER_SHARE
from bisect_cli.search.bayes.posterior import EXCEPTION_PROBABILITY, evenly

BINS = 10  # twice as many give the same to within 1 %
PATTERNS = 64  # of runs in flight; the likeliest, where there are more
OWN_DROPS = ((np.arange(8) + 0.5) / 8) ** 1.5  # drops that are a set's own, as the judge's DROPS


class Outlook:
    """A Posterior with its Sample, and the runs in flight that will change it.

    sampled: of more than PATTERNS patterns, those kept stand for all, as often as they are likely, instead of being the
    likeliest. With many runs in flight even the likeliest pattern is rare, and all but known by its first runs.
    """

    def __init__(self, posterior, sampled=False):
        self.sampled = sampled
        self.family, sample = posterior.family, posterior.sample
        joint = np.concatenate([sample.weights, sample.other[None]])  # [H, K]
        # of the grid points, given each hypothesis; before that, an unlikely one may be below single precision
        self.joint = (joint / joint.sum(axis=1, keepdims=True)).astype(np.float32)
        self.weights = np.append(posterior.probability, posterior.other).astype(np.float32)[:, None]  # [H, P]
        self.fine, self.broken = bin_chances(sample.grid)
        self.tried = {row.tobytes(): margin for row, margin in zip(sample.subsets, sample.margins)}
        gap = np.cumsum(self.broken - self.fine, axis=1).mean(axis=0)
        self.cut = int(np.argmax(gap)) + 1
        self.untried = self._channel(None)

    @property
    def entropy(self):
        """Bits that are not known of the hypotheses."""
        return float(_entropy(self.weights.sum(axis=1)))

    def expect(self, subset):
        """One more run in flight, of a subset: bool [n]."""
        if_fine, if_broken = (chances[:, : self.cut].sum(axis=1) for chances in self._channel_of(subset))
        broken = np.append(self.family.broken(subset[None])[0], 0.5)  # something else: every other subset is broken
        low = (if_fine + broken * (if_broken - if_fine)).astype(np.float32)[:, None]
        self.weights = np.concatenate([self.weights * low, self.weights * (1 - low)], axis=1)
        mass = self.weights.sum(axis=0)
        if len(mass) > PATTERNS and self.sampled:
            kept, times = np.unique(evenly(mass, PATTERNS), return_counts=True)
            self.weights = self.weights[:, kept] * (times / PATTERNS / mass[kept]).astype(np.float32)
        elif len(mass) > PATTERNS:
            kept = np.sort(np.argsort(-mass, kind="stable")[:PATTERNS])
            self.weights = self.weights[:, kept] / mass[kept].sum()

    def information(self, subsets, broken=None):
        """Bits that a run of each subset would add to what the runs in flight will say. subsets: bool [C, n]; returns
        [C]. broken: of `says_broken`, where it is known.
        """
        broken = self.says_broken(subsets) if broken is None else broken
        bits = self._bits(broken, *self.untried)
        for number, subset in enumerate(subsets):
            if subset.tobytes() in self.tried or not subset.any():
                bits[number] = self._bits(broken[number, None], *self._channel_of(subset))[0]
        return np.maximum(bits, 0)

    def says_broken(self, subsets):
        """Which hypotheses say that which subsets are broken, as numbers to count with, [C, H - 1]."""
        return self.family.broken(subsets).astype(np.float32)

    def _channel_of(self, subset):
        return self._channel(self.tried.get(subset.tobytes())) if subset.any() else (self.joint @ self.fine,) * 2

    def _channel(self, margin):
        """The chances of the bins under each hypothesis, if it says fine and if it says broken, each [H, Y]. margin: of
        the subset's runs so far, [K], broken to fine in logarithms; None without any.
        """
        result = []
        for odds in (np.log(EXCEPTION_PROBABILITY), -np.log(EXCEPTION_PROBABILITY)):
            broken = expit(odds if margin is None else odds + margin)[..., None]  # behaves so, exceptions counted
            result.append(self.joint @ (broken * self.broken + (1 - broken) * self.fine).astype(np.float32))
        return result

    def _bits(self, broken, if_fine, if_broken):
        """The information of runs of subsets that hypotheses call broken, [C, H - 1], with the chances of a channel."""
        if_fine, if_broken = if_fine.copy(), if_broken.copy()
        if self.weights.shape[1] > 1:  # with runs in flight, what counts of this one is above or below the cut as well
            if_fine, if_broken = (
                np.stack([chances[:, : self.cut].sum(axis=1), chances[:, self.cut :].sum(axis=1)], axis=1)
                for chances in (if_fine, if_broken)
            )
        if_fine[-1] = if_broken[-1] = (if_fine[-1] + if_broken[-1]) / 2
        weights = self.weights[:, :, None]
        apart = (weights * (if_broken - if_fine)[:, None]).reshape(len(weights), -1)[:-1]
        outcomes = (weights * if_fine[:, None]).sum(axis=0).ravel() + broken @ apart  # [C, P * Y]
        left, more = (self.weights.sum(axis=1) * _entropy(chances) for chances in (if_fine, if_broken))
        known = left.sum() + broken @ (more - left)[:-1]  # what is unsure of the outcome, the hypothesis being known
        return _entropy(outcomes) - _entropy(self.weights.sum(axis=0)) - known


def bin_chances(grid):
    """The chance of a run to fall into each bin at each point of a ParameterGrid, of a fine and of a broken set: two of
    [K, Y]. The bins are about equally likely.
    """
    mean, sigma, drop, common = (each[:, None] for each in (grid.mean, grid.sigma, grid.drop, grid.common))
    around = np.linspace(-1.5, 1.5, 8) * sigma
    values = np.sort(np.concatenate([mean + around, mean - drop + around], axis=None))
    edges = values[np.arange(1, BINS) * len(values) // BINS]

    def normal(centers):
        return np.diff(ndtr((edges - centers) / sigma), axis=-1, prepend=0, append=1)

    own = drop.min() * np.maximum(mean / drop.min(), 1) ** OWN_DROPS  # [K, drops]
    broad = np.mean([normal(mean - each[:, None]) for each in own.T], axis=0)
    outlier = np.diff(np.clip(edges, 0, 1), prepend=0, append=1)
    return tuple(
        ((1 - OUTLIER_SHARE) * each + OUTLIER_SHARE * outlier).astype(np.float32)
        for each in (normal(mean), common * normal(mean - drop) + (1 - common) * broad)
    )


def _entropy(p):
    """In bits, over the last axis."""
    return -xlogy(p, p).sum(axis=-1) / np.log(2)
