"""One planning step of the search that weighs explanations: from a Question to an Answer."""

import math

from bisect_cli.evidence.judge import CRASHED, MOST_RUNS
from bisect_cli.search import Answer, Plan, RunRequest
from bisect_cli.search.bayes import ahead, crashes
from bisect_cli.search.bayes.metric_search import MetricSearch
from bisect_cli.search.bayes.worth import CANCEL_BITS, LAST_RUN_BITS, LIKELY_RUN_BITS, SPARE_SLOT_BITS, Worth

MOST_BASELINE_RUNS = 12  # that a search asks for
MOST_CRASHES = 2  # runs of a subset of which none gave a result
BEGUN = "it was begun before, and still matters"


def answer(question):
    """What to run next, or the culprits, as `bisect_cli.search` describes."""
    return Planner(question).answer()


class Planner:
    """One planning step.

    begun: {subset: runs begun}, ended or not. out: the subset of each run in flight, baseline aside. table: {subset:
    Verdict} of any metric, for what crashed. flags: those that can be trained. searches: {metric: MetricSearch}.
    """

    def __init__(self, question):
        self.question = question
        self.table = next((table for table in question.verdicts.values() if table), {})
        self.begun = {subset: verdict.runs for subset, verdict in self.table.items()}
        for subset in question.in_flight:
            self.begun[subset] = self.begun.get(subset, 0) + 1
        self.out = [subset for subset in question.in_flight if subset]
        self.crashers, self.flags = crashes.split_off_crashers(question.flags, self.table, question.needs)
        names = question.verdicts if self.flags else ()
        self.searches = {name: MetricSearch(question, name, self.flags, self.crashers) for name in names}
        self.requests = {}

    def answer(self):
        if not self.flags:  # all flags need one whose runs crash
            plan = Plan((), unresolved=crashes.unresolved(self.question, (), self.crashers))
            return Answer(dict.fromkeys(self.question.verdicts, plan), (), tuple(dict.fromkeys(self.out)))
        open_searches = [search for search in self.searches.values() if search.is_open]
        cancel = ()
        if open_searches:
            self._request_baseline()
            self._request_all(request for search in open_searches for request in search.required)
            by_information = [search for search in open_searches if search.by_information]
            if by_information:
                cancel = self._explore(by_information)
        requests = tuple(self.requests.values())
        plans = {name: search.plan(requests if search.is_open else ()) for name, search in self.searches.items()}
        relevance = {
            subset: {name: search.relevance(subset) for name, search in self.searches.items() if search.is_open}
            for subset in dict.fromkeys(self.out)
        }
        return Answer(plans, requests, cancel, relevance)

    def _request_baseline(self):
        seeds = self.question.seeds
        if any(not table for table in self.question.verdicts.values()) or self.begun.get((), 0) < seeds:
            self._request((), seeds, "baseline")
            if self.flags not in self.begun:
                self._request(self.flags, 1, "the whole set")
            more = min(self.question.slots - seeds - 1, math.ceil(ahead.BASELINE_RUNS * self.question.eager))
            if more > 0:
                self._request((), seeds + more, "baseline")

    def _explore(self, searches):
        """Requests what is in flight and still matters, then fills the free slots; returns what is in flight in vain.

        Invariant: whatever is requested is expected by `worth` before another subset is chosen.
        """
        worth = self._worth(searches)
        vain = self._keep_in_flight(searches, worth)
        free = self._fill(searches, worth, self._free_slots(worth))
        if free > 0 and self.requests and self.question.eager:
            self._fill_ahead(searches, free)
        if free <= 0 and not self.requests:  # what is worth a run has to wait for these
            for subset in vain:
                self._request(subset, self.begun[subset], BEGUN)
            return ()
        if not self.requests:
            for search in searches:
                self._request_all(search.settle())
        return tuple(subset for subset in vain if subset not in self.requests)

    def _keep_in_flight(self, searches, worth):
        """Requests the runs in flight that still matter; returns the subsets of those that do not."""
        required = [subset for subset in self.requests if subset]
        judged, vain = all(search.metric.table for search in searches), []
        for subset in dict.fromkeys(self.out):
            if subset in required:
                continue
            if judged and worth.score(subset) < CANCEL_BITS:
                vain.append(subset)
            else:
                self._request(subset, self.begun[subset], BEGUN)
        for subset in self.out:
            if subset not in vain:
                worth.expect(subset)
        return vain

    def _free_slots(self, worth):
        """The slots that are left when all that is requested so far has started."""
        free = self.question.slots
        for subset in self.requests:
            missing = max(0, self._missing(subset))
            free -= missing
            for _ in range(missing if subset else 0):
                worth.expect(subset)
        return free

    def _fill(self, searches, worth, free):
        """Requests the most informative runs, one a slot; returns the slots that stay free."""
        least = LIKELY_RUN_BITS if all(search.metric.is_sufficient for search in searches) else LAST_RUN_BITS
        while free > 0:
            chosen = worth.best(self._spent(), SPARE_SLOT_BITS if self.requests else least)
            if chosen is None:
                break
            self._add(worth, *chosen)
            free -= 1
        return free

    def _fill_ahead(self, searches, free):
        """Requests runs that may be needed next, in slots that would stay free, as far as `eager` goes."""
        worth, due, out = self._worth(searches, sampled=True), {}, {}
        for search in searches:
            for subset, probability in search.due_ahead().items():
                due[subset] = max(probability, due.get(subset, 0.0))
        most = ahead.most_in_flight(self.question.eager, ahead.runs_left(worth, due))
        for subset, request in self.requests.items():
            out[subset] = request.runs - (self.table[subset].runs if subset in self.table else 0)
            for _ in range(out[subset] if subset else 0):
                worth.expect(subset)
        chooser = ahead.Ahead(worth, due, out, self.question.eager)
        for _ in range(min(free, most - sum(out.values()))):
            chosen = chooser.best(self._spent())
            if chosen is None:
                break
            self._add(worth, *chosen)

    def _worth(self, searches, sampled=False):
        return Worth(searches, self.flags, self.question.groups, self.question.needs, self.table, sampled)

    def _spent(self):
        """The subsets of which no further run can be requested."""
        return [subset for subset in {**self.begun, **self.requests} if not self._may_run(subset)]

    def _add(self, worth, subset, why):
        """Requests one more run of a subset."""
        self._request(subset, self.begun.get(subset, 0) + self._missing(subset) + 1, why)
        worth.expect(subset)

    def _missing(self, subset):
        """The runs of a subset that are requested and have not begun."""
        request = self.requests.get(subset)
        return request.runs - self.begun.get(subset, 0) if request else 0

    def _may_run(self, subset):
        """Whether another run of a subset can be requested."""
        runs = self.begun.get(subset, 0) + max(0, self._missing(subset))
        crashed = subset in self.table and self.table[subset].call == CRASHED
        return runs < (MOST_CRASHES if crashed else MOST_RUNS if subset else MOST_BASELINE_RUNS)

    def _request_all(self, requests):
        for request in requests:
            self._request(*request)

    def _request(self, flags, runs, why):
        if flags not in self.requests or self.requests[flags].runs < runs:
            self.requests[flags] = RunRequest(flags, runs, why)
