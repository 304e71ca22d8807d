"""Runs that crash because of a flag, whatever they would have said about a metric: a result of its own.

A crash is no evidence about any metric. But where all runs with one flag crash and the others do not, that flag is what
crashes them. The argument is that of the metrics, over the same kinds of hypotheses, with other odds.
"""

import math

import numpy as np

from bisect_cli.evidence.judge import CRASHED
from bisect_cli.search.bayes.hypotheses import NOTHING, ONE, TOGETHER, Family
from bisect_cli.search.bayes.posterior import Evidence, posterior

PRIORS = {NOTHING: 0.9, ONE: 0.08, TOGETHER: 0.02}  # most crashes are the cluster's
ODDS = 20  # of a crash of all attempts, the flag's doing : chance, and of a result, chance : in spite of the flag
SURE = 0.95


def posterior_of(flags, table):
    """The Posterior over what makes runs crash, None before any did. table: {subset: Verdict} of any metric."""
    tried = [subset for subset in table if subset and set(subset) <= set(flags)]
    crashed = np.array([[table[subset].call == CRASHED] for subset in tried], bool)
    if not crashed.any():
        return None
    subsets = np.array([[flag in subset for flag in flags] for subset in tried], bool)
    family = Family.over(np.ones(len(flags)), PRIORS)
    odds = np.where(crashed, 1.0, -1.0) * math.log(ODDS)
    return posterior(family, Evidence(subsets, np.zeros_like(odds), odds))


def crashing(flags, table):
    """The sets that make runs crash, surely enough, and the flags that can be trained without them."""
    found = []
    while True:
        told = posterior_of(flags, table)
        if told is None:
            return tuple(found), flags
        culprits = told.family.culprits(told.best)
        if not culprits or told.probability[told.best] < SURE:
            return tuple(found), flags
        found.append(tuple(flags[i] for i in culprits[0]))
        flags = tuple(flag for flag in flags if flag != found[-1][-1])
