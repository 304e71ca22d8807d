"""The exact posterior over a family of hypotheses, given the verdicts on some subsets.

Likelihood of a hypothesis: the product, over all subsets, of the likelihood of their runs if broken or if fine, as it
says, which are the judge's continuous margins. The noise and the size of the drop are not known, but the same for all
subsets, so the product is taken in each of K worlds, and then averaged: a hypothesis is not believed because it
explains each verdict in a world of its own. Two guards keep the probabilities honest where no hypothesis is right:
  - one subset's verdict may be wrong for a reason that all its runs share (a combination with an effect of its own, a
    freak). So each subset is, with probability WRONG, the opposite of what the hypothesis says, and never speaks for
    more than 1/WRONG to one;
  - "something else" (prior ELSE) says that the whole set is broken and nothing about its subsets, so each is broken or
    fine with even odds; it wins when the best hypothesis contradicts several clear verdicts.
"""

from typing import NamedTuple

import numpy as np

from bisect_cli.judge import log_sum
from bisect_cli.search.hypotheses import Family

WRONG = 0.003  # one shared freak in some 300 subsets: more than a whole campaign asks about
ELSE = 0.004
DIGITS = 4  # of probabilities and bits that count in comparisons; single precision is good for five


def ranked(numbers):
    """Where the largest of `numbers` stand, in their order; those alike to four digits in the order they stand in.

    What is equal by symmetry comes out of a matrix product with rounding errors that depend on the machine, and the
    same log has to lead to the same plan on all of them.
    """
    return np.argsort(-np.round(numbers, DIGITS), kind="stable")


class Posterior(NamedTuple):
    """family: the hypotheses. probability: [H], of each; with `other`, that of something else, they sum to 1."""

    family: Family
    probability: np.ndarray
    other: float

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
        return Posterior(self.family.kept(mask), kept * share, self.other)


class Evidence(NamedTuple):
    """What the runs of m subsets say. subsets: bool [m, n]; fine, broken: log likelihoods of their runs, [m, K], in
    each of K worlds; worlds: [K], the log weights of these, in any unit.
    """

    subsets: np.ndarray
    fine: np.ndarray
    broken: np.ndarray
    worlds: np.ndarray

    def only(self, which):
        """That of some of the subsets."""
        return Evidence(self.subsets[which], self.fine[which], self.broken[which], self.worlds)


def evidence(flags, table, tried):
    """The Evidence of a table of Verdicts, {subset: Verdict}, of the subsets `tried` of these flags."""
    subsets = np.array([[flag in subset for flag in flags] for subset in tried], bool).reshape(len(tried), len(flags))
    worlds = table[()].worlds if () in table else None
    if worlds is None:  # verdicts that carry no more than their odds
        odds = np.array([table[subset].log_odds for subset in tried]).reshape(-1, 1)
        return Evidence(subsets, np.zeros_like(odds), odds, np.zeros(1))
    both = np.array([table[subset].log_likelihoods for subset in tried]).reshape(len(tried), 2, len(worlds.mean))
    return Evidence(subsets, both[:, 0], both[:, 1], worlds.log_weight)


def posterior(family, told):
    """The Posterior given Evidence."""
    if not len(told.subsets):
        return Posterior(family, np.exp(family.log_prior) * (1 - ELSE), ELSE)
    right, wrong = np.log1p(-WRONG), np.log(WRONG)
    if_broken = np.logaddexp(right + told.broken, wrong + told.fine)
    if_fine = np.logaddexp(right + told.fine, wrong + told.broken)
    either = np.logaddexp(if_broken, if_fine) - np.log(2)
    base = told.worlds + if_fine.sum(axis=0)
    margins = (if_broken - if_fine).astype(np.float32)
    says = family.broken(told.subsets).astype(np.float32)
    logs = family.log_prior + np.log1p(-ELSE) + log_sum((base[:, None] + margins.T @ says), axis=0)
    whole = told.subsets.all(axis=1)[:, None]
    other = np.log(ELSE) + log_sum(told.worlds + np.where(whole, if_broken, either).sum(axis=0), axis=0)
    top = max(logs.max(), other)
    weights, rest = np.exp(logs - top), np.exp(other - top)
    total = weights.sum() + rest
    return Posterior(family, weights / total, float(rest / total))
