"""Delta debugging as Zeller and Hildebrandt wrote it ("Simplifying and Isolating Failure-Inducing Input", IEEE TSE
28(2), 2002), with the rest off: reduces the failing set to one minimal set, looking at parts and at all but a part.

A part whose verdict is undecided runs with further seeds, up to MOST_RUNS in all; then what its odds lean to counts, so
that a verdict is what the majority of its runs says. One that only crashes counts as passing, as ddmin has it for
unresolved outcomes. Of several culprits it finds one.
"""

from bisect_cli.evidence.judge import BROKEN, CRASHED, FINE, MOST_RUNS, UNDECIDED
from bisect_cli.search import NO_LEAD, Asked, Culprit, Plan, Unresolved, Want, each_by_itself
from bisect_cli.search.halving import CONFIRMED


def search(question):
    """What to run next, or the culprits, as `bisect_cli.search` describes."""
    return each_by_itself(plan, question)


def plan(flags, verdict, seeds, lead=NO_LEAD):
    """The Plan of one metric. verdict: a function, subset -> Verdict, or None while there is none. ddmin has no use for
    a lead.
    """
    return _Ddmin(flags, verdict).plan(seeds)


class _Missing(Exception):
    """A run that the search cannot go on without."""


class _Ddmin:
    def __init__(self, flags, verdict):
        self.flags, self.verdict = flags, verdict
        self.wanted, self.asked = {}, {}
        self.current = flags

    def plan(self, seeds):
        baseline = self.verdict(())
        if baseline is None or baseline.runs < seeds:
            self.wanted[()] = Want((), seeds, "baseline")
        asked, suspects = self.asked.values, lambda: ((self.current, ()),) if self.asked else ()
        try:
            if not self._fails(self.flags, None, "the whole set"):
                told = self.verdict(self.flags)
                if told.call == FINE:
                    return Plan((), asked=tuple(asked()), clean=1 - told.broken)
                return Plan((), unresolved=(Unresolved(self.flags, f"{told.call} after {told.runs} runs"),))
            self._reduce()
            if not self._fails(self.current, self.flags, "confirm the culprit", CONFIRMED):
                reason = Unresolved(self.current, "alone it is not broken with a fresh seed")
                return Plan((), unresolved=(reason,), asked=tuple(asked()))
        except _Missing:
            return Plan(tuple(self.wanted.values()), suspects=suspects(), asked=tuple(asked()))
        return Plan((), (self._culprit(),), asked=tuple(asked()))

    def _reduce(self):
        """Makes `current` 1-minimal: no single flag can be left out of it."""
        pieces = 2
        while len(self.current) > 1:
            whole = self.current
            bounds = [round(i * len(whole) / pieces) for i in range(pieces + 1)]
            parts = [whole[low:high] for low, high in zip(bounds, bounds[1:])]
            rests = [tuple(flag for flag in whole if flag not in part) for part in parts] if pieces > 2 else []
            part = next((part for part in parts if self._fails(part, whole, "part")), None)
            rest = part or next((rest for rest in rests if self._fails(rest, whole, "all but a part")), None)
            if part:
                self.current, pieces = part, 2
            elif rest:
                self.current, pieces = rest, max(pieces - 1, 2)
            elif pieces == len(whole):
                return
            else:
                pieces = min(2 * pieces, len(whole))

    def _fails(self, subset, parent, why, runs=1):
        """Whether a subset is broken. Raises _Missing, and wants a run, while that is not known."""
        self.asked.setdefault(subset, Asked(subset, parent, why))
        told = self.verdict(subset)
        if told is None or told.runs < runs:
            self.wanted[subset] = Want(subset, runs, why)
            raise _Missing
        if told.call == UNDECIDED and told.runs < MOST_RUNS:
            self.wanted[subset] = Want(subset, told.runs + 1, "undecided: another seed")
            raise _Missing
        return told.call == BROKEN or (told.call not in (FINE, CRASHED) and told.log_odds > 0)

    def _culprit(self):
        parts = [tuple(f for f in self.current if f != flag) for flag in self.current] if len(self.current) > 1 else []
        fine = [part for part in parts if self.verdict(part)]
        confidence = self.verdict(self.current).broken
        for part in fine:
            confidence *= 1 - self.verdict(part).broken
        return Culprit(self.current, confidence, (self.current, *fine))
