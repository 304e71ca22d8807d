"""The exact posterior over a family of hypotheses, given the verdicts on some subsets.

Likelihood of a hypothesis: the product, over all subsets, of the likelihood of their runs if broken or if fine, as it
says, which are the judge's continuous margins. The noise and the size of the drop are not known, but the same for all
subsets. So the product is taken at each of the K grid points, that is for each set of parameters, and then averaged: a
hypothesis is not believed because it explains each verdict with parameters of its own. Of one culprit it is expected
that most broken sets lose the same. Two guards keep the probabilities honest where no hypothesis is right:
  - one subset's verdict may be wrong for a reason that all its runs share (a combination with an effect of its own, or
    chance). So each subset is, with EXCEPTION_PROBABILITY, the opposite of what the hypothesis says, and never speaks
    for more than 1/EXCEPTION_PROBABILITY to one;
  - "something else" (UNEXPLAINED_PRIOR) says that the whole set is broken and nothing about its subsets, so each is
    broken or fine with even odds; it wins when the best hypothesis contradicts several clear verdicts.
"""

import math
from typing import NamedTuple

import numpy as np

from bisect_cli.evidence.judge import COMMON_DROP_SHARES, ParameterGrid
from bisect_cli.search.bayes.hypotheses import Family, as_rows

EXCEPTION_PROBABILITY = 0.003  # one exception in some 300 subsets: more than a whole campaign asks about
UNEXPLAINED_PRIOR = 0.004  # of something else
# If there is one culprit: that broken sets lose the same but for few, COMMON_DROP_SHARES; the judge has even odds.
ONE_DROP_PROBABILITY = 0.95
# Hypotheses times grid points that are computed: some 50 ms. Where there are more, as before the first runs, some grid
# points stand for all.
GRID_CELLS = 4_000_000
GRID_POINTS = 40  # that stand for all in plans
# What verdicts that carry no more than their odds come from: a run held against the middle of the gap errs in 5 %.
ODDS_ONLY = ParameterGrid(*np.array([[0.0], [0.5], [0.02], [0.066], [1.0]]))
BROKEN_CELLS = 1 << 24  # subsets times hypotheses that are looked at together: 80 MB
LOG_FLOOR = -80  # logarithm of what counts as nothing; much smaller numbers are slow in single precision
DIGITS = 4  # of probabilities and bits that count in comparisons; single precision is good for five


def ranked(numbers):
    """Where the largest of `numbers` stand, in their order; those alike to four digits in the order they stand in.

    What is equal by symmetry comes out of a matrix product with rounding errors that depend on the machine, and the
    same log has to lead to the same plan on all of them.
    """
    return np.argsort(-np.round(numbers, DIGITS), kind="stable")


class Sample(NamedTuple):
    """A Posterior over hypotheses and parameters together, at K of the grid points. weights: [H, K], of each, and
    other: [K], of something else, which all sum to 1. grid: these points. subsets, margins: bool [m, n] and [m, K], how
    much likelier the runs of each subset so far are if it is broken, in logarithms.
    """

    weights: np.ndarray
    other: np.ndarray
    grid: ParameterGrid
    subsets: np.ndarray
    margins: np.ndarray


class Posterior(NamedTuple):
    """family: the hypotheses. probability: [H], of each; with `other`, that of something else, they sum to 1."""

    family: Family
    probability: np.ndarray
    other: float
    sample: Sample

    @property
    def best(self):
        """The number of the likeliest hypothesis."""
        return int(ranked(self.probability)[0])

    def likeliest(self, least=1e-6, most=6000):
        """The likeliest hypotheses alone, for plans: what is left out is shared out among them."""
        mask = self.probability >= least * self.probability.max()
        if mask.sum() > most:
            mask[np.argsort(-self.probability, kind="stable")[most:]] = False
        kept = self.probability[mask]
        share = (1 - self.other) / kept.sum()
        sample = self.sample._replace(weights=self.sample.weights[mask] * share)
        return Posterior(self.family.kept(mask), kept * share, self.other, sample)


