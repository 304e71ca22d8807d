"""How likely each explanation is before the first run of a campaign: its kind, its flags, and prior evidence."""

import math

import numpy as np

from bisect_cli.campaign import subsets
from bisect_cli.evidence.judge import VERDICT_ODDS
from bisect_cli.search.bayes.hypotheses import (
    INDEPENDENT,
    NOTHING,
    ONE,
    PAIR,
    PAIR_AND_ONE,
    THREE_INDEPENDENT,
    TRIPLE,
    Family,
    as_matrix,
    as_rows,
)

# A set is bisected because it failed, but what breaks one metric often leaves the other, so nothing is as likely as one
# flag. Of the two real culprits in 2019 each acted by itself, and a wrong adapter between two pieces is as real, so an
# interacting pair is as likely as two independent culprits; three flags are rare. A wrong factor of two costs about one
# run. In campaigns where something does break, nothing at .3 made the stated probabilities too high by a tenth.
KIND_PRIORS = {
    NOTHING: 0.2,
    ONE: 0.4,
    PAIR: 0.16,
    INDEPENDENT: 0.16,
    TRIPLE: 0.02,
    THREE_INDEPENDENT: 0.03,
    PAIR_AND_ONE: 0.03,
}
# Of several metrics, one may well be as it was: of the five faults that are plain in short training, two leave box AP
# alone (docs/fault-effects.md).
KIND_PRIORS_OF_SEVERAL_METRICS = {**KIND_PRIORS, NOTHING: 0.35}

# Prior odds of a flag to take part in a culprit, beside one that nothing is known of.
SUSPECT_WEIGHT = 20.0  # parity found it to differ: all 12 recorded faults do, 5 of them cost AP plainly
PLACEBO_WEIGHT = 0.02  # the same graph on or off: only a mistake in the comparison makes it a culprit
TRUSTED_WEIGHT = 0.05  # the user trusts it

# Of prior evidence between any two explanations: all of it together weighs no more than one verdict of the judge, as it
# may be wrong as a whole.
MOST_LOG_ODDS = math.log(VERDICT_ODDS)


def expect(question, metric, flags):
    """The Family of all explanations of a metric over these flags, with what is known of them beforehand."""
    kinds = KIND_PRIORS if len(question.verdicts) == 1 else KIND_PRIORS_OF_SEVERAL_METRICS
    weights = np.array([_weight(question, flag) for flag in flags])
    family = Family.over(weights, kinds, as_matrix(question.needs, flags))
    rows = question.prior_evidence.get(metric, {})
    # What a flag did without what it needs says nothing of what it does with it.
    rows = {subset: log_odds for subset, log_odds in rows.items() if subsets.is_runnable(subset, question.needs)}
    return with_prior_evidence(family, flags, rows)


def with_prior_evidence(family, flags, rows):
    """A Family whose prior counts in `rows`, {subset: log odds, broken to fine}; sets with other flags say nothing."""
    known = {subset: log_odds for subset, log_odds in rows.items() if set(subset) <= set(flags)}
    if not known:
        return family
    odds = np.array(list(known.values()), np.float32)
    logs = odds @ family.broken(as_rows(known, flags)) - odds.sum() / 2
    return family.with_prior(family.log_prior + np.maximum(logs - logs.max(), -MOST_LOG_ODDS))


def _weight(question, flag):
    if flag in question.suspects:
        return question.suspects[flag]
    if flag in question.trusts:
        return TRUSTED_WEIGHT
    if flag in question.parity_order.suspects:
        return SUSPECT_WEIGHT
    return PLACEBO_WEIGHT if flag in question.parity_order.placebos else 1.0
