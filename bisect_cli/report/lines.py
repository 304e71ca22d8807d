"""Progress as plain lines, for logs and pipes: one for every event that matters to a reader."""

import time

from bisect_cli.campaign import events
from bisect_cli.evidence import prior
from bisect_cli.report.findings import conclusion
from bisect_cli.report.numbers import count, duration, number, percent
from bisect_cli.report.words import (
    NOT_COMPLETED,
    gpu_words,
    metrics_of,
    odds_words,
    parity_lines,
    place_words,
    run_words,
    state_words,
    suspect_words,
    target_words,
    verdict_lines,
)
from bisect_cli.search import find

LONG = 60.0  # seconds in a queue that are worth a word


class Lines:
    """A listener of the recorder that hands each line to `write`."""

    def __init__(self, write):
        self.write = write
        self.findings = {}  # metric -> what was last said of it

    def __call__(self, event, state, analysis):
        if event is None:
            return
        line = describe(event, state, analysis)
        if line:
            self.write(line)
        for metric, plan in analysis.plans.items():
            finding = _finding(plan, state.settings.spec.label)
            if finding and self.findings.get(metric) != finding:
                self.findings[metric] = finding
                self.write(f"{metric}: {finding}")


def describe(event, state, analysis):
    """One event as a line, parity as a few, or None. analysis: None before there is any."""
    words = _WORDS.get(type(event))
    return words(event, state, analysis) if words else None


def _opened(event, state, _):
    limit = "no limit on runs" if event.max_runs is None else f"at most {event.max_runs} runs"
    slots = "any number" if event.slots is None else event.slots
    return f"campaign {state.settings.name}: {', '.join(state.settings.flags)}; {slots} at once, {limit}"


def _closed(event, state, _):
    return f"campaign {state.settings.name}: {event.state}{': ' + event.reason if event.reason else ''}"


def _fingerprint(event, state, _):
    """What a change of what runs are computed with means for those there are."""
    if not event.changed:
        return None
    ended = [trial for trial in state.trials.values() if trial.ended]
    stale = [trial for trial in ended if state.stale(trial)]
    what = f"{' and '.join(event.changed)} {'has' if len(event.changed) == 1 else 'have'} changed since the last run"
    if not stale:
        return f"{what}: no run so far depends on it" if ended else what
    weight = "they count no more"
    if find(state.settings.search).uses_prior_evidence:
        weight = f"they say little now (at most {prior.MOST_ODDS}:1 a set)"
    return (
        f"{what}: {len(stale)} of {count(len(ended), 'run')} are stale; {weight}, and what is needed is trained again"
    )


def _flags_added(event, *_):
    return f"flags are now {', '.join(event.flags)}; the runs so far still count, and the baseline runs once more"


def _launcher_changed(event, *_):
    options = ", ".join(f"{name} {_listed(value)}" for name, value in event.options.items())
    return f"runs are now started by launcher {event.launcher}{f', with {options}' if options else ''}"


def _listed(value):
    return " ".join(value) if isinstance(value, list) else value


def _prior_evidence(event, state, _):
    """How much a source says, or None where nobody needs to know."""
    used = [row for row in event.rows if prior.concerns(state.settings, tuple(row[0]), row[1])]
    uses = find(state.settings.search).uses_prior_evidence
    if not uses or (not used and event.source.startswith("campaign")):
        return None
    verdicts = count(len(used), "verdict") if used else "no verdict"
    rest = len(event.rows) - len(used)
    left_out = f"; {rest} left out, of the baseline, other flags or other metrics" if rest else ""
    return f"{event.source}: {verdicts} as prior evidence (at most {prior.MOST_ODDS}:1 a set){left_out}"


def _started(event, state, _):
    trial = state.trials[event.trial]
    again = f", attempt {trial.attempts}" if trial.attempts > 1 else ""
    node = f" to node {trial.node}" if trial.node else ""
    how = f"handed out{node}" if trial.slot is None else f"started in slot {trial.slot}{_on_gpus(trial)}"
    how = f"queued as job {event.ticket['job']}" if "job" in event.ticket else how
    return f"{_name(state, trial)}: {how}{again}"


def _on_gpus(trial):
    return f" on {gpu_words(trial.gpus)}" if trial.gpus else ""


def _imported(event, state, _):
    trial = state.trials[event.trial]
    what = f"{_name(state, trial)}: imported from {trial.source}"
    metrics = map(state.settings.metric, state.settings.metrics)
    values = [f"{metric.name} {number(trial.value(metric.key), metric)}" for metric in metrics]
    return what if trial.state == "diverged" else f"{what}, {', '.join(values)}"


def _began(event, state, _):
    trial = state.trials[event.trial]
    waited = time.time() - (trial.started or time.time())
    after = f", after {duration(waited)} in the queue" if waited >= LONG else ""
    return f"{_name(state, trial)}: running on node {event.node}{after}"


def _stuck(event, state, _):
    remedy = "stop it, and resume it with another --launcher-option"
    return f"{_name(state, state.trials[event.trial])}: it will stay in the queue: {event.words}; {remedy}"


def _trouble(event, *_):
    if not event.words:
        return "the scheduler answers again"
    what = "the scheduler does not answer as it should, so nothing is decided of the runs; it is asked again"
    return f"{what}: {event.words}"


def _reattached(event, state, _):
    trial = state.trials[event.trial]
    if "job" in (trial.ticket or {}):
        return f"{_name(state, trial)}: job {trial.ticket['job']}, taken over"
    return f"{_name(state, trial)}: still running in slot {trial.slot}{_on_gpus(trial)}, taken over"


