"""Which subset to train next: what every search has in common, and how a search is found.

A search is a pure function `answer(question) -> Answer`. It is asked again whenever a run ends, and derives all that it
says from what is known at that moment. So a verdict that a fresh seed turns over needs no undoing, and the same log
always leads to the same plan. All randomness in a search has a fixed seed.

Words, with the same meaning in all files:

  flag                  a switch of the training; a search knows its name only
  whole set             the flags of the campaign, at most 64; their order is that of every subset
  subset                some flags that are on, all others off: a tuple of names in the order of the whole set
  baseline              the subset (): all flags off
  group                 flags that people know by one name, neighbours in that order; sets are cut between groups
  run                   one training of a subset with one seed. In flight: started, its result still out
  verdict               what all runs of a subset say about a metric: fine, broken or undecided; crashed where no run
                        gave a result
  needs                 flags without which a flag makes no sense. A set is runnable if it holds all that its flags
                        need; no other is ever requested
  culprit               a minimal set of flags that breaks the metric wherever all of them are on. Of flags that need
                        others it goes without saying that these were on: they are not named with it
  interacting pair      a culprit of two flags: each of them alone is harmless
  independent culprits  several culprits, each of which breaks the metric without the others
  explanation           a list of culprits that may be the cause of all verdicts, also called hypothesis; the empty list
                        says that nothing breaks
  query                 a subset that a search looked at, and why
  run request           asks that a subset has so many runs in total, ended ones and those in flight included
  relevance             what a run in flight means to a metric: does its search still wait for it, and what result is
                        expected
  test order            which flags to test first (suspects) and which last (placebos). A right one saves runs, a wrong
                        one costs runs; the culprits found are the same
  prior evidence        verdicts from before the campaign or from older code: weak, and never the truth
  confirmation          a run that a result rests on: the culprit alone is broken, the set without it is fine. Alone is
                        with what it needs, and without it is without what needs it

What drives a search does this; the loop over the requests is `bisect_cli.run.schedule.missing`:

    begun = {}                                        # subset -> runs begun, ended ones included
    answer = find("halving").answer(Question(flags, verdicts, in_flight, slots))
    for subset, index, why in missing(answer.requests, begun):
        while slots are free, start a run of subset, with its next seed
    for subset in answer.cancel:
        stop a run of subset that is in flight; it is no evidence and may be started again later
    until all(plan.done for plan in answer.plans.values())

As a request is a total, runs in flight that still matter are requested too, and nothing is started twice.

To add a search, add one module (or package) to this package. It defines `SEARCH = Search(...)` under its own name. A
module whose name begins with an underscore is no search.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import NamedTuple

from bisect_cli.campaign.subsets import NO_NEEDS
from bisect_cli.errors import unknown

DEFAULT = "bayes"
CONFIRMATION_RUNS = 2  # runs of a set that a result rests on: the one that led there, and one with a fresh seed


class Search(NamedTuple):
    """A search, as `find` returns it.

    name: as people write it, and that of its module.
    answer: Question -> Answer.
    uses_prior_evidence: whether Question.prior_evidence makes a difference.
    weighs_explanations: whether its Plans have beliefs and odds.
    """

    name: str
    answer: Callable
    uses_prior_evidence: bool = False
    weighs_explanations: bool = False


def names():
    """The names of all searches, the default first. Imports none of them, so that `--help` stays quick."""
    found = {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}
    return (DEFAULT, *sorted(found - {DEFAULT}, reverse=True))


def find(name):
    """The Search of this name. Raises UserError with the nearest names."""
    if name not in names():
        raise unknown("search", name, names())
    return importlib.import_module(f"{__name__}.{name}").SEARCH


class Order(NamedTuple):
    """A test order. suspects: flags to test first, the likeliest first. placebos: flags to test last."""

    suspects: tuple = ()
    placebos: tuple = ()


NO_ORDER = Order()


class Question(NamedTuple):
    """What a search knows.

    flags           the whole set.
    verdicts        {metric: {subset: bisect_cli.evidence.judge.Verdict}}. Verdict.log_odds is the natural logarithm of
                    the Bayes factor, broken to fine, of all runs of that subset for that metric. Verdict.runs counts
                    those that ended, crashed ones included. A metric's table is empty until the whole baseline has
                    ended.
    in_flight       the subset of each run whose result is still out, in the order of their start: begun and not ended,
                    or ended before the baseline is complete. A subset of two such runs is there twice.
    slots           how many more runs could start now.
    seeds           replicates of the baseline.
    parity_order    the Order that a comparison of the implementations suggests.
    suspects        {flag: weight} from the user: how many times likelier than another flag it is to be a culprit.
    trusts          flags that the user holds to be innocent: {flag, ...} or a tuple.
    prior_evidence  {metric: {subset: log odds, broken to fine}}.
    groups          the groups that say something about a set, as bisect_cli.campaign.spec.Group: several flags, and not
                    all of the trainer's.
    needs           {flag: frozenset of all that it needs}, as bisect_cli.campaign.subsets.close makes it, of flags of
                    the whole set only. Whoever asks has refused a whole set that is not runnable: what needs a flag
                    outside it could never be on.
    eager           0 to 1: how many runs may be made ahead of need to save time, as a share of those still needed.
    """

    flags: tuple
    verdicts: dict
    in_flight: tuple = ()
    slots: int = 1
    seeds: int = 3
    parity_order: Order = NO_ORDER
    suspects: dict = {}  # noqa: RUF012 - never written to
    trusts: tuple = ()
    prior_evidence: dict = {}  # noqa: RUF012 - never written to
    groups: tuple = ()
    needs: dict = NO_NEEDS
    eager: float = 0.0

    @property
    def order(self):
        """The Order of parity and the user together; what the user says comes first."""
        named = sorted(self.suspects, key=lambda flag: -self.suspects[flag])
        suspects = dict.fromkeys((*named, *self.parity_order.suspects))
        trusted = dict.fromkeys((*self.trusts, *self.parity_order.placebos))
        return Order(
            tuple(flag for flag in suspects if flag not in self.trusts),
            tuple(flag for flag in trusted if flag not in self.suspects),
        )


class RunRequest(NamedTuple):
    """Asks that a subset has, in total, this many runs. `why` says it in a few words."""

    flags: tuple
    runs: int
    why: str


class Query(NamedTuple):
    """A subset that the search looked at, and the larger one that it was split off (None at the root)."""

    flags: tuple
    parent: object
    why: str


class Culprit(NamedTuple):
    """A culprit that is the result. confidence: its probability, given all verdicts. evidence: the subsets whose
    verdicts show it most directly. needed: what its flags need and it ran with. By itself that is fine; whether the
    fault takes it no run can tell.
    """

    flags: tuple
    confidence: float
    evidence: tuple
    needed: tuple = ()


class Unresolved(NamedTuple):
    """A set that holds a culprit, or may, and could not be taken apart further."""

    flags: tuple
    reason: str


class Belief(NamedTuple):
    """An explanation of the verdicts so far, and its probability: exactly the supersets of its culprits are broken."""

    culprits: tuple
    probability: float


class Plan(NamedTuple):
    """What a search makes of one metric's verdicts so far. It is done when nothing is requested for it.

    requests: RunRequests. culprits, unresolved: the result, once it is done.
    suspects: sets under examination, (part, held): the culprit is in `part`, run together with `held`.
    queries: every Query so far.
    clean: the probability that nothing breaks, once that is the result, else None.
    beliefs: of a search that weighs explanations, the likeliest first, as Belief; others have none.
    odds: {flag: probability that it takes part in a culprit}, likewise.
    note: what a reader should know about how the search proceeds, "" if all is well.
    """

    requests: tuple
    culprits: tuple = ()
    unresolved: tuple = ()
    suspects: tuple = ()
    queries: tuple = ()
    clean: object = None
    beliefs: tuple = ()
    odds: dict = {}  # noqa: RUF012 - never written to
    note: str = ""

    @property
    def done(self):
        return not self.requests


class Relevance(NamedTuple):
    """What a run in flight means to a metric. matters: its result may still be worth waiting for. log_odds: natural
    logarithm of broken : fine, as all runs that have ended let expect of its subset.
    """

    matters: bool
    log_odds: float = 0.0


class Answer(NamedTuple):
    """What a search says.

    plans: {metric: Plan}. requests: the RunRequests of all metrics together, most urgent first. cancel: subsets with a
    run in flight that can no longer matter. relevance: {subset in flight: {metric: Relevance}}, for each metric whose
    search is not over.
    """

    plans: dict
    requests: tuple
    cancel: tuple = ()
    relevance: dict = {}  # noqa: RUF012 - never written to


def answer_by_metric(plan, question):
    """The Answer of a search that looks at one metric at a time: plan(flags, verdict, seeds, order, groups, needs) ->
    Plan, where verdict is a function: subset -> Verdict, or None while there is none.
    """
    plans = {
        metric: plan(question.flags, table.get, question.seeds, question.order, question.groups, question.needs)
        for metric, table in question.verdicts.items()
    }
    relevance = {
        subset: {
            metric: Relevance(any(request.flags == subset for request in one.requests))
            for metric, one in plans.items()
            if not one.done
        }
        for subset in question.in_flight
    }
    return Answer(plans, merge_requests(plans.values()), relevance=relevance)


def merge_requests(plans):
    """What several Plans request: each subset once, with the most runs that any of them asks for."""
    merged = {}
    for plan in plans:
        for request in plan.requests:
            if request.flags not in merged or merged[request.flags].runs < request.runs:
                merged[request.flags] = request
    return tuple(merged.values())
