"""What a result rests on: runs of each culprit alone and of the set without them, as fresh evidence.

A culprit is named once its own subset is broken and the set without the culprits is fine. Runs are fresh evidence if
the same would be named without them. Those that the search followed are not: it came to this culprit because they were
low, so that they are low says little.

Alone, a culprit runs with what its flags need. Without it, the set is without what needs it, which no run can acquit.
"""

from bisect_cli.campaign import subsets
from bisect_cli.evidence.judge import BROKEN, CRASHED, FINE, MOST_RUNS, UNDECIDED
from bisect_cli.search import CONFIRMATION_RUNS, Culprit, RunRequest, Unresolved
from bisect_cli.search.bayes.posterior import weigh

# Of a hypothesis without the runs of one of its confirming subsets, for these runs to count as fresh evidence.
FRESH_PROBABILITY = 0.5
# Of the likeliest: less than one subset, which speaks for at most 1/EXCEPTION_PROBABILITY to one, can make up for.
NEGLIGIBLE_SHARE = 1e-10


def confirming(flags, culprits, needs=subsets.NO_NEEDS):
    """The subsets that confirm a hypothesis, as (subset, call, why). needs: as in Question."""
    if not culprits:
        return [(flags, FINE, "confirm the whole set")]
    alone = [(subsets.with_needed(one, needs, flags), BROKEN, "confirm the culprit") for one in culprits]
    rests = subsets.remainders(flags, culprits, needs)
    return alone + [(rest, FINE, "confirm the set without the culprit") for rest in rests]


def is_due(metric, subset, culprits):
    """Whether a subset that confirms a hypothesis of a Metric has yet to run for it."""
    verdict = metric.table.get(subset)
    return verdict is None or not culprits and verdict.runs < CONFIRMATION_RUNS


def missing(metric):
    """What a Metric lacks before its best hypothesis is the result: RunRequests, and Unresolved subsets, which no run
    that is left can clear up.
    """
    requests, unresolved, culprits = [], [], metric.culprits
    enough = bool(culprits) or metric.can_be_named
    for subset, call, why in confirming(metric.flags, culprits, metric.needs):
        verdict = metric.table.get(subset)
        runs = 1 if culprits and _is_fresh(metric, subset) else CONFIRMATION_RUNS
        if verdict is None or verdict.runs < runs:
            requests.append(RunRequest(subset, runs, why))
        elif verdict.call == call or verdict.runs >= CONFIRMATION_RUNS and enough and _leans(verdict, call):
            continue
        elif verdict.runs < MOST_RUNS:
            requests.append(RunRequest(subset, verdict.runs + 1, f"{why}: another seed"))
        elif verdict.call != UNDECIDED or not enough:
            reason = "its runs crashed" if verdict.call == CRASHED else f"{verdict.call} after {verdict.runs} runs"
            unresolved.append(Unresolved(subset, reason))
    return tuple(requests), tuple(unresolved)


def culprit(metric, flags):
    """A Culprit of a Metric's best hypothesis, with the probability of every hypothesis that has it among its own."""
    posterior = metric.posterior
    numbers = tuple(metric.flags.index(flag) for flag in flags)
    confidence = posterior.probability[posterior.family.holding(numbers)].sum()
    whole = subsets.with_needed(flags, metric.needs, metric.flags)
    parts = subsets.one_less(flags, metric.needs, metric.flags)
    rest = subsets.remainders(metric.flags, metric.culprits, metric.needs)
    evidence = [subset for subset in (whole, *parts, *rest) if subset in metric.table]
    return Culprit(flags, float(confidence), tuple(evidence), subsets.minus(whole, flags))


def _is_fresh(metric, subset):
    """Whether all other subsets name the best hypothesis too, so that the run of this one is fresh evidence."""
    others = [i for i, other in enumerate(metric.tried) if other != subset]
    posterior = metric.posterior
    probability, best = posterior.probability, posterior.best
    near = probability > NEGLIGIBLE_SHARE * probability[best]
    without = weigh(posterior.family.kept(near), metric.evidence.only(others))
    return without.probability[near[:best].sum()] >= FRESH_PROBABILITY


def _leans(verdict, call):
    """Whether a verdict speaks for a call, be it too little for one by itself: the posterior, which counts it in with
    all others, has the last word. So it has where a set stays undecided.
    """
    return verdict.log_odds > 0 if call == BROKEN else verdict.log_odds < 0
