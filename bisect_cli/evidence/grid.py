"""The parameters of a metric on a grid, each point weighted by how well it explains the runs of all sets.

Arrays over the whole grid are [row, drop, SEED_VARIANCE_SHARES, COMMON_DROP_SHARES], with a row for each sigma and
each level. Where an axis does not matter it has length 1.

A campaign may have thousands of sets, of which a run that ends changes one. So what all sets together say of the grid
is kept as a sum (`Memory`), of whole numbers: with these it does not matter in what order sets come and go.
"""

import math
from typing import NamedTuple

import numpy as np

from bisect_cli.evidence.noise_prior import SMALLEST_DROP_IN_NOISE
from bisect_cli.evidence.seed_model import OUTLIER_SHARE, SeedModel

COMMON_DROP_SHARES = np.array([0.5, 0.95])  # share of broken sets whose drop is the campaign's; either, with even odds
# Between the smallest and the largest drop, in logarithms; steps of 2 to 15 %, finest where drops are small.
DROPS = ((np.arange(28) + 0.5) / 28) ** 1.5
LEFT_OUT = 10  # grid points further below the likeliest, in logarithms of their weight, are left out
NEGLIGIBLE = 150  # ... and further below than this they add nothing to the odds of a set either
MARGIN = 50  # ... beyond that, for what is known of the sets there to hold for some more runs
WHOLE = 2.0**40  # parts of a logarithm that are counted in the sum of all sets
AT_A_TIME = 24  # runs whose densities are multiplied before they are scaled, lest they become too small for a number
BLOCK = 64  # sets that are looked at together
CELLS = 1 << 18  # ... at most, times grid points


class ParameterGrid(NamedTuple):
    """What the parameters of a metric may be, at K grid points. Each field is [K], and normalised.

    log_weight: of the prior and the baseline's runs. mean: of runs of the first seed. sigma: their standard deviation.
    drop: what a broken set loses, if its drop is the campaign's. common: how often it is.
    """

    log_weight: np.ndarray
    mean: np.ndarray
    sigma: np.ndarray
    drop: np.ndarray
    common: np.ndarray


def weigh(reference, sets, noise_prior, memory=None):
    """The ParameterGrid that is left, and {set: (log odds, log likelihoods)}.

    reference: the baseline's runs, (seed, value). sets: {set: its runs}. The log odds of a set are broken to fine, of
    its runs, given all other sets. The log likelihoods, [2, K], are of its runs if it is fine and if it is broken.
    memory: the Memory of what was worked out before, if any; it makes no difference to the result.
    """
    memory = Memory() if memory is None else memory
    model = SeedModel(reference, [seed for runs in sets.values() for seed, _ in runs], noise_prior)
    points = _Points(model, noise_prior)
    memory.bring_to([reference, model.first[0], noise_prior], points, sets)
    weight = points.log_prior + memory.total / WHOLE
    top = weight.max()
    counts, kept = weight > top - NEGLIGIBLE, weight > top - LEFT_OUT
    near = memory.near(points, weight > top - NEGLIGIBLE - MARGIN, counts)
    said, left = {}, kept[counts]
    names = list(sets)
    for start in range(0, len(names), BLOCK):
        some = names[start : start + BLOCK]
        both = np.array([near[one] for one in some])  # [set, 2, point]
        logs = (weight[counts] - np.logaddexp(both[:, 0], both[:, 1]))[:, None] + both
        fine, broken = log_sum(logs, axis=2).T
        said.update((one, (float(odds), mine)) for one, odds, mine in zip(some, broken - fine, both[:, :, left]))
    return points.grid(kept), said


def log_sum(logs, axis=None):
    """The logarithm of the sum of what `logs` are the logarithms of, over an axis or all."""
    top = logs.max(axis=axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.exp(logs - top).sum(axis=axis))


