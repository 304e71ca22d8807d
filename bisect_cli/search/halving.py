"""Splitting with the rest off: the plain search, delta debugging with both halves looked at.

  1. The baseline and the whole set. If the set is fine, nothing breaks.
  2. A broken set is split between groups, but suspects from the others first. Each half runs with the rest off. Broken
     halves are searched in turn, both of them if both are broken. Invariant of `_find`: part + held is broken, and held
     is not.
  3. Both halves fine: flags of both are needed together, as in an interacting pair. Hold the second half on and search
     the first, then hold what that found on and search the second (Zeller's dd, with the smaller set held the second
     time, so that what is found is minimal together).
     Two broken halves then may also mean that what is held on was taken for fine by mistake, so it runs again.
  4. A culprit runs again with a fresh seed, and so does the set without it. If the set without it is broken, that set
     is searched next. A combination is a culprit only if it is fine without any one of its flags.
A subset that stays undecided or crashes is tried around by cutting elsewhere, MOST_CUTS times, and is then reported.
"""

from typing import NamedTuple

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

MOST_CUTS = 3  # places to cut a set at before giving up on subsets without a verdict
# Of a set that is fine by one run: "nothing breaks" ends the search, so it takes more certainty than a step of it does,
# or a second seed.
CLEAN_PROBABILITY = 0.99


def answer(question):
    """What to run next, or the culprits, as `bisect_cli.search` describes."""
    return answer_by_metric(plan, question)


SEARCH = Search("halving", answer)


def plan(flags, verdict, seeds, order=NO_ORDER, groups=()):
    """The Plan of one metric. verdict: a function, subset -> Verdict, or None while there is none."""
    return _Halving(flags, verdict, order, groups).plan(seeds)


class _Found(NamedTuple):
    """A set that breaks, minimal if `exact`, else narrowed down to as far as the verdicts go."""

    flags: tuple
    exact: bool = True


