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

Where flags need others, all that runs is runnable:
  - Halves run with what they need, and may share it. If both are broken, what they share runs, as it may be to blame.
    If that is fine it is held on, and what is found on top of it runs without it too (`_beyond`).
  - If one half would be the whole set, as where one flag needs all others, the other one runs alone. If it is fine, it
    is held on while the rest is searched.
  - A culprit runs with what it needs. It is broken because of itself if what it needs is fine without it.
  - The set without a culprit is without what needs it; what needs one flag of a combination is seen with another flag
    of it off (`subsets.remainders`).
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


def plan(flags, verdict, seeds, order=NO_ORDER, groups=(), needs=sets.NO_NEEDS):
    """The Plan of one metric. verdict: a function, subset -> Verdict, or None while there is none."""
    return _Halving(flags, verdict, order, groups, needs).plan(seeds)


class _Found(NamedTuple):
    """A set that breaks, minimal if `exact`, else narrowed down to as far as the verdicts go. An exact one goes without
    what its flags need.
    """

    flags: tuple
    exact: bool = True


class _Queries:
    """Subsets looked at: every query is answered from the verdicts, or becomes a request."""

    def __init__(self, verdict):
        self.verdict = verdict
        self.requests, self.queries, self.unresolved = {}, {}, {}

    def request(self, flags, runs, why):
        if flags not in self.requests or self.requests[flags].runs < runs:
            self.requests[flags] = RunRequest(flags, runs, why)

    def query(self, flags, parent, why, runs=1):
        """The call on a subset: fine, broken, or, with all its seeds spent, undecided or crashed. None, and a request,
        while runs are missing.
        """
        self.queries.setdefault(flags, Query(flags, parent, why))
        verdict = self.verdict(flags)
        if verdict is None or verdict.runs < runs:
            return self.request(flags, runs, why)
        if verdict.call == UNDECIDED and verdict.runs < MOST_RUNS:
            return self.request(flags, verdict.runs + 1, "undecided: another seed")
        return verdict.call

    def give_up(self, flags, reason=None):
        verdict = self.verdict(flags)
        reasons = {UNDECIDED: f"undecided after {verdict.runs} runs", CRASHED: "its runs crashed"}
        self.unresolved.setdefault(flags, reasons.get(verdict.call, reason))


class _Parts(_Queries):
    """How a broken set is taken apart."""

    def __init__(self, flags, verdict, order, groups, needs):
        super().__init__(verdict)
        self.flags = flags
        self.order = order
        self.groups = groups
        self.needs = needs
        self.suspects = []

    def find(self, part, held):
        """The minimal sets of `part` that are broken together with `held`, as _Found; None while runs are missing.
        Both together are runnable, and so is `held`.
        """
        if len(part) == 1:
            return [_Found(part)]
        whole = self.union(part, held)
        why = f"half, with {sets.label(held, self.groups)} on" if held else "half"
        for halves in sets.splits(part, self.groups, *self.order, needs=self.needs)[:MOST_CUTS]:
            calls = [self.query(self.union(half, held), whole, why) for half in halves]
            broken = [half for half, call in zip(halves, calls) if call == BROKEN]
            if len(broken) == 2:
                return self._both_broken(*broken, held)
            if broken:
                return _merge(None if None in calls else [], *[self.find(half, held) for half in broken])
            if None in calls:
                self.suspects.append((part, held))
                return None
            if set(calls) == {FINE}:
                return self._combination(*halves, held) if len(halves) == 2 else self._beyond(part, halves[0], held)
        self.give_up(whole, "no half of it gives a verdict")
        return [_Found(whole, exact=False)] if not held else [_Found(part, exact=False)]

    def _both_broken(self, first, second, held):
        """What `find` returns where both halves are broken. What they share may be to blame for both, or `held`, if it
        was taken for fine by mistake; else each is searched.
        """
        whole, shared = self.union(first, second, held), sets.minus(first, sets.minus(first, second))
        call = self.query(self.union(shared, held), whole, "both halves fail: what they share") if shared else UNDECIDED
        if call is None:
            self.suspects.append((self.union(first, second), held))
            return None
        if call == BROKEN:
            return self.find(shared, held)
        if call == FINE:
            return _merge([], *[self._beyond(half, shared, held) for half in (first, second)])
        if held:
            call = self.query(held, whole, "both halves fail with it on: is it fine?", CONFIRMATION_RUNS)
            if call != FINE:
                return None if call is None else [_Found(())]
        return _merge([], self.find(first, held), self.find(second, held))

    def _combination(self, first, second, held):
        """Sets with flags of both halves, each half being fine alone."""
        whole = self.union(first, second, held)
        call = self.query(whole, None, "both halves are fine: the whole again", CONFIRMATION_RUNS)
        if call != BROKEN:  # the whole turned undecided, or never gave a verdict
            self.suspects.append((self.union(first, second), held))
            return [] if call else None
        return self._beyond(self.union(first, second), second, held, self.union(first, held))

    def _beyond(self, part, low, held, fine=()):
        """The minimal sets of `part` that are broken together with `held`, where `low` with `held` is fine. fine:
        another set that is.
        """
        whole, low_held = self.union(part, held), self.union(low, held)
        firsts = self.find(sets.minus(part, low), low_held)
        if firsts is None:
            return None
        found = []
        for one in firsts:
            on = self.union(held, self.closed(one))
            seconds = self._needed(low, on, whole, any(not sets.minus(on, other) for other in (fine, low_held)))
            pairs = seconds and [_Found(self.union(one.flags, two.flags), one.exact and two.exact) for two in seconds]
            found = _merge(found, pairs)
        return found

    def _needed(self, low, on, whole, is_fine):
        """The minimal sets of `low` that are broken together with `on`: the empty one if `on` is broken by itself."""
        left = sets.minus(low, on)
        if not left:
            return [_Found(())]
        call = FINE if is_fine else self.query(on, whole, "is what was held on needed?")
        if call == FINE:
            return self.find(left, on)
        return call and [_Found(()) if call == BROKEN else _Found(left, exact=False)]

    def minimal(self, found):
        """`found`, with each combination replaced by a part of it where that is broken already; None while runs are
        missing.
        """
        if found is None:
            return None
        result = []
        for one in found:
            parts = sets.one_less(one.flags, self.needs, self.flags) if one.exact else []
            calls = {part: self.query(part, self.closed(one), "is each flag needed?") for part in parts}
            smaller = [self.minimal(self.find(part, ())) for part, call in calls.items() if call == BROKEN]
            for part, call in calls.items():
                if call in (UNDECIDED, CRASHED):
                    self.give_up(part)
            result = None if None in calls.values() else _merge(result, *(smaller or [[one]]))
        return result

    def union(self, *parts):
        """All flags of several sets, as one set."""
        return sets.union(*parts, order=self.flags)

    def closed(self, one):
        """The flags of a _Found with all that they need, as one set."""
        return sets.with_needed(one.flags, self.needs, self.flags)