class Evidence(NamedTuple):
    """What the runs of m subsets say. subsets: bool [m, n]; fine, broken: log likelihoods of their runs, [m, K], at
    each grid point.
    """

    subsets: np.ndarray
    fine: np.ndarray
    broken: np.ndarray
    grid: ParameterGrid = ODDS_ONLY

    def only(self, which):
        """That of some of the subsets."""
        return self._replace(subsets=self.subsets[which], fine=self.fine[which], broken=self.broken[which])

    def thinned(self, most):
        """The same at no more grid points than `most`, which stand for all."""
        if len(self.grid.mean) <= most:
            return self
        logs = self.grid.log_weight + np.logaddexp(self.fine, self.broken).sum(axis=0)
        weight = np.exp(logs - logs.max())
        some = evenly(weight, most)
        grid = _points(self.grid, some)
        grid = grid._replace(log_weight=grid.log_weight - np.log(weight[some]))
        return self._replace(fine=self.fine[:, some], broken=self.broken[:, some], grid=grid)


def collect(flags, table, tried):
    """The Evidence of a table of Verdicts, {subset: Verdict}, of the subsets `tried` of these flags."""
    subsets = as_rows(tried, flags)
    grid = table[()].grid if () in table else None
    if grid is None:  # verdicts that carry no more than their odds
        odds = np.array([table[subset].log_odds for subset in tried]).reshape(-1, 1)
        return Evidence(subsets, np.zeros_like(odds), odds)
    both = np.array([table[subset].log_likelihoods for subset in tried]).reshape(len(tried), 2, len(grid.mean))
    return Evidence(subsets, both[:, 0], both[:, 1], grid)


def weigh(family, evidence):
    """The Posterior of a Family, given Evidence."""
    evidence = evidence.thinned(max(GRID_POINTS, GRID_CELLS // len(family)))
    grid = evidence.grid
    as_said, exception = np.log1p(-EXCEPTION_PROBABILITY), np.log(EXCEPTION_PROBABILITY)
    if_broken = np.logaddexp(as_said + evidence.broken, exception + evidence.fine)
    if_fine = np.logaddexp(as_said + evidence.fine, exception + evidence.broken)
    either = np.logaddexp(if_broken, if_fine) - np.log(2)
    whole = evidence.subsets.all(axis=1)[:, None]
    other = np.log(UNEXPLAINED_PRIOR) + grid.log_weight + np.where(whole, if_broken, either).sum(axis=0)
    base = np.log1p(-UNEXPLAINED_PRIOR) + grid.log_weight + if_fine.sum(axis=0)
    margins = (if_broken - if_fine).astype(np.float32)
    base, other = base - base.max(), other - base.max()  # of hundreds of runs, too large for single precision
    weights = np.zeros((len(base), len(family)), np.float32)  # [K, H]; changed in place, it may be large
    rows = max(1, BROKEN_CELLS // len(family))
    for start in range(0, len(margins), rows):
        some = slice(start, start + rows)
        weights += margins[some].T @ family.broken(evidence.subsets[some]).astype(np.float32)
    weights += base[:, None].astype(np.float32)
    weights += family.log_prior.astype(np.float32)
    weights[:, family.single] += _log_prior_of_one_culprit(grid)[:, None].astype(np.float32)
    top = max(weights.max(), other.max())
    weights -= np.float32(top)
    np.exp(np.maximum(weights, LOG_FLOOR, out=weights), out=weights)
    other = np.exp(np.maximum(other - top, LOG_FLOOR))
    by_point = weights.sum(axis=1) + other
    total = by_point.sum()
    some = evenly(by_point, min(GRID_POINTS, len(by_point)))
    share = 1 / by_point[some] / len(some)
    shares = (weights[some] * share[:, None]).T, other[some] * share
    sample = Sample(*shares, _points(grid, some), evidence.subsets, margins[:, some])
    return Posterior(family, weights.sum(axis=0, dtype=float) / total, float(other.sum() / total), sample)


def _log_prior_of_one_culprit(grid):
    """What a single culprit makes of the grid points, in logarithms: what breaks all broken sets costs them all about
    the same; with several culprits it depends on which of them a set holds, as the judge has it.
    """
    if len(grid.common) == 1:
        return np.zeros(1)
    same = grid.common > COMMON_DROP_SHARES.mean()
    return np.where(same, math.log(2 * ONE_DROP_PROBABILITY), math.log(2 - 2 * ONE_DROP_PROBABILITY))


def _points(grid, some):
    """Some points of a ParameterGrid."""
    return ParameterGrid(*(each[some] for each in grid))


def evenly(weights, number):
    """Indices that stand for all, in their order: as often as their weights say, at equal steps, so always the same."""
    return np.searchsorted(np.cumsum(weights), (np.arange(number) + 0.5) / number * weights.sum())
