"""A campaign as plain JSON values, documented in docs/status-json.md: the one account that all reports draw from."""

import math
import time
from pathlib import Path

from bisect_cli import launchers
from bisect_cli.report import findings as finding
from bisect_cli.report import kept
from bisect_cli.report.findings import key_of
from bisect_cli.report.nodes import notes_of_nodes
from bisect_cli.storage import lease, store
from bisect_cli.trainers import trainer_of

VERSION = 1


def summarize_folder(folder):
    """The summary of the campaign in `folder` as its files tell it now. Raises UserError if its log holds no settings
    or makes no sense.
    """
    contents = store.read(folder)
    store.check_begun(folder, contents.state)
    with store.reading(folder):
        return _summary(folder, contents.state, kept.findings(folder, contents), contents.notes)


def summarize(folder, state, analysis, notes=()):
    """The JSON of a campaign from its State and Analysis; reads how far the runs in flight are from their folders.
    folder: None of a campaign that has none.
    """
    return _summary(folder, state, finding.find(state, analysis), notes)


def _summary(folder, state, findings, notes):
    state, settings = finding.as_it_stands(state, findings), state.settings
    live = lease.live_state(folder, state)
    trials = _trials(folder, state, findings["evidence"], live == "running")
    return {
        "version": VERSION,
        "name": settings.name,
        "state": live,
        "reason": state.reason,
        "conclusion": findings["conclusion"],
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
        "prior_evidence": findings["prior_evidence"],
        "hearsay": findings["prior_evidence"],  # the former name of the same
        "trials": trials,
        "under_way": _under_way(trials) if live == "interrupted" else None,
        "subsets": _tree(state, findings),
        **findings["results"],
        "damaged": bool(notes),
        "notes": [
            *notes,
            *findings["search_notes"],
            *notes_of_nodes(state, time.time()),
            *findings["baseline_notes"],
        ],
    }


def _resume(folder, state, live):
    """The command that goes on with a campaign, None if there is none."""
    by_hand = launchers.find(state.settings.launcher).by_hand
    if folder is None or live == "finished":
        return None
    if by_hand:
        return store.command_line("ask", folder) if state.state == "open" or "budget" in state.reason else None
    return None if live == "running" else store.resume_command(folder)


def _baseline(state, metric):
    key = state.settings.metric(metric).key
    values = [trial.value(key) for trial in state.trials_of(()) if key in trial.metrics]
    mean = sum(values) / len(values) if values else None
    sd = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else None
    return {"mean": mean, "sd": sd, "runs": len(values), "target": state.settings.targets.get(metric)}


def _trials(folder, state, evidence, controlled):
    """All trials. evidence: as in the findings. controlled: whether somebody runs the campaign."""
    verdicts = {
        flags: {metric: table[key_of(flags)]["call"] for metric, table in evidence.items() if key_of(flags) in table}
        for flags in state.subsets
    }
    nodes = {}
    for use in state.node_uses:
        nodes.setdefault(use.trial, []).append(use.node)
    return [
        {**_trial(folder, state, trial, verdicts[trial.flags], controlled), "attempt_nodes": nodes.get(trial.id, [])}
        for trial in state.trials.values()
    ]


def _trial(folder, state, trial, verdict, controlled):
    home = store.trial_folder(folder, trial.id) if folder and not trial.ended else None
    far = None if not home else trainer_of(state.settings).progress(state.settings, home)
    running = trial.state == "running" and controlled
    where, node, began = _where(home, state, trial)
    stale = state.stale(trial)
    return {
        "id": trial.id,
        "flags": list(trial.flags),
        "seed": trial.seed,
        "state": _state_of(state, trial, where, controlled),
        "slot": trial.slot if running else None,
        "node": node or None,
        "gpus": list(trial.gpus),
        "started": trial.started,
        "began": began,
        "attempts": trial.attempts,
        "step": far.step if far else trial.early and trial.early["step"],
        "steps": far.steps if far else trial.early and trial.early["steps"],
        "seconds_left": far.seconds_left if far and running else None,
        "wall": trial.wall,
        "metrics": dict(trial.metrics),
        "verdict": {} if stale else dict(verdict),
        "stopped_early": trial.early and trial.early["metrics"],
        "reason": trial.reason,
        "stale": list(stale),
        "source": trial.source,
        "folder": folder and f"{folder}/trials/{trial.id}",
    }


def _where(home, state, trial):
    """("queued", "running" or "ended" of a run under way, as its folder says; its node; when it began)."""
    if not home or trial.state != "running" or not _queues(state):
        return "running", trial.node, trial.started if trial.state == "running" else None
    attempt = home / f"attempt-{trial.attempts}"
    claim = launchers.read_claim(attempt)
    where = "queued" if claim is None else "ended" if launchers.read_exit(attempt) else "running"
    return where, (claim or {}).get("node", ""), (claim or {}).get("started")


def _queues(state):
    """Whether a scheduler has the runs, which go on whether or not somebody runs the campaign."""
    return launchers.find(state.settings.launcher).queues


def _state_of(state, trial, where, controlled):
    """The state of a trial in a word."""
    if trial.state != "running":
        return trial.state
    if controlled:
        return "queued" if where == "queued" else "running"
    return where if _queues(state) and where != "ended" else "interrupted"


def _under_way(trials):
    """How many runs go on although nobody runs the campaign, None if there are none."""
    counts = {where: sum(trial["state"] == where for trial in trials) for where in ("queued", "running")}
    return counts if any(counts.values()) else None


def _tree(state, findings):
    """Every subset tried, in the order of a tree: each below the one that it was split off, with its depth."""
    children = {}
    for flags, parent in _parents(state, findings["queries"]).items():
        children.setdefault(parent, []).append(flags)

    def walk(flags, depth):
        yield flags, depth
        for child in children.get(flags, []):
            yield from walk(child, depth + 1)

    rows = [row for root in children.get(None, []) for row in walk(root, 0)]
    return [_row(state, findings, flags, depth) for flags, depth in rows]


def _row(state, findings, flags, depth):
    key, trials = key_of(flags), (*state.trials_of(flags), *state.trials_of(flags, stale=True))
    said = findings["queries"].get(key, (None, ""))[1]
    return {
        "flags": list(flags),
        "label": state.settings.label(flags),
        "depth": depth,
        # why the search looks at it, else why it asked for its first run
        "why": said or trials[0].why or ("an earlier split" if flags else "baseline"),
        "trials": [trial.id for trial in trials],
        "evidence": {metric: table[key] for metric, table in findings["evidence"].items() if key in table},
    }


def _parents(state, queries):
    """{subset: the one that it was split off} of every subset tried: as the search says, else the smallest one tried
    that holds it, None if there is none.
    """
    tried = dict.fromkeys(state.subsets)
    bits = {flag: 1 << number for number, flag in enumerate({flag: None for flags in tried for flag in flags})}
    holders = sorted(((sum(bits[flag] for flag in flags), flags) for flags in tried), key=lambda one: len(one[1]))
    found = {}
    for number, (mine, flags) in enumerate(holders):
        said = queries.get(key_of(flags), (None, ""))[0]
        if not flags:
            found[flags] = None
        elif said is not None and tuple(said) in tried:
            found[flags] = tuple(said)
        else:
            above = (one for whole, one in holders[number + 1 :] if whole & mine == mine and len(one) > len(flags))
            found[flags] = next(above, None)
    return {flags: found[flags] for flags in tried}