class Memory:
    """What has been worked out of the sets of a metric, as long as the baseline and the noise prior are the same.

    total: int64 over the whole grid; the logarithms, summed over all sets, of how likely their runs are if each set is
    fine or broken with even odds. runs: {set: its runs} of the sets that are in it.
    """

    def __init__(self, key=None, total=None, runs=None):
        self.key, self.total, self.runs = key, total, runs or {}
        self._near, self._where = {}, None  # {set: [2, points]}, and which points these are

    def bring_to(self, key, points, sets):
        """Brings the total to these sets. key: plain values, of all that their likelihoods depend on."""
        if self.key != key or self.total.shape != points.log_prior.shape:
            self.key, self.total, self.runs, self._near = key, np.zeros(points.log_prior.shape, np.int64), {}, {}
        for one in [one for one, runs in self.runs.items() if sets.get(one) != runs]:
            self.total -= points.whole(self.runs.pop(one))
            self._near.pop(one, None)
        for one, runs in sets.items():
            if one not in self.runs:
                self.total += points.whole(runs)
                self.runs[one] = runs

    def near(self, points, reach, wanted):
        """{set: [2, P]}: the log likelihoods of its runs at the points `wanted`, a mask of the whole grid. reach: a
        mask of more points, for which they are worked out now if they are not known.
        """
        if self._where is None or not self._near or not self._where[wanted].all():
            self._where, self._near = reach, {}
        rows = np.flatnonzero(self._where.any(axis=(1, 2, 3)))
        mine, some = self._where[rows], wanted[self._where]
        missing = [one for one in self.runs if one not in self._near]
        for block in self._alike(missing, max(1, CELLS // mine.size)):
            runs = [(own[0][0], np.array([value for _, value in own])) for own in zip(*map(self.runs.get, block))]
            both = [each[:, mine] for each in points.log_likelihoods(runs, rows, len(block))]
            self._near.update(zip(block, np.stack(both, axis=1)))
        return {one: both[:, some] for one, both in self._near.items()}

    def _alike(self, names, most):
        """These sets in blocks of at most so many, whose runs have the same seeds."""
        groups = {}
        for one in names:
            groups.setdefault(tuple(seed for seed, _ in self.runs[one]), []).append(one)
        return [some[i : i + most] for some in groups.values() for i in range(0, len(some), most)]

    def to_json(self):
        """Plain values, for `from_json`."""
        runs = [[one, own] for one, own in self.runs.items()]
        return {"key": self.key, "shape": self.total.shape, "total": self.total.ravel().tolist(), "runs": runs}

    @classmethod
    def from_json(cls, values):
        reference, first, noise_prior = values["key"]
        key = [[tuple(run) for run in reference], first, tuple(noise_prior)]
        runs = {tuple(one): [tuple(run) for run in own] for one, own in values["runs"]}
        return cls(key, np.array(values["total"], np.int64).reshape(values["shape"]), runs)


class _Points:
    """The points of the grid, and how likely runs are there."""

    def __init__(self, model, noise_prior):
        self.model = model
        self.drop, blur = _drops(model, noise_prior)
        self.log_prior = self._in_rows(_log_prior(model, self.drop, noise_prior))
        self._blur, self._expected = self._in_rows(blur[..., None]), {}
        self._seeds = {seed for seed, _ in (model.first, *model.others)}

    def _in_rows(self, array):
        """An array [sigma, level, drop, share, common] as it stands over the whole grid."""
        rest, rows = array.shape[-3:], (len(self.model.sigma), self.model.level.shape[-3])
        return np.broadcast_to(array, (*rows, *rest)).reshape(-1, *rest)

    def grid(self, kept):
        """The ParameterGrid of a mask."""
        fields = (self._in_rows(each[..., None]) for each in (self.model.level, self.model.own, self.drop))
        return ParameterGrid(*(each[kept] for each in np.broadcast_arrays(self.log_prior, *fields, COMMON_DROP_SHARES)))

    def whole(self, runs):
        """What is added to the Memory's total for the runs of a set."""
        return np.rint(np.logaddexp(*self.log_likelihoods(runs))[0] * WHOLE).astype(np.int64)

    def log_likelihoods(self, runs, rows=slice(None), sets=1):
        """Of the runs of a set, if it is fine and if it is broken, at some rows of the grid: two arrays [set, row, ..].
        runs: (seed, value), or for several sets whose runs have the same seeds (seed, [set]).
        """
        fine = common = own = 0.0
        shape = (sets, *self.log_prior[rows].shape)
        for start in range(0, len(runs), AT_A_TIME):
            one_by_one = [self._densities(seed, value, rows) for seed, value in runs[start : start + AT_A_TIME]]
            fine = fine + np.log(math.prod(if_fine for if_fine, _ in one_by_one))
            common = common + np.log(math.prod(if_broken for _, if_broken in one_by_one))
            own = own + np.log(math.prod(if_broken.mean(axis=2, keepdims=True) for _, if_broken in one_by_one))
        if not runs:
            return np.zeros(shape), np.zeros(shape)
        own = np.logaddexp(_log_mean(common), own) - math.log(2)
        broken = np.logaddexp(np.log(COMMON_DROP_SHARES) + common, np.log1p(-COMMON_DROP_SHARES) + own)
        return np.broadcast_to(fine, shape), broken

    def _densities(self, seed, value, rows):
        """Of one run of each set, if the set is fine, [set, row, 1, share, 1], and if it is broken with each drop,
        [set, row, drop, share, 1]: a normal, and with probability OUTLIER_SHARE uniform over [0, 1].
        """
        value = np.reshape(value, (-1, 1, 1, 1, 1))
        seed = seed if seed in self._seeds else None  # all others are alike
        if seed not in self._expected:
            self._expected[seed] = self._expect(seed)
        return tuple(
            np.exp(-0.5 * ((value - mean[rows]) * sharp[rows]) ** 2) * height[rows] + OUTLIER_SHARE
            for mean, sharp, height in self._expected[seed]
        )

    def _expect(self, seed):
        """(mean, 1 / standard deviation, height) of runs of a seed, of a set that is fine and of one that is broken."""
        mean, sd = self.model.expected(seed)
        mean, sd = self._in_rows(mean[..., None]), self._in_rows(sd[..., None])
        drop = self._in_rows(self.drop[..., None])
        found = []
        for center, width in ((mean, sd), (mean - drop, np.sqrt(sd**2 + self._blur))):
            found.append((center, 1 / width, (1 - OUTLIER_SHARE) / (width * math.sqrt(2 * math.pi))))
        return found


def _drops(model, noise_prior):
    """The drops at the grid points, and the variance within a step of them: a drop lies anywhere within its step."""
    low = np.maximum(noise_prior.smallest_drop, SMALLEST_DROP_IN_NOISE * model.own)
    reach = np.maximum(model.center / low, 2)
    drop = low * reach ** DROPS[:, None]
    return drop, (drop * np.log(reach) * np.gradient(DROPS)[:, None]) ** 2 / 12


def _log_prior(model, drop, noise_prior):
    """The logarithm of the weight of the grid points by the prior and the baseline's runs."""
    # an inverse gamma of sigma^2; the grid's equal steps of log sigma are worth sigma^2 each
    weight = noise_prior.weight
    prior = -weight * np.log(model.sigma) - weight / 2 * noise_prior.noise**2 / model.sigma**2
    prior = prior + np.log(model.step) + np.zeros_like(model.level + drop)
    prior = prior + model.baseline()
    return np.repeat(prior[..., None], len(COMMON_DROP_SHARES), axis=-1)


def _log_mean(logs):
    """Over the drops, the third axis, kept."""
    top = logs.max(axis=2, keepdims=True)
    return top + np.log(np.exp(logs - top).mean(axis=2, keepdims=True))
