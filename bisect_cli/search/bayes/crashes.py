"""Runs that crash because of a flag, whatever they would have said about a metric: a result of its own.

A crash is no evidence about any metric. But where all runs with one flag crash and the others do not, that flag is what
crashes them. The argument is that of the metrics, over the same kinds of hypotheses, with other odds.
"""

import math

import numpy as np

from bisect_cli.evidence.judge import CRASHED
from bisect_cli.search.bayes.hypotheses import NOTHING, ONE, PAIR, Family, as_rows
from bisect_cli.search.bayes.posterior import Evidence, weigh

KIND_PRIORS = {NOTHING: 0.9, ONE: 0.08, PAIR: 0.02}  # most crashes are the cluster's
CRASH_ODDS = 20  # of a crash of all attempts, the flag's doing : chance, and of a result, chance : in spite of the flag
NAMING_PROBABILITY = 0.95  # of a set, to be named and left out of all further runs


def weigh_crashes(flags, table):
    """The Posterior over what makes runs crash, None before any did. table: {subset: Verdict} of any metric."""
    tried = [subset for subset in table if subset and set(subset) <= set(flags)]
    crashed = np.array([[table[subset].call == CRASHED] for subset in tried], bool)
    if not crashed.any():
        return None
    family = Family.over(np.ones(len(flags)), KIND_PRIORS)
    log_odds = np.where(crashed, 1.0, -1.0) * math.log(CRASH_ODDS)
    return weigh(family, Evidence(as_rows(tried, flags), np.zeros_like(log_odds), log_odds))


def split_off_crashers(flags, table):
    """The sets that make runs crash, surely enough, and the flags that can be trained without them."""
    found = []
    while True:
        posterior = weigh_crashes(flags, table)
        if posterior is None:
            return tuple(found), flags
        culprits = posterior.family.culprits(posterior.best)
        if not culprits or posterior.probability[posterior.best] < NAMING_PROBABILITY:
            return tuple(found), flags
        found.append(tuple(flags[i] for i in culprits[0]))
        flags = tuple(flag for flag in flags if flag != found[-1][-1])
