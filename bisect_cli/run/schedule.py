"""From what a search requests to the runs to start, and how many runs a search takes where no run misleads.

Pure: the controller, the simulator and the dry run share it.
"""

from itertools import combinations
from typing import NamedTuple, Optional

from bisect_cli.campaign.state import CANCELLED, WAITING, Trial, id_of
from bisect_cli.campaign.subsets import NO_NEEDS, tops
from bisect_cli.evidence.judge import BASELINE, BROKEN, FINE, Verdict
from bisect_cli.search import Question


class MissingRun(NamedTuple):
    """A run that is requested and has not begun. index: how many runs of the subset come before it; with the seeds in
    their order it says which is next.
    """

    subset: tuple
    index: int
    why: str


def missing(requests, begun):
    """Yields a MissingRun for each run that RunRequests ask for beyond those begun, most urgent first.

    begun: {subset: runs begun, ended ones included}. Its values when the first one is taken count: whoever starts a run
    may write it down there at once.
    """
    begun = dict(begun)
    for request in requests:
        for index in range(begun.get(request.flags, 0), request.runs):
            yield MissingRun(request.flags, index, request.why)
        begun[request.flags] = max(request.runs, begun.get(request.flags, 0))


class NextRun(NamedTuple):
    """A run to start: of a trial that was begun before, or of a new one."""

    trial: Optional[Trial]
    flags: tuple
    seed: int
    why: str


def next_runs(state, requests, max_runs=None):
    """Yields a NextRun for each run that could start now, most urgent first. state: the campaign's State. max_runs:
    trainings that it may begin in all, None for no limit; resuming one costs none.
    """
    room = float("inf") if max_runs is None else max_runs - state.trained
    for request in requests:
        trials, seeds = state.trials_of(request.flags), state.free_seeds(request.flags)
        for trial in trials[: request.runs]:
            if trial.state in (WAITING, CANCELLED):
                yield NextRun(trial, request.flags, trial.seed, request.why)
        for _ in missing([request], {request.flags: len(trials)}):
            if room > 0:
                room -= 1
                yield NextRun(None, request.flags, next(seeds), request.why)


def attempt_of(state, run):
    """The id of the trial of a NextRun, and the number of its attempt."""
    return (run.trial.id, run.trial.attempts + 1) if run.trial else (id_of(state.next_number), 1)


def ending(state, analysis, max_runs=None):
    """How a campaign ends that has nothing left to do, as (state, reason), else None."""
    if analysis.failure:
        return "failed", analysis.failure
    if not analysis.requests:
        return ("inconclusive", "some subsets gave no verdict") if analysis.unresolved else ("finished", "")
    if not state.running and not any(True for _ in next_runs(state, analysis.requests, max_runs)):
        return "inconclusive", f"the budget of {max_runs} runs is spent"
    return None


def is_over(state, analysis):
    """Whether a campaign that was closed as finished still is: where its log has lost events, the search may want more
    runs than it did.
    """
    return state.state == "finished" and analysis.wants_nothing


def worst_case_runs(search, flags, seeds, groups=(), needs=NO_NEEDS):
    """The most runs that a search needs, one at a time, if nothing, one flag, two independent culprits of one flag each
    or an interacting pair breaks the set, and no run misleads. needs: as in Question; two flags of which one needs the
    other are no more than one of them, to all runs there can be.
    """
    pairs = [pair for pair in combinations(flags, 2) if tops(pair, needs) == pair]
    explanations = [
        (),
        *(((flag,),) for flag in flags),
        *(((a,), (b,)) for a, b in pairs),
        *((pair,) for pair in pairs),
    ]
    return max(noiseless_runs(search, flags, seeds, culprits, groups, needs=needs) for culprits in explanations)


def noiseless_runs(search, flags, seeds, culprits, groups=(), log_odds=6.0, needs=NO_NEEDS):
    """The runs of one search, one at a time, in which exactly the supersets of `culprits` are broken and every run says
    so with these log odds. search: Question -> Answer, as Search.answer. needs: as in Question.
    """
    runs = {}
    while True:
        judged = runs.get((), 0) >= seeds
        table = {subset: _verdict(subset, number, culprits, log_odds) for subset, number in runs.items()}
        in_flight = tuple(subset for subset, number in runs.items() for _ in range(number))
        known = ({"metric": table}, ()) if judged else ({"metric": {}}, in_flight)
        answer = search(Question(flags, *known, slots=1, seeds=seeds, groups=groups, needs=needs))
        start = next(missing(answer.requests, runs), None)
        if start is None:
            return sum(runs.values())
        runs[start.subset] = start.index + 1


def _verdict(subset, runs, culprits, log_odds):
    if not subset:
        return Verdict(BASELINE, runs)
    broken = any(set(culprit) <= set(subset) for culprit in culprits)
    return Verdict(BROKEN if broken else FINE, runs, (log_odds if broken else -log_odds) * runs)
