"""The search of one metric: whether it is over, which runs it needs, and the Plan to report."""

import math
from functools import cached_property

import numpy as np

from bisect_cli.campaign.subsets import union
from bisect_cli.evidence.judge import BROKEN, MOST_RUNS, UNDECIDED, VERDICT_ODDS
from bisect_cli.search import Plan, Query, Relevance, RunRequest, Unresolved, halving
from bisect_cli.search.bayes import confirmation, crashes
from bisect_cli.search.bayes.hypotheses import as_rows
from bisect_cli.search.bayes.information import Outlook
from bisect_cli.search.bayes.metric import Metric
from bisect_cli.search.bayes.worth import SPARE_SLOT_BITS

# Twice what any kind of hypothesis takes at 7 % of error, after which nothing is expected of hypotheses either.
MOST_RUNS_OF_A_SEARCH = 60
MISFIT_PROBABILITY = 0.5  # of something else, for giving up on hypotheses
FAINT_RUNS = 24  # without a clearly broken one before an undecided whole set ends the search
CONFIRMED_EXPLANATIONS = 8  # the likeliest, whose confirmations are planned for
EXPLANATIONS_AHEAD = 80  # the likeliest, whose confirmations may be made ahead of need: at first each flag's
SUSPECT_ODDS = 0.1  # of a flag, for it to be shown as under examination


