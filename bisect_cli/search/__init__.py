"""Which subset to train next: the interface of all searches.

A search is a pure function `search(question) -> Answer`, found by its name with `find`. It is called again whenever a
run ends, and derives all that it says from what is known at that moment, so a verdict that a fresh seed turns over
needs no undoing, and the same log always leads to the same plan. All randomness in it has a fixed seed.

What it sees is a Question: the flags, the verdicts so far of every metric, the runs whose results are still out, how
many slots are free, and what parity and the user say beforehand. What it says is an Answer: for each metric a Plan
(what is known, and whether the search of that metric is over), and for all metrics together the runs wanted, most
urgent first. A Want is a total: it asks that a subset has so many runs, ended ones and those in flight included. So
runs in flight that still matter are wanted too, nothing is started twice, and whoever drives a search does this:

    begun = {}                                        # subset -> runs begun, ended ones included
    answer = find("halving")(Question(flags, verdicts, in_flight, slots))
    for want in answer.wanted:
        while begun.get(want.flags, 0) < want.runs and slots are free:
            start a run of want.flags, with the next seed
    for subset in answer.cancel:
        stop a run of subset that is in flight; it is no evidence and may be started again later
    until all(plan.done for plan in answer.plans.values())

Flags are names of any kind, in any number up to 64; their order is that of the question's `flags`, and a subset is a
tuple of them in that order.
"""

import importlib
from itertools import combinations
from typing import NamedTuple

from bisect_cli.evidence.judge import BASELINE, BROKEN, FINE, Verdict


class Lead(NamedTuple):
    """Which flags to try first: `suspects`, the likeliest first. Which last: `placebos`. A search ends with the same
    culprits whatever it says; a right one saves runs.
    """

    suspects: tuple = ()
    placebos: tuple = ()


NO_LEAD = Lead()


class Question(NamedTuple):
    """What a search knows.

    flags      the failing set, at most 64 names; its order is that of every subset.
    verdicts   {metric: {subset: bisect_cli.judge.Verdict}}. Verdict.log_odds is the natural logarithm of the Bayes
               factor, broken to fine, of all runs of that subset for that metric; Verdict.runs those that ended,
               crashed ones included. A metric's table is empty until the whole baseline, the subset (), has ended.
    in_flight  the subset of each run whose result is still out, in the order of their start: begun and not ended, or
               ended before the baseline is complete. A subset of two such runs stands there twice.
    slots      how many more runs could start now.
    seeds      replicates of the baseline.
    lead       parity's.
    suspects   {flag: weight} of the user: how many times likelier than another flag it is to be a culprit.
    trusts     flags that the user holds to be innocent: {flag, ...} or a tuple.
    hearsay    {metric: {subset: log odds, broken to fine}}: old verdicts, weak evidence and never the truth. Of the
               searches only bayes listens to it.
    """

    flags: tuple
    verdicts: dict
    in_flight: tuple = ()
    slots: int = 1
    seeds: int = 3
    lead: Lead = NO_LEAD
    suspects: dict = {}  # noqa: RUF012 - never written to
    trusts: tuple = ()
    hearsay: dict = {}  # noqa: RUF012 - never written to

    @property
    def order(self):
        """The Lead of parity and the user together; the user's word comes first."""
        named = sorted(self.suspects, key=lambda flag: -self.suspects[flag])
        suspects = dict.fromkeys((*named, *self.lead.suspects))
        trusted = dict.fromkeys((*self.trusts, *self.lead.placebos))
        return Lead(
            tuple(flag for flag in suspects if flag not in self.trusts),
            tuple(flag for flag in trusted if flag not in self.suspects),
        )


class Answer(NamedTuple):
    """What a search makes of it: {metric: Plan}; the Wants, most urgent first; subsets in `cancel` have a run in flight
    that can no longer matter. stakes: {subset in flight: {metric: Stake}}, for each metric whose search goes on.
    """

    plans: dict
    wanted: tuple
    cancel: tuple = ()
    stakes: dict = {}  # noqa: RUF012 - never written to


