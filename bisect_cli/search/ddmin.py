"""Delta debugging as Zeller and Hildebrandt wrote it ("Simplifying and Isolating Failure-Inducing Input", IEEE TSE
28(2), 2002), with the rest off: reduces the failing set to one minimal set, looking at parts and at all but a part.

A part whose verdict is undecided runs with further seeds, up to MOST_RUNS in all. Then what its odds lean to counts, so
that a verdict is what the majority of its runs says. One that only crashes counts as passing, as ddmin has it for
unresolved outcomes. Of several culprits it finds one.

Where flags need others, a part runs with what its flags need, and of all but a part what can run without it. Then the
set found is minimal among those that can be trained.
"""

from bisect_cli.campaign import subsets as sets
from bisect_cli.evidence.judge import BROKEN, CRASHED, FINE, MOST_RUNS, UNDECIDED
from bisect_cli.search import (
    CONFIRMATION_RUNS,
    NO_ORDER,
    Culprit,
    Plan,
    Query,
    RunRequest,
    Search,
    Unresolved,
    answer_by_metric,
)


def answer(question):
    """What to run next, or the culprits, as `bisect_cli.search` describes."""
    return answer_by_metric(plan, question)


SEARCH = Search("ddmin", answer)


def plan(flags, verdict, seeds, order=NO_ORDER, groups=(), needs=sets.NO_NEEDS):
    """The Plan of one metric. verdict: a function, subset -> Verdict, or None while there is none. ddmin has no use for
    a test order or groups.
    """
    return _Ddmin(flags, verdict, needs).plan(seeds)


class _Missing(Exception):
    """A run that the search needs before its next step."""


class _Ddmin:
    """One planning step: it follows the paper up to the first query that the verdicts do not answer."""

    def __init__(self, flags, verdict, needs):
        self.flags, self.verdict, self.needs = flags, verdict, needs
        self.requests, self.queries = {}, {}
        self.current = flags

    def plan(self, seeds):
        baseline = self.verdict(())
        if baseline is None or baseline.runs < seeds:
            self.requests[()] = RunRequest((), seeds, "baseline")
        try:
            if not self._fails(self.flags, None, "the whole set"):
                return self._without_failure()
            self._reduce()
            if not self._fails(self.current, self.flags, "confirm the culprit", CONFIRMATION_RUNS):
                reason = Unresolved(self.current, "alone it is not broken with a fresh seed")
                return Plan((), unresolved=(reason,), queries=self._queries())
        except _Missing:
            suspects = ((self.current, ()),) if self.queries else ()
            return Plan(tuple(self.requests.values()), suspects=suspects, queries=self._queries())
        return Plan((), (self._culprit(),), queries=self._queries())

    def _without_failure(self):
        verdict = self.verdict(self.flags)
        if verdict.call == FINE:
            return Plan((), queries=self._queries(), clean=1 - verdict.broken)
        return Plan((), unresolved=(Unresolved(self.flags, f"{verdict.call} after {verdict.runs} runs"),))

    def _queries(self):
        return tuple(self.queries.values())

    def _reduce(self):
        """Makes `current` 1-minimal: no single flag can be left out of it, with those that need it."""
        pieces = 2
        while len(self.current) > 1:
            whole = self.current
            bounds = [round(i * len(whole) / pieces) for i in range(pieces + 1)]
            row = sets.needed_first(whole, self.needs)
            cut = [row[low:high] for low, high in zip(bounds, bounds[1:])]
            parts = [sets.with_needed(part, self.needs, whole) for part in cut]
            rests = [sets.runnable(sets.minus(whole, part), self.needs) for part in cut] if pieces > 2 else []
            smaller = (part for part in parts if part != whole)
            part = next((part for part in smaller if self._fails(part, whole, "part")), None)
            left = (rest for rest in rests if rest)
            rest = part or next((rest for rest in left if self._fails(rest, whole, "all but a part")), None)
            if part:
                self.current, pieces = part, 2
            elif rest:
                self.current, pieces = rest, min(max(pieces - 1, 2), len(rest))
            elif pieces == len(whole):
                return
            else:
                pieces = min(2 * pieces, len(whole))

    def _fails(self, subset, parent, why, runs=1):
        """Whether a subset is broken. Raises _Missing, and requests a run, while that is not known."""
        self.queries.setdefault(subset, Query(subset, parent, why))
        verdict = self.verdict(subset)
        if verdict is None or verdict.runs < runs:
            self.requests[subset] = RunRequest(subset, runs, why)
            raise _Missing
        if verdict.call == UNDECIDED and verdict.runs < MOST_RUNS:
            self.requests[subset] = RunRequest(subset, verdict.runs + 1, "undecided: another seed")
            raise _Missing
        return verdict.call == BROKEN or (verdict.call not in (FINE, CRASHED) and verdict.log_odds > 0)

    def _culprit(self):
        flags = sets.tops(self.current, self.needs)
        fine = [part for part in sets.one_less(flags, self.needs, self.flags) if self.verdict(part)]
        confidence = self.verdict(self.current).broken
        for part in fine:
            confidence *= 1 - self.verdict(part).broken
        return Culprit(flags, confidence, (self.current, *fine), sets.minus(self.current, flags))
