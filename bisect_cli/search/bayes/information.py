"""How much a run of a subset would tell about the hypotheses, in bits, with other runs still out.

What a run may show is cut into a few bins. How often it falls into each, if its subset is fine and if it is broken,
is what the campaign has learned of noise and drop so far: it is averaged over the worlds of the posterior, hypothesis
by hypothesis. That nothing breaks goes with another mean of the baseline than that all subsets tried are broken, so a
run of the baseline tells something too. Another run of a subset that was run before tells less, by the chance that the
subset is a freak, given its runs. For runs in flight, `Outlook` keeps the weight of each hypothesis for every pattern
in which they may end, above or below a cut.
Shapes: H hypotheses, the last one "something else", C subsets, P patterns, K worlds, Y bins.
"""

import numpy as np
from scipy.special import expit, ndtr, xlogy

from bisect_cli.evidence.judge import OUTLIER_SHARE
from bisect_cli.search.bayes.posterior import WRONG

BINS = 10  # twice as many tell the same to within 1 %
PATTERNS = 64  # of runs in flight; the likeliest, where there are more
OWN = ((np.arange(8) + 0.5) / 8) ** 1.5  # drops that are a set's own, as the judge's DROPS


class Outlook:
    """A Posterior with its Sample, and the runs in flight that will change it."""

    def __init__(self, posterior):
        self.family, sample = posterior.family, posterior.sample
        joint = np.concatenate([sample.weights, sample.other[None]]).astype(np.float32)  # [H, K]
        self.joint = joint / joint.sum(axis=1, keepdims=True)  # of the worlds, given each hypothesis
        self.weights = np.append(posterior.probability, posterior.other).astype(np.float32)[:, None]  # [H, P]
        self.fine, self.broken = chances(sample.worlds)
        self.tried = {row.tobytes(): margin for row, margin in zip(sample.subsets, sample.margins)}
        gap = np.cumsum(self.broken - self.fine, axis=1).mean(axis=0)
        self.cut = int(np.argmax(gap)) + 1
        self.first = self._channel(None)

    def add(self, subset):
        """One more run in flight, of a subset: bool [n]."""
        if_fine, if_broken = (told[:, : self.cut].sum(axis=1) for told in self._channel_of(subset))
        says = np.append(self.family.broken(subset[None])[0], 0.5)  # something else: every other subset is broken
        low = (if_fine + says * (if_broken - if_fine)).astype(np.float32)[:, None]
        self.weights = np.concatenate([self.weights * low, self.weights * (1 - low)], axis=1)
        mass = self.weights.sum(axis=0)
        if len(mass) > PATTERNS:
            kept = np.sort(np.argsort(-mass, kind="stable")[:PATTERNS])
            self.weights = self.weights[:, kept] / mass[kept].sum()

    def information(self, subsets):
        """Bits that a run of each subset would tell beyond what the runs in flight will. subsets: bool [C, n]; returns
        [C].
        """
        says = self.family.broken(subsets).astype(np.float32)
        bits = self._told(says, *self.first)
        for number, subset in enumerate(subsets):
            if subset.tobytes() in self.tried or not subset.any():
                bits[number] = self._told(says[number, None], *self._channel_of(subset))[0]
        return np.maximum(bits, 0)

    def _channel_of(self, subset):
        return self._channel(self.tried.get(subset.tobytes())) if subset.any() else (self.joint @ self.fine,) * 2

    def _channel(self, margin):
        """The chances of the bins under each hypothesis, if it says fine and if it says broken, each [H, Y]. margin: of
        the subset's runs so far, [K], broken to fine in logarithms; None without any.
        """
        told = []
        for odds in (np.log(WRONG), -np.log(WRONG)):
            broken = expit(odds if margin is None else odds + margin)[..., None]  # behaves so, freaks counted
            told.append(self.joint @ (broken * self.broken + (1 - broken) * self.fine).astype(np.float32))
        return told

    def _told(self, says, if_fine, if_broken):
        if_fine, if_broken = if_fine.copy(), if_broken.copy()
        if self.weights.shape[1] > 1:
            if_fine, if_broken = (
                np.stack([told[:, : self.cut].sum(axis=1), told[:, self.cut :].sum(axis=1)], axis=1)
                for told in (if_fine, if_broken)
            )
        if_fine[-1] = if_broken[-1] = (if_fine[-1] + if_broken[-1]) / 2
        weights = self.weights[:, :, None]
        apart = (weights * (if_broken - if_fine)[:, None]).reshape(len(weights), -1)[:-1]
        outcomes = (weights * if_fine[:, None]).sum(axis=0).ravel() + says @ apart  # [C, P * Y]
        left, more = (self.weights.sum(axis=1) * _entropy(told) for told in (if_fine, if_broken))
        known = left.sum() + says @ (more - left)[:-1]  # what is unsure of the outcome, the hypothesis being known
        return _entropy(outcomes) - _entropy(self.weights.sum(axis=0)) - known


def chances(worlds):
    """The chance of a run to fall into each bin in each of the Worlds, of a fine and of a broken set: two of [K, Y].
    The bins are about equally likely.
    """
    mean, sigma, drop, shared = (each[:, None] for each in (worlds.mean, worlds.sigma, worlds.drop, worlds.common))
    around = np.linspace(-1.5, 1.5, 8) * sigma
    values = np.sort(np.concatenate([mean + around, mean - drop + around], axis=None))
    edges = values[np.arange(1, BINS) * len(values) // BINS]

    def told(centers):
        return np.diff(ndtr((edges - centers) / sigma), axis=-1, prepend=0, append=1)

    own = drop.min() * np.maximum(mean / drop.min(), 1) ** OWN  # [K, drops]
    broad = np.mean([told(mean - each[:, None]) for each in own.T], axis=0)
    stray = np.diff(np.clip(edges, 0, 1), prepend=0, append=1)
    return tuple(
        ((1 - OUTLIER_SHARE) * each + OUTLIER_SHARE * stray).astype(np.float32)
        for each in (told(mean), shared * told(mean - drop) + (1 - shared) * broad)
    )


def _entropy(p):
    """In bits, over the last axis."""
    return -xlogy(p, p).sum(axis=-1) / np.log(2)