class _Halving(_Parts):
    """One planning step."""

    def plan(self, seeds):
        baseline = self.verdict(())
        if baseline is None or baseline.runs < seeds:
            self.request((), seeds, "baseline")
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
        call = self.query(self.flags, None, "the whole set")
        if call == FINE:
            if 1 - self.verdict(self.flags).broken < CLEAN_PROBABILITY:
                call = self.query(self.flags, None, "the whole set again", CONFIRMATION_RUNS)
            return (), 1 - self.verdict(self.flags).broken if call == FINE else None

        found, rests, rest = [], [self.flags], self.flags
        while rest and call is not None and call != FINE:
            if call != BROKEN:
                self.give_up(rest)
                if call == UNDECIDED:  # its parts would be no clearer, at many runs
                    break
            here = self.minimal(self.find(rest, ()))
            if here is None:
                self.suspects += [(one.flags, ()) for one in found]
                return (), None
            found += here
            if not here:
                break
            for one in (one for one in here if one.exact):
                alone = self.query(self.closed(one), self.flags, "confirm the culprit", CONFIRMATION_RUNS)
                if alone not in (None, BROKEN):
                    self.give_up(self.closed(one), "alone it is not broken")
            rests, rest = self._rests(found), ()
            if rests:
                rest, call = self._first_not_fine(rests)
        if call is None or self.requests:
            self.suspects += [(one.flags, ()) for one in found]
            return (), None
        return self._confirmed(found, rests), None

    def _rests(self, found):
        """What is left to look at: the sets without all of these. Of one that is not exact no flag is in them."""
        apart = [(one.flags,) if one.exact else [(flag,) for flag in one.flags] for one in found]
        return sets.remainders(self.flags, [culprit for each in apart for culprit in each], self.needs)

    def _first_not_fine(self, rests):
        """The set to search next, and its call: a broken one if there is one, and none before all have run."""
        calls = {}
        for rest in rests:
            runs = CONFIRMATION_RUNS if rest in self.queries else 1
            calls[rest] = self.query(rest, self.flags, "the set without the culprit", runs)
        return min(calls.items(), key=lambda item: (None, BROKEN, CRASHED, UNDECIDED, FINE).index(item[1]))

    def _confirmed(self, found, rests):
        """The exact sets among `found` as culprits. They rest on themselves, their parts, and the set without any of
        them.
        """
        culprits = []
        for one in (one for one in found if one.exact and self.closed(one) not in self.unresolved):
            whole, fine = self.closed(one), sets.one_less(one.flags, self.needs, self.flags)
            fine += [rest for rest in rests if self.verdict(rest).call == FINE and rest not in fine]
            confidence = self.verdict(whole).broken
            for subset in fine:
                confidence *= 1 - self.verdict(subset).broken
            culprits.append(Culprit(one.flags, confidence, (whole, *fine), sets.minus(whole, one.flags)))
        return tuple(culprits)


def _merge(*lists):
    """Lists of _Found as one, without doubles; None if any is None."""
    if None in lists:
        return None
    return list(dict.fromkeys(one for found in lists for one in found))
