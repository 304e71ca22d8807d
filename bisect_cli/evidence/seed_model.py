"""What is expected of the runs of each seed, at every value that noise and level may have."""

import math

import numpy as np

from bisect_cli.evidence.noise_prior import mean_of, noise

OUTLIER_SHARE = 0.01
# Of sigma^2, common to all runs of a seed; either, with even odds. The shapes of the Mask R-CNN have .6, box and mask
# alike, over 29 and 21 runs that are fine; long training from pretrained weights makes less of its seed.
SEED_VARIANCE_SHARES = np.array([0.0, 0.6])

# Standard deviations in steps of 28 %, levels in steps of half their own uncertainty: what the runs of a campaign could
# just tell apart.
SIGMAS = np.geomspace(0.2, 8, 16)  # in the noise of the NoisePrior
MEANS = np.linspace(-3.5, 3.5, 15)  # in standard errors of the first seed's level, given the baseline


class SeedModel:
    """What is expected of the runs of each seed, given the level of the first seed and the baseline.

    The first seed is that of the baseline's which most other runs share, as most runs are of one seed. Its level is a
    parameter; that of another seed follows from it and from the baseline's runs.

    Arrays are [sigma, level, drop, SEED_VARIANCE_SHARES]; an axis that does not matter has length 1.
    sigma: the standard deviation between seeds. own: that within a seed, between sets. level: the first seed's. step:
    what a step of the grid of levels is worth. center: the mean of the baseline, a number.

    With a share a of sigma^2 in the seeds' levels, and mu flat: given the first seed's level L and the values b of m
    other seeds, mu is normal with mean (L + a sum(b)) / (1 + a m) and variance a sigma^2 / (1 + a m).
    """

    def __init__(self, reference, seeds, noise_prior):
        """reference: the baseline's runs, (seed, value). seeds: of all other runs."""
        known = [seed for seed, _ in reference if seed is not None]
        self.shares = SEED_VARIANCE_SHARES if known else SEED_VARIANCE_SHARES[:1]
        first = max(known, key=lambda seed: (seeds.count(seed), -known.index(seed)), default=None)
        self.first = next((run for run in reference if run[0] == first), reference[0])
        self.others = [run for run in reference if run is not self.first]
        values = [value for _, value in reference]
        self.center = mean_of(values)
        self.sigma = noise_prior.noise * SIGMAS[:, None, None, None]
        self.own = self.sigma * np.sqrt(1 - self.shares)
        sd, m = noise(values, noise_prior), len(self.others)
        # the grid lies where the baseline says the level is: the first seed's run, and the others' mean through mu
        mine, theirs = 1 / (1 - self.shares), 1 / (self.shares + 1 / m) if m else 0.0
        rest = mean_of([value for _, value in self.others]) if m else 0.0
        middle = (mine * self.first[1] + theirs * rest) / (mine + theirs)
        self.step = sd / np.sqrt(mine + theirs)
        self.level = middle + self.step * MEANS[:, None, None]

    def baseline(self):
        """The logarithm of the density of the baseline's runs, each given those before."""
        logs = log_density(self.first[1], self.level, self.own)
        for number, (_, value) in enumerate(self.others):
            mean, variance = self._mu(self.others[:number])
            logs = logs + log_density(value, mean, np.sqrt(self.sigma**2 + variance))
        return logs

    def expected(self, seed):
        """The mean of runs of a seed of a set that is fine, and their standard deviation."""
        if seed is not None and seed == self.first[0]:
            return self.level, self.own
        mean, variance = self._mu(self.others)
        twin = next((value for one, value in self.others if seed is not None and one == seed), None)
        if twin is None:
            return mean, np.sqrt(self.sigma**2 + variance)
        apart = 1 - self.shares
        return apart * mean + self.shares * twin, np.sqrt(self.sigma**2 * (1 - self.shares**2) + apart**2 * variance)

    def _mu(self, others):
        """The mean and the variance of mu, given the level and some of the other seeds' values."""
        weight = 1 + self.shares * len(others)
        total = sum(value for _, value in others)
        return (self.level + self.shares * total) / weight, self.shares * self.sigma**2 / weight


def log_density(value, mean, sigma):
    """Of one run: a normal, and with probability OUTLIER_SHARE uniform over [0, 1]."""
    normal = np.exp(-0.5 * ((value - mean) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    return np.log((1 - OUTLIER_SHARE) * normal + OUTLIER_SHARE)
