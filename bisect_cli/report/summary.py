"""A campaign as plain JSON values, documented in docs/status-json.md: the one account that all reports draw from."""

import math
import time
from pathlib import Path

from bisect_cli import launchers
from bisect_cli.analysis import analyse
from bisect_cli.campaign import subsets
from bisect_cli.campaign.state import CRASHED
from bisect_cli.report.nodes import notes_of_nodes
from bisect_cli.report.numbers import number
from bisect_cli.storage import lease, store
from bisect_cli.trainers import trainer_of

VERSION = 1


def summarize_folder(folder):
    """The summary of the campaign in `folder` as its files tell it now, None if its log holds no settings."""
    state, notes = store.load(folder)
    return summarize(folder, state, analyse(state), notes) if state.settings else None


def summarize(folder, state, analysis, notes=()):
    """The JSON of a campaign from its State and Analysis; reads how far the runs in flight are from their folders.
    folder: None of a campaign that has none.
    """
    settings = state.settings
    live = lease.live_state(folder, state)
    return {
        "version": VERSION,
        "name": settings.name,
        "state": live,
        "reason": state.reason,
        "conclusion": {metric: conclusion(analysis.plans[metric]) for metric in settings.metrics},
        "resume": _resume(folder, state, live),
        "folder": folder and str(Path(folder).resolve()),
        "flags": list(settings.flags),
        "metrics": list(settings.metrics),
        "settings": {**settings.spec.options, **settings.to_json()},
        "spec": settings.spec.to_json(),
        "slots": state.slots,
        "max_runs": state.max_runs,
        "parity": state.parity,
        "baseline": {
            "trials": [trial.id for trial in state.trials_of(())],
            **{metric: _baseline(state, metric) for metric in settings.metrics},
        },
        "prior_evidence": _prior_evidence(settings, analysis),
        "hearsay": _prior_evidence(settings, analysis),  # the former name of the same
        "trials": [_trial(folder, state, analysis, trial, live == "running") for trial in state.trials.values()],
        "subsets": _tree(state, analysis),
        **_results(state, analysis),
        "notes": [*notes, *_notes(state, analysis)],
    }


def _resume(folder, state, live):
    """The command that goes on with a campaign, None if there is none."""
    by_hand = launchers.find(state.settings.launcher).by_hand
    if folder is None or live == "finished":
        return None
    if by_hand:
        return store.command_line("ask", folder) if state.state == "open" or "budget" in state.reason else None
    return None if live == "running" else store.resume_command(folder)


def _results(state, analysis):
    """What the search says so far, key by key and metric by metric."""
    found = {
        "culprits": lambda plan: [_culprit(state, culprit) for culprit in plan.culprits],
        "clean": lambda plan: plan.clean,
        "suspects": lambda plan: [{"flags": list(part), "with": list(held)} for part, held in plan.suspects],
        "unresolved": lambda plan: [{"flags": list(one.flags), "reason": one.reason} for one in plan.unresolved],
        "explanations": lambda plan: [
            {"culprits": [list(one) for one in belief.culprits], "probability": belief.probability}
            for belief in plan.beliefs
        ],
        "odds": lambda plan: dict(plan.odds),
    }
    return {key: {metric: value(plan) for metric, plan in analysis.plans.items()} for key, value in found.items()}


def conclusion(plan):
    """What the search says about a metric: `clean`, `culprits`, `unresolved` or `searching`."""
    if not plan.done:
        return "searching"
    if plan.unresolved:
        return "unresolved"
    return "culprits" if plan.culprits else "clean"


def _notes(state, analysis):
    """What a reader should know, in sentences."""
    for metric, plan in analysis.plans.items():
        if plan.note:
            yield f"{metric}: {plan.note}"
        for culprit in plan.culprits:
            hidden = subsets.hidden_by(culprit.flags, state.settings.needs, state.settings.flags)
            if hidden:
                named = " + ".join(culprit.flags)
                yield f"{metric}: nothing is known of {', '.join(hidden)}, which can be on only where {named} is"
    yield from notes_of_nodes(state, time.time())
    for metric in analysis.insensitive_metrics:
        yield f"the baseline's {metric} is too close to the worst for a drop to show: train for longer"
    for metric, target in analysis.missed_targets.items():
        declared = state.settings.metric(metric)
        mean = number(analysis.verdicts[metric][()].mean, declared)
        yield (
            f"the baseline itself does not reach its target of {metric}, {mean} instead of "
            f"{number(target, declared)}: something other than the flags is wrong"
        )