class _Halving:
    """One planning step: every query is answered from the verdicts, or becomes a request."""

    def __init__(self, flags, verdict, order, groups):
        self.flags = flags
        self.verdict = verdict
        self.order = order
        self.groups = groups
        self.requests, self.queries = {}, {}
        self.unresolved, self.suspects = {}, []

    def plan(self, seeds):
        baseline = self.verdict(())
        if baseline is None or baseline.runs < seeds:
            self._request((), seeds, "baseline")
        culprits, clean = self._search()
        return Plan(
            tuple(self.requests.values()),
            culprits,
            tuple(Unresolved(flags, reason) for flags, reason in self.unresolved.items()),
            tuple(self.suspects),
            tuple(self.queries.values()),
            clean,
        )

    def _search(self):
        """The confirmed culprits, and the probability of a clean set if it is one."""
        call = self._query(self.flags, None, "the whole set")
        if call == FINE:
            if 1 - self.verdict(self.flags).broken < CLEAN_PROBABILITY:
                call = self._query(self.flags, None, "the whole set again", CONFIRMATION_RUNS)
            return (), 1 - self.verdict(self.flags).broken if call == FINE else None

        found, rest = [], self.flags
        while rest and call is not None and call != FINE:
            if call != BROKEN:
                self._give_up(rest)
                if call == UNDECIDED:  # its parts would be no clearer, at many runs
                    break
            here = self._minimal(self._find(rest, ()))
            if here is None:
                self.suspects += [(one.flags, ()) for one in found]
                return (), None
            found += here
            if not here:
                break
            rest = sets.minus(rest, self._union(*(one.flags for one in here)))
            for one in (one for one in here if one.exact):
                alone = self._query(one.flags, self.flags, "confirm the culprit", CONFIRMATION_RUNS)
                if alone not in (None, BROKEN):
                    self._give_up(one.flags, "alone it is not broken")
            if rest:
                runs = CONFIRMATION_RUNS if rest in self.queries else 1
                call = self._query(rest, self.flags, "the set without the culprit", runs)
        if call is None or self.requests:
            self.suspects += [(one.flags, ()) for one in found]
            return (), None
        return self._confirmed(found, rest), None

    def _confirmed(self, found, rest):
        """The exact sets among `found` as culprits. They rest on themselves, their parts, and the set without any of
        them.
        """
        culprits = []
        for one in (one for one in found if one.exact and one.flags not in self.unresolved):
            fine = self._parts(one.flags)
            if rest and self.verdict(rest).call == FINE and rest not in fine:
                fine.append(rest)
            confidence = self.verdict(one.flags).broken
            for subset in fine:
                confidence *= 1 - self.verdict(subset).broken
            culprits.append(Culprit(one.flags, confidence, (one.flags, *fine)))
        return tuple(culprits)

    def _find(self, part, held):
        """The minimal sets of `part` that are broken together with `held`, as _Found; None while runs are missing."""
        if len(part) == 1:
            return [_Found(part)]
        whole = self._union(part, held)
        why = f"half, with {sets.label(held, self.groups)} on" if held else "half"
        for halves in sets.splits(part, self.groups, *self.order)[:MOST_CUTS]:
            calls = [self._query(self._union(half, held), whole, why) for half in halves]
            broken = [half for half, call in zip(halves, calls) if call == BROKEN]
            if held and len(broken) == 2:  # two combinations, or `held` was taken for fine by mistake
                call = self._query(held, whole, "both halves fail with it on: is it fine?", CONFIRMATION_RUNS)
                if call != FINE:
                    return None if call is None else [_Found(())]
            if broken:
                return _merge(None if None in calls else [], *[self._find(half, held) for half in broken])
            if None in calls:
                self.suspects.append((part, held))
                return None
            if calls == [FINE, FINE]:
                return self._combination(*halves, held)
        self._give_up(whole, "no half of it gives a verdict")
        return [_Found(whole, exact=False)] if not held else [_Found(part, exact=False)]

    def _combination(self, first, second, held):
        """Sets with flags of both halves, each half being fine alone."""
        whole = self._union(first, second, held)
        call = self._query(whole, None, "both halves are fine: the whole again", CONFIRMATION_RUNS)
        if call != BROKEN:  # the whole turned undecided, or never gave a verdict
            self.suspects.append((self._union(first, second), held))
            return [] if call else None
        firsts = self._find(first, self._union(held, second))
        if firsts is None:
            return None
        found = []
        for one in firsts:
            seconds = self._find(second, self._union(held, one.flags))
            pairs = seconds and [_Found(self._union(one.flags, two.flags), one.exact and two.exact) for two in seconds]
            found = _merge(found, pairs)
        return found

    def _minimal(self, found):
        """`found`, with each combination replaced by a part of it where that is broken already; None while runs are
        missing.
        """
        if found is None:
            return None
        result = []
        for one in found:
            parts = self._parts(one.flags) if one.exact else []
            calls = {part: self._query(part, one.flags, "is each flag needed?") for part in parts}
            smaller = [self._minimal(self._find(part, ())) for part, call in calls.items() if call == BROKEN]
            for part, call in calls.items():
                if call in (UNDECIDED, CRASHED):
                    self._give_up(part)
            result = None if None in calls.values() else _merge(result, *(smaller or [[one]]))
        return result

    def _union(self, *parts):
        """All flags of several sets, as one set."""
        return sets.union(*parts, order=self.flags)

    def _parts(self, flags):
        """A combination without one of its flags, for each."""
        return [sets.minus(flags, (flag,)) for flag in flags] if len(flags) > 1 else []

    def _query(self, flags, parent, why, runs=1):
        """The call on a subset: fine, broken, or, with all its seeds spent, undecided or crashed. None, and a request,
        while runs are missing.
        """
        self.queries.setdefault(flags, Query(flags, parent, why))
        verdict = self.verdict(flags)
        if verdict is None or verdict.runs < runs:
            return self._request(flags, runs, why)
        if verdict.call == UNDECIDED and verdict.runs < MOST_RUNS:
            return self._request(flags, verdict.runs + 1, "undecided: another seed")
        return verdict.call

    def _request(self, flags, runs, why):
        if flags not in self.requests or self.requests[flags].runs < runs:
            self.requests[flags] = RunRequest(flags, runs, why)

    def _give_up(self, flags, reason=None):
        verdict = self.verdict(flags)
        reasons = {UNDECIDED: f"undecided after {verdict.runs} runs", CRASHED: "its runs crashed"}
        self.unresolved.setdefault(flags, reasons.get(verdict.call, reason))


def _merge(*lists):
    """Lists of _Found as one, without doubles; None if any is None."""
    if None in lists:
        return None
    return list(dict.fromkeys(one for found in lists for one in found))
