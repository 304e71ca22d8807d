"""Runs that crash because of a flag, whatever they would have said about a metric: a result of its own.

A crash is no evidence about any metric. But where all runs with one flag crash and the others do not, that flag is what
crashes them. The argument is that of the metrics, over the same kinds of hypotheses, with other odds.
"""

import math

import numpy as np

from bisect_cli.campaign import subsets
from bisect_cli.evidence.judge import CRASHED
from bisect_cli.search import Unresolved
from bisect_cli.search.bayes.hypotheses import NOTHING, ONE, PAIR, Family, as_matrix, as_rows
from bisect_cli.search.bayes.posterior import Evidence, weigh

KIND_PRIORS = {NOTHING: 0.9, ONE: 0.08, PAIR: 0.02}  # most crashes are the cluster's
CRASH_ODDS = 20  # of a crash of all attempts, the flag's doing : chance, and of a result, chance : in spite of the flag
NAMING_PROBABILITY = 0.95  # of a set, to be named and left out of all further runs


def weigh_crashes(flags, table, needs=subsets.NO_NEEDS):
    """The Posterior over what makes runs crash, None before any did. table: {subset: Verdict} of any metric. needs: as
    in Question.
    """
    tried = [subset for subset in table if subset and set(subset) <= set(flags)]
    crashed = np.array([[table[subset].call == CRASHED] for subset in tried], bool)
    if not crashed.any():
        return None
    family = Family.over(np.ones(len(flags)), KIND_PRIORS, as_matrix(needs, flags))
    log_odds = np.where(crashed, 1.0, -1.0) * math.log(CRASH_ODDS)
    return weigh(family, Evidence(as_rows(tried, flags), np.zeros_like(log_odds), log_odds))


def split_off_crashers(flags, table, needs=subsets.NO_NEEDS):
    """The sets that make runs crash, surely enough, and the flags that can be trained without them. Of each set one
    flag is left out, with what needs it: the one that the fewest flags need, the last of those alike.
    """
    found = []
    while True:
        posterior = weigh_crashes(flags, table, needs)
        if posterior is None:
            return tuple(found), flags
        culprits = posterior.family.culprits(posterior.best)
        if not culprits or posterior.probability[posterior.best] < NAMING_PROBABILITY:
            return tuple(found), flags
        found.append(tuple(flags[i] for i in culprits[0]))
        out = min(found[-1][::-1], key=lambda flag: len(subsets.needing((flag,), needs, flags)))
        flags = subsets.runnable(subsets.minus(flags, (out,)), needs)


def unresolved(question, flags, crashers):
    """What `split_off_crashers` found for a Question, as Unresolved. What is left out only for needing it is said."""
    lost = subsets.minus(question.flags, (*flags, *(flag for one in crashers for flag in one)))
    found = []
    for one in crashers:
        others = ", ".join(subsets.needing(one, question.needs, lost))
        reason = f"its runs crash; left out too, for they need it: {others}" if others else "its runs crash"
        found.append(Unresolved(one, reason))
    return tuple(found)
