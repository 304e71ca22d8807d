"""The exact posterior over a family of hypotheses, given the verdicts on some subsets.

Likelihood of a hypothesis: the product, over all subsets, of the likelihood of their runs if broken or if fine, as it
says, which are the judge's continuous margins. The noise and the size of the drop are not known, but the same for all
subsets, so the product is taken in each of K worlds, and then averaged: a hypothesis is not believed because it
explains each verdict in a world of its own. Of one culprit it is expected that most broken sets lose the same. Two
guards keep the probabilities honest where no hypothesis is right:
  - one subset's verdict may be wrong for a reason that all its runs share (a combination with an effect of its own, a
    freak). So each subset is, with probability WRONG, the opposite of what the hypothesis says, and never speaks for
    more than 1/WRONG to one;
  - "something else" (prior ELSE) says that the whole set is broken and nothing about its subsets, so each is broken or
    fine with even odds; it wins when the best hypothesis contradicts several clear verdicts.
"""

import math
from typing import NamedTuple

import numpy as np

from bisect_cli.evidence.judge import COMMON_DROP_SHARES, ParameterGrid
from bisect_cli.search.bayes.hypotheses import Family

WRONG = 0.003  # one shared freak in some 300 subsets: more than a whole campaign asks about
ELSE = 0.004
ONE_DROP = 0.95  # if there is one culprit: that broken sets lose the same but for few, COMMON_DROP_SHARES; the judge has even odds
CELLS = 4_000_000  # hypotheses times worlds: some 50 ms; of more, as before the first runs, some worlds stand for all
WORLDS = 40  # that stand for all in plans
# What verdicts that carry no more than their odds come from: a run held against the middle of the gap errs in 5 %.
UNKNOWN = ParameterGrid(*np.array([[0.0], [0.5], [0.02], [0.066], [1.0]]))
FLOOR = -80  # logarithm of what counts as nothing; much smaller numbers are slow in single precision
DIGITS = 4  # of probabilities and bits that count in comparisons; single precision is good for five


def ranked(numbers):
    """Where the largest of `numbers` stand, in their order; those alike to four digits in the order they stand in.

    What is equal by symmetry comes out of a matrix product with rounding errors that depend on the machine, and the
    same log has to lead to the same plan on all of them.
    """
    return np.argsort(-np.round(numbers, DIGITS), kind="stable")


class Sample(NamedTuple):
    """A Posterior over hypotheses and worlds together, in K of these. weights: [H, K], of each, and other: [K], of
    something else, which all sum to 1. worlds: what they are. subsets, margins: bool [m, n] and [m, K], how much
    likelier the runs of each subset so far are if it is broken, in logarithms.
    """

    weights: np.ndarray
    other: np.ndarray
    worlds: ParameterGrid
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
    """What the runs of m subsets say. subsets: bool [m, n]; fine, broken: log likelihoods of their runs, [m, K], in
    each of K worlds.
    """

    subsets: np.ndarray
    fine: np.ndarray
    broken: np.ndarray
    worlds: ParameterGrid = UNKNOWN

    def only(self, which):
        """That of some of the subsets."""
        return self._replace(subsets=self.subsets[which], fine=self.fine[which], broken=self.broken[which])

    def thinned(self, most):
        """The same in no more worlds than `most`, which stand for all."""
        if len(self.worlds.mean) <= most:
            return self
        logs = self.worlds.log_weight + np.logaddexp(self.fine, self.broken).sum(axis=0)
        weight = np.exp(logs - logs.max())
        some = _sampled(weight, most)
        worlds = ParameterGrid(*(each[some] for each in self.worlds))
        worlds = worlds._replace(log_weight=worlds.log_weight - np.log(weight[some]))
        return self._replace(fine=self.fine[:, some], broken=self.broken[:, some], worlds=worlds)


def evidence(flags, table, tried):
    """The Evidence of a table of Verdicts, {subset: Verdict}, of the subsets `tried` of these flags."""
    subsets = np.array([[flag in subset for flag in flags] for subset in tried], bool).reshape(len(tried), len(flags))
    worlds = table[()].grid if () in table else None
    if worlds is None:  # verdicts that carry no more than their odds
        odds = np.array([table[subset].log_odds for subset in tried]).reshape(-1, 1)
        return Evidence(subsets, np.zeros_like(odds), odds)
    both = np.array([table[subset].log_likelihoods for subset in tried]).reshape(len(tried), 2, len(worlds.mean))
    return Evidence(subsets, both[:, 0], both[:, 1], worlds)


def posterior(family, told):
    """The Posterior given Evidence."""
    told = told.thinned(max(WORLDS, CELLS // len(family)))
    right, wrong = np.log1p(-WRONG), np.log(WRONG)
    if_broken = np.logaddexp(right + told.broken, wrong + told.fine)
    if_fine = np.logaddexp(right + told.fine, wrong + told.broken)
    either = np.logaddexp(if_broken, if_fine) - np.log(2)
    whole = told.subsets.all(axis=1)[:, None]
    other = np.log(ELSE) + told.worlds.log_weight + np.where(whole, if_broken, either).sum(axis=0)
    base = np.log1p(-ELSE) + told.worlds.log_weight + if_fine.sum(axis=0)
    margins = (if_broken - if_fine).astype(np.float32)
    says = family.broken(told.subsets).astype(np.float32)
    weights = margins.T @ says  # [K, H]; in place from here on, it may be large
    weights += base[:, None].astype(np.float32)
    weights += family.log_prior.astype(np.float32)
    weights[:, family.single] += _of_one_drop(told.worlds)[:, None].astype(np.float32)
    top = max(weights.max(), other.max())
    weights -= np.float32(top)
    np.exp(np.maximum(weights, FLOOR, out=weights), out=weights)
    other = np.exp(other - top)
    by_world = weights.sum(axis=1) + other
    total = by_world.sum()
    some = _sampled(by_world, min(WORLDS, len(by_world)))
    share = 1 / by_world[some] / len(some)
    worlds = ParameterGrid(*(each[some] for each in told.worlds))
    sample = Sample((weights[some] * share[:, None]).T, other[some] * share, worlds, told.subsets, margins[:, some])
    return Posterior(family, weights.sum(axis=0, dtype=float) / total, float(other.sum() / total), sample)


def _of_one_drop(worlds):
    """What a single culprit makes of the worlds, in logarithms: what breaks all broken sets costs them all about the
    same; with several culprits it depends on which of them a set holds, as the judge has it.
    """
    if len(worlds.common) == 1:
        return np.zeros(1)
    same = worlds.common > COMMON_DROP_SHARES.mean()
    return np.where(same, math.log(2 * ONE_DROP), math.log(2 - 2 * ONE_DROP))


def _sampled(weights, number):
    """Indices that stand for all, in their order: as often as their weights say, at equal steps, so always the same."""
    return np.searchsorted(np.cumsum(weights), (np.arange(number) + 0.5) / number * weights.sum())