class Stake(NamedTuple):
    """What a run in flight is to a metric. matters: it may still tell what is worth waiting for. log_odds: natural
    logarithm of broken : fine, as all runs that have ended let expect of its subset.
    """

    matters: bool
    log_odds: float = 0.0


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
    """A minimal set that breaks the metric. confidence: the probability of that, given all verdicts. evidence: the
    subsets whose verdicts say so most directly.
    """

    flags: tuple
    confidence: float
    evidence: tuple


class Unresolved(NamedTuple):
    """A set that holds a culprit, or may, and could not be taken apart further."""

    flags: tuple
    reason: str


class Belief(NamedTuple):
    """An explanation of the verdicts so far: exactly the supersets of one of these sets are broken (none: nothing
    breaks), and its probability.
    """

    culprits: tuple
    probability: float


class Plan(NamedTuple):
    """What a search makes of one metric's verdicts so far. It is done when nothing is wanted for it.

    suspects: sets under examination, (part, held): the culprit is in `part`, run together with `held`.
    clean: the probability that nothing breaks, once that is the result, else None.
    beliefs: of a search that weighs explanations, the likeliest first, as Belief; others have none.
    odds: {flag: probability that it takes part in a culprit}, likewise.
    note: what a reader should know about how the search goes, "" if all is well.
    """

    wanted: tuple
    culprits: tuple = ()
    unresolved: tuple = ()
    suspects: tuple = ()
    asked: tuple = ()
    clean: object = None
    beliefs: tuple = ()
    odds: dict = {}  # noqa: RUF012 - never written to
    note: str = ""

    @property
    def done(self):
        return not self.wanted


def find(name):
    """The search of this name, one of campaign.SEARCHES."""
    return importlib.import_module(f"bisect_cli.search.{name}").search


def each_by_itself(plan, question):
    """The Answer of a search that takes one metric at a time: plan(flags, verdict, seeds, lead) -> Plan, where verdict
    is a function: subset -> Verdict, or None while there is none.
    """
    plans = {
        metric: plan(question.flags, table.get, question.seeds, question.order)
        for metric, table in question.verdicts.items()
    }
    stakes = {
        subset: {
            metric: Stake(any(want.flags == subset for want in one.wanted))
            for metric, one in plans.items()
            if not one.done
        }
        for subset in question.in_flight
    }
    return Answer(plans, together(plans.values()), stakes=stakes)


def together(plans):
    """What several Plans want: each subset once, with the most runs that any of them asks for."""
    wants = {}
    for plan in plans:
        for want in plan.wanted:
            if want.flags not in wants or wants[want.flags].runs < want.runs:
                wants[want.flags] = want
    return tuple(wants.values())


def most_runs(search, flags, seeds):
    """The most runs that `search` needs, one at a time, if one flag, two flags alone, or two flags together break the
    set, and every run is clear.
    """
    tables = [()]  # nothing breaks
    tables += [((flag,),) for flag in flags]
    tables += [((a,), (b,)) for a, b in combinations(flags, 2)]
    tables += [(pair,) for pair in combinations(flags, 2)]
    return max(clear_runs(search, flags, seeds, culprits) for culprits in tables)


def clear_runs(search, flags, seeds, culprits, log_odds=6.0):
    """The runs of one search, one at a time, in which exactly the supersets of `culprits` are broken and every run
    says so with these log odds.
    """
    runs = {}
    while True:
        table = {subset: _clear(subset, number, culprits, log_odds) for subset, number in runs.items()}
        if runs.get((), 0) < seeds:
            table = {}
        in_flight = () if table else tuple(subset for subset, number in runs.items() for _ in range(number))
        wanted = search(Question(flags, {"metric": table}, in_flight, 1, seeds)).wanted
        more = [want for want in wanted if runs.get(want.flags, 0) < want.runs]
        if not more:
            return sum(runs.values())
        runs[more[0].flags] = more[0].runs


def _clear(subset, runs, culprits, log_odds):
    broken = any(set(culprit) <= set(subset) for culprit in culprits)
    call = BROKEN if broken else FINE if subset else BASELINE
    return Verdict(call, runs, 0.0 if not subset else (log_odds if broken else -log_odds) * runs)
