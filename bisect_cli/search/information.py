"""How much a run of a subset would tell, in bits, with other runs still out.

A run is taken to end in one bit, broken or fine, that is wrong with probability ERROR whatever the subset. The joint
entropy of several such bits is exact: `Outlook` keeps, for every pattern in which the runs in flight may end, the
weight of each hypothesis. Shapes: H hypotheses, C subsets, P patterns.
"""

import numpy as np

ERROR = 0.05  # the judge's calls need odds of 20; taken higher, nothing changes but the worth of a repeat
PATTERNS = 256  # of runs in flight; the likeliest, where there are more


class Outlook:
    """A Posterior, and the runs in flight that will change it."""

    def __init__(self, posterior):
        self.family = posterior.family
        self.weights = posterior.probability[:, None].astype(np.float32)  # [H, P]
        self.other = np.array([posterior.other], np.float32)  # [P], of something else: broken or fine with even odds

    def add(self, subset):
        """One more run in flight, of a subset: bool [n]."""
        says_broken = np.where(self.family.broken(subset[None])[0], 1 - ERROR, ERROR).astype(np.float32)[:, None]
        self.weights = np.concatenate([self.weights * says_broken, self.weights * (1 - says_broken)], axis=1)
        self.other = np.concatenate([self.other, self.other]) / 2
        mass = self._mass()
        if len(mass) > PATTERNS:
            kept = np.sort(np.argsort(-mass, kind="stable")[:PATTERNS])
            self.weights, self.other = (of[..., kept] / mass[kept].sum() for of in (self.weights, self.other))

    def information(self, subsets):
        """Bits that a run of each subset would tell beyond what the runs in flight will. subsets: bool [C, n]; returns
        [C].
        """
        mass, other = self._mass(), self.other.sum()
        broken = self.family.broken(subsets).astype(np.float32) @ self.weights + self.other / 2  # [C, P]
        share = np.clip(broken / np.maximum(mass, 1e-30), 0, 1)
        known = _entropy(ERROR) * (1 - other) + other  # entropy that is left when the hypothesis is known
        return np.maximum(_entropy(ERROR + (1 - 2 * ERROR) * share) @ mass - known, 0)

    def _mass(self):
        """The probability of each pattern, [P]."""
        return self.weights.sum(axis=0) + self.other


def _entropy(p):
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