def _ended(event, state, analysis):
    trial = state.trials[event.trial]
    what = f"{_name(state, trial)}{f' on node {trial.node}' if trial.node else ''}"
    if event.outcome == "finished":
        values = ", ".join(_value(state, analysis, trial, metric) for metric in state.settings.metrics)
        stale = state.stale(trial)
        return f"{what}: finished, {values}{', stale: another ' + ' and '.join(stale) if stale else ''}"
    if event.outcome == "diverged":
        return f"{what}: diverged, which counts as broken"
    final = "; given up" if trial.state == "crashed" else ""
    return f"{what}: {event.outcome}{': ' + trial.reason if trial.reason else ''}{final}"


def _stopping(event, *_):
    lost = "what they did since they last saved is lost then"
    return f"asked {' '.join(event.runs)} to save and stop; another Ctrl-C kills them at once: {lost}"


def _undone(event, state, _):
    trial = state.trials[event.trial]
    now = {"running": "out again", "cancelled": "cancelled again"}.get(trial.state, "yet to be made")
    return f"{_name(state, trial)}: undone, it is {now}"


_WORDS = {
    events.Opened: _opened,
    events.Closed: _closed,
    events.Parity: lambda event, state, _: "\n".join(parity_lines(state.parity)),
    events.Fingerprint: _fingerprint,
    events.FlagsAdded: _flags_added,
    events.LauncherChanged: _launcher_changed,
    events.PriorEvidence: _prior_evidence,
    events.RunImported: _imported,
    events.Started: _started,
    events.Reattached: _reattached,
    events.Ended: _ended,
    events.Undone: _undone,
    events.Began: _began,
    events.Stuck: _stuck,
    events.Trouble: _trouble,
    events.Comparing: lambda *_: "parity: comparing the implementations of each flag; the runs start after it",
    events.Stopping: _stopping,
}


def _name(state, trial):
    return f"{trial.id} {state.settings.label(trial.flags)}, seed {trial.seed}"


def _value(state, analysis, trial, name):
    metric = state.settings.metric(name)
    if metric.key not in trial.metrics:
        return name
    text = f"{name} {number(trial.value(metric.key), metric)}"
    table = analysis.verdicts[name]
    if trial.flags not in table or not trial.flags or state.stale(trial):
        return text
    difference = trial.value(metric.key) - table[()].mean
    return f"{text} ({number(difference, metric, signed=True)}) {table[trial.flags].call}"


def _finding(plan, label):
    """What a search has found out, in words."""
    said = conclusion(plan)
    if said == "clean":
        return "nothing breaks"
    if said in ("culprits", "unresolved"):
        found = [f"{' + '.join(c.flags)} is a culprit, confidence {percent(c.confidence)}" for c in plan.culprits]
        found += [f"{label(u.flags)} is unresolved: {u.reason}" for u in plan.unresolved]
        return "; ".join(found)
    if plan.odds:
        return f"so far: {odds_words(plan.odds)}" if plan.suspects else ""
    parts = [suspect_words(part, held, label) for part, held in plan.suspects]
    return f"narrowed to {' and '.join(parts)}" if parts else ""


def plain(summary):
    """A whole summary as plain lines: a line for each run, in the tree's order, then the culprits and the result in
    words.
    """
    target = target_words(summary)
    yield f"campaign {summary['name']}: {state_words(summary)}{', ' + target if target else ''}"
    yield from parity_lines(summary["parity"])
    trials, metrics = {trial["id"]: trial for trial in summary["trials"]}, metrics_of(summary)
    for row in summary["subsets"]:
        for name in row["trials"]:
            trial = trials[name]
            indent = "  " * (row["depth"] + 1)
            words = _trial_words(summary, metrics, row, trial)
            yield f"{indent}{name} {row['label']}, seed {trial['seed']}: {words}"
    for metric in summary["metrics"]:
        for culprit in summary["culprits"][metric]:
            sure, runs = percent(culprit["confidence"]), " ".join(culprit["trials"])
            yield f"culprit of {metric}: {' + '.join(culprit['flags'])}, confidence {sure}, runs {runs}"
    yield from verdict_lines(summary)
    yield from (f"note: {note}" for note in summary["notes"])


def _trial_words(summary, metrics, row, trial):
    words = [run_words(summary, trial)] if trial["state"] != "queued" else [place_words(trial)]
    if trial["state"] == "running":
        words.append(place_words(trial))
    if trial["steps"] and not trial["stopped_early"]:  # its reason says where
        words.append(f"step {trial['step']} of {trial['steps']}")
    if trial["seconds_left"] is not None:
        words.append(f"{trial['seconds_left']:.0f} s left")
    for name, metric in metrics.items():
        value, mean = trial["metrics"].get(metric.key), summary["baseline"][name]["mean"]
        if value is not None:
            compared = mean is not None and not trial["stale"]
            difference = f" ({number(value - mean, metric, signed=True)})" if compared else ""
            words.append(f"{name} {number(value, metric)}{difference}")
        call = "baseline" if trial["stale"] else row["evidence"].get(name, {}).get("call", "baseline")
        if call != "baseline":
            words[-1] = f"{words[-1]} {call}" if value is not None else f"{words[-1]}, {name} {call}"
    if trial["reason"] and run_words(summary, trial) != NOT_COMPLETED:
        words.append(trial["reason"])
    if trial["attempts"] > 1:
        on = f" on {', '.join(trial['attempt_nodes'])}" if len(trial["attempt_nodes"]) > 1 else ""
        words.append(f"{trial['attempts']} attempts{on}")
    if trial["source"]:
        words.append(f"from {trial['source']}")
    if trial["stale"]:
        words.append(f"stale ({', '.join(trial['stale'])})")
    return ", ".join(words)
