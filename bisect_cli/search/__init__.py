"""Which subset to train next: the interface of all searches.

A search is a pure function `plan(flags, verdict, seeds, lead) -> Plan`. It is called again whenever a run ends, and
derives all that it says from the verdicts of that moment, so a verdict that a fresh seed turns over needs no undoing.
  flags     the failing set, a tuple in the order of `bisect_cli.flags`;
  verdict   a function: subset -> bisect_cli.judge.Verdict, or None while no run of it (or not the whole baseline) has
            ended;
  seeds     replicates of the baseline;
  lead      a Lead, the order in which to try.
"""

from itertools import combinations
from typing import NamedTuple

from bisect_cli.judge import BASELINE, BROKEN, FINE, Verdict


class Lead(NamedTuple):
    """Which flags to try first: `suspects`, the likeliest first. Which last: `placebos`. A search ends with the same
    culprits whatever it says; a right one saves runs.
    """

    suspects: tuple = ()
    placebos: tuple = ()


NO_LEAD = Lead()


class Want(NamedTuple):
    """Asks that a subset has, in total, this many runs. `why` says it in a few words."""

    flags: tuple
    runs: int
    why: str


class Asked(NamedTuple):
    """A subset that the search looked at, and the larger one that it was split off (None at the root)."""

    flags: tuple
    parent: object
    why: str


class Culprit(NamedTuple):
    """A minimal set that breaks the metric. confidence: probability that all the verdicts in `evidence` (subsets) are
    right.
    """

    flags: tuple
    confidence: float
    evidence: tuple


class Unresolved(NamedTuple):
    """A set that holds a culprit, or may, and could not be taken apart further."""

    flags: tuple
    reason: str


class Plan(NamedTuple):
    """What a search makes of the verdicts so far. It is done when nothing is wanted.

    suspects: sets under examination, (part, held): the culprit is in `part`, run together with `held`.
    clean: the probability that nothing breaks, once that is the result, else None.
    """

    wanted: tuple
    culprits: tuple = ()
    unresolved: tuple = ()
    suspects: tuple = ()
    asked: tuple = ()
    clean: object = None

    @property
    def done(self):
        return not self.wanted


def most_runs(plan, flags, seeds):
    """The most runs that `plan` needs if one flag, two flags alone, or two flags together break the set, and every run
    is clear.
    """
    tables = [()]  # nothing breaks
    tables += [((flag,),) for flag in flags]
    tables += [((a,), (b,)) for a, b in combinations(flags, 2)]
    tables += [(pair,) for pair in combinations(flags, 2)]
    return max(_runs(plan, flags, seeds, culprits) for culprits in tables)


def _runs(plan, flags, seeds, culprits):
    """The runs of one search in which exactly the supersets of `culprits` are broken."""
    runs = {}

    def verdict(subset):
        if subset not in runs:
            return None
        broken = any(set(culprit) <= set(subset) for culprit in culprits)
        call = BROKEN if broken else FINE if subset else BASELINE
        return Verdict(call, runs[subset], (6.0 if broken else -6.0) * runs[subset])

    while True:
        wanted = plan(flags, verdict, seeds).wanted
        if not wanted:
            return sum(runs.values())
        runs.update((want.flags, want.runs) for want in wanted)
