"""What hearsay adds to the prior of a search that weighs explanations."""

import math

import numpy as np

from bisect_cli.evidence.judge import VERDICT_ODDS, log_sum
from bisect_cli.search.bayes.hypotheses import Family

MOST = math.log(VERDICT_ODDS)  # between any two explanations: all of it together weighs no more than one verdict of the judge


def told(family, flags, rows):
    """A Family whose prior has heard `rows`, {subset: log odds, broken to fine}; sets with other flags say nothing."""
    heard = {subset: log_odds for subset, log_odds in rows.items() if set(subset) <= set(flags)}
    if not heard:
        return family
    subsets = np.array([[flag in subset for flag in flags] for subset in heard])
    odds = np.array(list(heard.values()), np.float32)
    logs = odds @ family.broken(subsets) - odds.sum() / 2
    log_prior = family.log_prior + np.maximum(logs - logs.max(), -MOST)
    return Family(family.blocks, log_prior - log_sum(log_prior), family.n)