class MetricSearch:
    """One metric at one planning step.

    metric: the Metric, what is known. is_open: its search is not over. by_information: its next runs are chosen by
    information. required: RunRequests that it must have. confirmations: {subset: probability that the result will rest
    on it}; due: the same of what has yet to run for it. unresolved: a tuple of Unresolved.
    """

    def __init__(self, question, name, flags, crashers):
        self.question = question
        self.metric = Metric(question, name, flags)
        self.unresolved = crashes.unresolved(question, flags, crashers)
        self.required, self.confirmations, self.due = (), {}, {}
        self.is_open = self.by_information = True
        self.is_stuck = self.is_misfit = False
        self.fallback = None
        if self.metric.table:
            self._decide()

    def _decide(self):
        """Whether the search is over, and what it needs if not."""
        metric = self.metric
        endless = metric.runs > MOST_RUNS_OF_A_SEARCH and not metric.can_be_named
        if metric.posterior.other > MISFIT_PROBABILITY or endless:
            self._split()
            return
        if self._is_faint():
            self._end_faint()
            return
        self._require_baseline()
        self._expect_confirmations()
        if metric.can_be_named:
            self._confirm()

    def _require_baseline(self):
        """Where the whole set is undecided, it may be the baseline's mean that is not known well enough."""
        metric = self.metric
        whole, base = metric.table.get(metric.flags), metric.table[()]
        unclear = whole and whole.call == UNDECIDED and not metric.can_be_named
        if unclear and base.runs < self.question.seeds + whole.runs - 1:
            why = "the whole set is undecided: more of the baseline"
            self.required = (RunRequest((), base.runs + 1, why),)

    def _expect_confirmations(self):
        self.confirmations, self.due = self._confirmations_of(CONFIRMED_EXPLANATIONS)

    def due_ahead(self):
        """As `due`, of many more explanations, and before the first verdict too."""
        return self._confirmations_of(EXPLANATIONS_AHEAD)[1]

    def _confirmations_of(self, most):
        """Those of the likeliest explanations, as `confirmations` and `due`."""
        metric, confirmations, due = self.metric, {}, {}
        for belief in metric.likeliest(most):
            for subset, _, _ in confirmation.confirming(metric.flags, belief.culprits, metric.needs):
                confirmations[subset] = confirmations.get(subset, 0) + belief.probability
                if confirmation.is_due(metric, subset, belief.culprits):
                    due[subset] = due.get(subset, 0) + belief.probability
        return confirmations, due

    def _confirm(self):
        """The best hypothesis is the result, once the runs that it rests on have ended."""
        self.required, unresolved = confirmation.missing(self.metric)
        self.unresolved += unresolved
        self.is_open = bool(self.required)

    def settle(self):
        """As no further run is informative, makes do with the best hypothesis if it is likely enough; gives up else.
        Returns the runs that have to confirm it.
        """
        if not self.metric.is_sufficient:
            self.is_stuck = True
            return ()
        self._confirm()
        return self.required

    def relevance(self, subset):
        """The Relevance of another run of a subset to this metric."""
        metric = self.metric
        row = as_rows([subset], metric.flags)
        broken = metric.probability_broken(row)
        log_odds = math.log(max(broken, 1e-9) / max(1 - broken, 1e-9))
        awaited = [request.flags for request in self.required]
        awaited += [one for one, _, _ in confirmation.confirming(metric.flags, metric.culprits, metric.needs)]
        if not metric.table or subset in awaited:  # however little it says, the search does not end without it
            return Relevance(True, log_odds)
        bits = self._outlook.information(row)[0] if self.by_information else 0.0
        return Relevance(bool(bits >= SPARE_SLOT_BITS), log_odds)

    @cached_property
    def _outlook(self):
        """With no run in flight."""
        return Outlook(self.metric.posterior.likeliest())

    # The set is undecided, and so is all else

    def _is_faint(self):
        """The whole set stays undecided and nothing else is clearly broken: its parts would be no clearer."""
        metric = self.metric
        whole = metric.table.get(metric.flags)
        if whole and whole.call != UNDECIDED or metric.runs < FAINT_RUNS or metric.can_be_named:
            return False
        return all(metric.table[subset].call != BROKEN for subset in metric.tried)

    def _end_faint(self):
        flags = self.metric.flags
        whole = self.metric.table.get(flags)
        if whole and whole.runs >= MOST_RUNS:
            self.unresolved += (Unresolved(flags, f"undecided after {whole.runs} runs"),)
            self.is_open = False
        else:
            self.by_information = False
            runs = whole.runs if whole else 0
            self.required = (RunRequest(flags, runs + 1, "nothing is clear: the whole set"),)

    # No hypothesis fits

    def _split(self):
        """No hypothesis explains the verdicts: repeats what contradicts the best one, then splits."""
        self.by_information, self.is_misfit = False, True
        metric, question = self.metric, self.question
        broken = metric.posterior.family.broken(metric.evidence.subsets)[:, metric.posterior.best]
        log_odds = np.array([metric.table[subset].log_odds for subset in metric.tried])
        against = np.where(broken, -log_odds, log_odds) > math.log(VERDICT_ODDS)
        again = [subset for subset, wrong in zip(metric.tried, against) if wrong and metric.table[subset].runs < 2]
        if again:
            self.required = tuple(RunRequest(subset, 2, "contradicts the others: once more") for subset in again)
            return
        known = (question.seeds, question.order, question.groups, question.needs)
        self.fallback = halving.plan(metric.flags, metric.table.get, *known)
        self.required = self.fallback.requests
        self.is_open = bool(self.required)

    # The Plan

    def plan(self, requests):
        """The Plan to report. requests: of all metrics together, () if this one's search is over."""
        metric = self.metric
        odds = metric.odds()
        queries = tuple(Query(subset, None, "") for subset in metric.tried)
        base = Plan(requests, (), self.unresolved, (), queries, None, metric.beliefs(), odds)
        if self.is_stuck:
            reason = f"no further run would add information; the likeliest explanation has {metric.probability:.0%}"
            return base._replace(requests=(), unresolved=(*self.unresolved, Unresolved(metric.flags, reason)))
        if self.is_misfit:
            return self._misfit_plan(base)
        if self.is_open:
            likely = tuple(flag for flag in metric.flags if odds[flag] >= SUSPECT_ODDS)
            return base._replace(suspects=((likely, ()),) if metric.table.get(metric.flags) and likely else ())
        clean = metric.probability if not metric.culprits and not self.unresolved else None
        undecided = {one.flags for one in self.unresolved}
        culprits = (confirmation.culprit(metric, one) for one in metric.culprits)
        named = tuple(one for one in culprits if union(one.flags, one.needed, order=metric.flags) not in undecided)
        return base._replace(culprits=named, clean=clean)

    def _misfit_plan(self, base):
        note = (
            f"no explanation with up to three flags fits the verdicts ({self.metric.posterior.other:.0%} for something "
            f"else, {self.metric.probability:.0%} for the likeliest): they are repeated, then the set is split"
        )
        if self.fallback is None:
            return base._replace(note=note)
        unresolved = (*self.unresolved, *self.fallback.unresolved)
        return self.fallback._replace(requests=base.requests, unresolved=unresolved, odds=base.odds, note=note)