def _prior_evidence(settings, analysis):
    return {
        metric: [
            {"flags": list(flags), "label": settings.label(flags), "log_odds": log_odds}
            for flags, log_odds in table.items()
        ]
        for metric, table in analysis.prior_evidence.items()
    }


def _baseline(state, metric):
    key = state.settings.metric(metric).key
    values = [trial.value(key) for trial in state.trials_of(()) if key in trial.metrics]
    mean = sum(values) / len(values) if values else None
    sd = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else None
    return {"mean": mean, "sd": sd, "runs": len(values), "target": state.settings.targets.get(metric)}


def _trial(folder, state, analysis, trial, controlled):
    home = folder and store.trial_folder(folder, trial.id)
    far = None if trial.ended or not home else trainer_of(state.settings).progress(state.settings, home)
    running = trial.state == "running" and controlled
    queued, node, began = _where(home, state, trial)
    verdicts = {metric: analysis.verdicts[metric].get(trial.flags) for metric in state.settings.metrics}
    return {
        "id": trial.id,
        "flags": list(trial.flags),
        "seed": trial.seed,
        "state": trial.state if trial.state != "running" else "interrupted" if not controlled else queued or "running",
        "slot": trial.slot if running else None,
        "node": node or None,
        "started": trial.started,
        "began": began,
        "attempts": trial.attempts,
        "step": far.step if far else trial.early and trial.early["step"],
        "steps": far.steps if far else trial.early and trial.early["steps"],
        "seconds_left": far.seconds_left if far and running else None,
        "wall": trial.wall,
        "metrics": dict(trial.metrics),
        "verdict": {m: verdict.call for m, verdict in verdicts.items() if verdict and not state.stale(trial)},
        "stopped_early": trial.early and trial.early["metrics"],
        "reason": trial.reason,
        "stale": list(state.stale(trial)),
        "source": trial.source,
        "folder": home and str(home),
    }


def _where(home, state, trial):
    """("queued" of a run that has not begun, else "", its node, when it began)."""
    if not home or trial.state != "running" or not launchers.find(state.settings.launcher).queues:
        return "", trial.node, trial.started if trial.state == "running" else None
    claim = launchers.read_claim(home / f"attempt-{trial.attempts}")
    return "queued" if claim is None else "", (claim or {}).get("node", ""), (claim or {}).get("started")


def _numbers(verdict):
    return {
        "call": verdict.call,
        "runs": verdict.runs,
        "mean": verdict.mean,
        "sd": verdict.sd,
        "difference": verdict.difference,
        "diverged": verdict.diverged,
        "log_odds": verdict.log_odds,
        "probability_broken": verdict.broken,
    }


def _culprit(state, culprit):
    trials = [t for flags in culprit.evidence for t in state.trials_of(flags) if t.ended and t.state != CRASHED]
    return {
        "flags": list(culprit.flags),
        "confidence": culprit.confidence,
        "trials": sorted(t.id for t in trials),
        "needed": list(culprit.needed),
    }


def _tree(state, analysis):
    """Every subset tried, in the order of a tree: each below the one that it was split off, with its depth."""
    tried = list(dict.fromkeys(trial.flags for trial in state.trials.values()))
    queries = {}
    for plan in analysis.plans.values():
        for one in plan.queries:
            queries.setdefault(one.flags, one)
    children = {}
    for flags in tried:
        children.setdefault(_parent(flags, tried, queries), []).append(flags)

    def walk(flags, depth):
        yield flags, depth
        for child in children.get(flags, []):
            yield from walk(child, depth + 1)

    rows = [row for root in children.get(None, []) for row in walk(root, 0)]
    return [
        {
            "flags": list(flags),
            "label": state.settings.label(flags),
            "depth": depth,
            "why": _why(state, flags, queries),
            "trials": [trial.id for trial in (*state.trials_of(flags), *state.trials_of(flags, stale=True))],
            "evidence": {
                metric: _numbers(table[flags])
                for metric, table in analysis.verdicts.items()
                if flags in table and table[flags].call
            },
        }
        for flags, depth in rows
    ]


def _why(state, flags, queries):
    """Why the search looks at a subset, else why it queries for its first run."""
    said = queries[flags].why if flags in queries else ""
    first = (*state.trials_of(flags), *state.trials_of(flags, stale=True))[0]
    return said or first.why or ("an earlier split" if flags else "baseline")


def _parent(flags, tried, queries):
    """The subset that this one was split off, as the search says, else the smallest one tried that holds it."""
    if not flags:
        return None
    if flags in queries and queries[flags].parent in tried:
        return queries[flags].parent
    holders = [other for other in tried if set(flags) < set(other)]
    return min(holders, key=len) if holders else None
