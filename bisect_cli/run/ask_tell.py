"""Ask and tell: what happens to a campaign whose runs people start. The commands and `Bisection` share it.

A run is out from when it is handed out until somebody says how it ended; to the search it is in flight. So nothing is
handed out twice. All goes through a Recorder, which logs it and judges anew.
"""

import dataclasses
import itertools
import math

from bisect_cli.analysis import analyse
from bisect_cli.campaign.events import Closed, Ended, Started, Undone
from bisect_cli.campaign.spec import LARGEST
from bisect_cli.campaign.state import CANCELLED, CRASHED, DIVERGED, FINISHED, RUNNING
from bisect_cli.errors import UserError
from bisect_cli.run.schedule import attempt_of, ending, next_runs
from bisect_cli.storage.store import find_trial

NO_MATTER = "it could no longer matter"


def next_to_ask(state, count=1):
    """The NextRuns that would be handed out if so many were asked for; fewer, if no more are worth it now."""
    free = count if state.slots is None else min(count, state.slots - len(state.running))
    if state.state != "open" or free < 1:
        return []
    roomy = dataclasses.replace(state, slots=len(state.in_flight) + free)
    requests = analyse(roomy).requests or analyse(state).requests
    runs = itertools.islice(next_runs(state, requests, state.max_runs), free)
    return [run._replace(why=(run.trial and run.trial.why) or run.why) for run in runs]


def hand_out(recorder, count, prepare):
    """Hands out up to `count` runs; returns their Trials. prepare: a function of a NextRun, its id and the number of
    the attempt, which makes what the run needs and returns its ticket and its command.
    """
    handed_out = []
    for run in next_to_ask(recorder.state, count):
        name, attempt = attempt_of(recorder.state, run)
        ticket, argv = prepare(run, name, attempt)
        recorder.record(Started(name, run.flags, run.seed, attempt, None, ticket, argv, run.why))
        handed_out.append(recorder.state.trials[name])
    return handed_out


def settle(recorder):
    """Lets go of the runs out that can no longer matter, and notes the campaign's end if it has come. The Analysis of
    the recorder has to be that of its State.
    """
    state, analysis = recorder.state, recorder.analysis
    over = ending(state, analysis, state.max_runs)
    for trial in state.running:
        if over or trial.flags in analysis.cancel or state.stale(trial):
            recorder.record(Ended(trial.id, CANCELLED, trial.attempts, reason=NO_MATTER))
    state = recorder.state
    over = ending(state, recorder.analysis, state.max_runs)
    if over and state.state == "open":
        recorder.record(Closed(*over))


def find_out(state, name):
    """The Trial of this id, which somebody has been handed. One that was let go counts as well if it ends after all.
    Raises UserError for another.
    """
    trial = find_trial(state, name)
    if trial.ended:
        raise UserError(f"{name} has ended already ({trial.state}): undo that first (--undo).")
    if trial.state not in (RUNNING, CANCELLED):
        raise UserError(f"{name} is not out, but waits to be asked for.")
    return trial


def finish(recorder, name, values, node=None):
    """Notes the end of a run. values: {metric: number}, by names or keys; one that is no finite number says that the
    run diverged. Raises UserError if they are not what the campaign needs.
    """
    trial = find_out(recorder.state, name)
    metrics = check_values(recorder.settings, name, values)
    end(recorder, trial, FINISHED if metrics else DIVERGED, metrics=metrics or {}, node=node)


def diverge(recorder, name, node=None):
    """Notes that a run diverged, which is a result."""
    end(recorder, find_out(recorder.state, name), DIVERGED, node=node)


def crash(recorder, name, reason="", node=None):
    """Notes that a run ended without a result. It is handed out again, three times in all."""
    end(recorder, find_out(recorder.state, name), CRASHED, reason=reason, node=node)


def end(recorder, trial, outcome, **more):
    """Notes the end of a Trial that is out, and what follows. more: fields of Ended."""
    recorder.record(Ended(trial.id, outcome, trial.attempts, **{k: v for k, v in more.items() if v is not None}))
    settle(recorder)


def undo(recorder, name):
    """Takes back what was said of a run's end, or that it was imported. Raises UserError if there is nothing to take
    back.
    """
    trial = find_trial(recorder.state, name)
    if trial.state in (RUNNING, CANCELLED) or not (trial.before or trial.source):
        raise UserError(f"{name} has not ended, so there is nothing to undo.")
    recorder.record(Undone(name))
    settle(recorder)


def check_values(settings, name, values):
    """{metric: number} as {key: float}, None if one is no finite number: the run diverged. Raises UserError for what is
    no metric, no number, out of the metric's range, said twice, or missing.
    """
    metrics = {}
    for text, value in values.items():
        metric = settings.metric(text)
        if metric.key in metrics:
            raise UserError(f"{name}: {metric.name} is there twice.")
        metrics[metric.key] = _number(name, metric, value)
    for metric in map(settings.metric, settings.metrics):
        if metric.key not in metrics:
            raise UserError(f"{name}: {metric.name} is missing; what is needed is {', '.join(settings.metrics)}.")
    return metrics if all(map(math.isfinite, metrics.values())) else None


def _number(name, metric, value):
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{name}: {metric.name}={str(value)[:40]} is no number.") from None
    if math.isfinite(number) and abs(number) > LARGEST:
        raise UserError(f"{name}: {metric.explain_refusal(number)}.")
    low, high = (-math.inf if metric.low is None else metric.low), (math.inf if metric.high is None else metric.high)
    if math.isfinite(number) and not low <= number <= high:
        raise UserError(f"{name}: {metric.name}={number:g} is outside of its range, {low:g} to {high:g}.")
    return number
