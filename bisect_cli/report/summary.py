"""A campaign as plain JSON values, documented in docs/status-json.md."""

import math
import shlex
from pathlib import Path

from bisect_cli.analysis import analyse
from bisect_cli.campaign import subsets as sets
from bisect_cli.campaign.state import CRASHED, metric_key
from bisect_cli.storage import lease, store
from bisect_cli.trainers import runfiles as trainer

VERSION = 1
DEFAULT_RUNS = "runs"


def resume_command(folder):
    """The command that goes on with a campaign, as it can be pasted."""
    folder = Path(folder)
    elsewhere = [] if folder.parent.resolve() == Path(DEFAULT_RUNS).resolve() else ["--runs-dir", str(folder.parent)]
    return shlex.join(["maskrcnn-bisect", "resume", folder.name, *elsewhere])


def live_state(folder, state):
    """A campaign's state in one word, with a controller that died unmasked: `interrupted`."""
    if state.state not in ("open", "new"):
        return state.state
    held = lease.holder(folder)
    if held and held.alive is not False:
        return "running"
    return "interrupted" if state.state == "open" or state.settings else "new"


def of_folder(folder):
    """The summary of the campaign in `folder` as its files tell it now, None if its log holds no settings."""
    state, notes = store.load(folder)
    return summarize(folder, state, analyse(state), notes) if state.settings else None


def summarize(folder, state, analysis, notes=()):
    """The JSON of a campaign from its State and Analysis; reads how far the runs in flight are from their folders."""
    settings = state.settings
    told = live_state(folder, state)
    return {
        "version": VERSION,
        "name": settings.name,
        "state": told,
        "reason": state.reason,
        "conclusion": {metric: conclusion(analysis.plans[metric]) for metric in settings.metrics},
        "resume": None if told in ("finished", "running") else resume_command(folder),
        "folder": str(Path(folder).resolve()),
        "flags": list(settings.flags),
        "metrics": list(settings.metrics),
        "settings": settings.to_json(),
        "slots": state.slots,
        "max_runs": state.max_runs,
        "parity": state.parity,
        "baseline": {
            "trials": [trial.id for trial in state.of(())],
            **{metric: _baseline(state, metric) for metric in settings.metrics},
        },
        "hearsay": {
            metric: [
                {"flags": list(flags), "label": sets.label(flags, settings.flags), "log_odds": log_odds}
                for flags, log_odds in table.items()
            ]
            for metric, table in analysis.hearsay.items()
        },
        "trials": [_trial(folder, state, analysis, trial, told == "running") for trial in state.trials.values()],
        "subsets": _tree(state, analysis),
        "culprits": {
            metric: [_culprit(state, c) for c in analysis.plans[metric].culprits] for metric in settings.metrics
        },
        "suspects": {
            metric: [{"flags": list(part), "with": list(held)} for part, held in analysis.plans[metric].suspects]
            for metric in settings.metrics
        },
        "unresolved": {
            metric: [{"flags": list(u.flags), "reason": u.reason} for u in analysis.plans[metric].unresolved]
            for metric in settings.metrics
        },
        "explanations": {
            metric: [
                {"culprits": [list(one) for one in belief.culprits], "probability": belief.probability}
                for belief in analysis.plans[metric].beliefs
            ]
            for metric in settings.metrics
        },
        "odds": {metric: dict(analysis.plans[metric].odds) for metric in settings.metrics},
        "notes": [
            *notes,
            *(f"{metric}: {plan.note}" for metric, plan in analysis.plans.items() if plan.note),
            *(f"the baseline's {metric} is too low for a drop to show: train for longer" for metric in analysis.blind),
            *(
                f"the baseline itself does not reach its target of {metric}, {analysis.verdicts[metric][()].mean:.3f} "
                f"instead of {target:.3f}: something other than the flags is wrong"
                for metric, target in analysis.short.items()
            ),
        ],
    }


def conclusion(plan):
    """What the search says about a metric: `clean`, `culprits`, `unresolved` or `searching`."""
    if not plan.done:
        return "searching"
    if plan.unresolved:
        return "unresolved"
    return "culprits" if plan.culprits else "clean"


def verdict_lines(summary):
    """The result in plain sentences: one for each metric, and one for how the campaign stands where it has not simply
    finished.
    """
    lines = []
    for metric in summary["metrics"]:
        found = [
            f"{' + '.join(c['flags'])} (confidence {percent(c['confidence'])})" for c in summary["culprits"][metric]
        ]
        open_sets = [f"{sets.label(tuple(u['flags']))}: {u['reason']}" for u in summary["unresolved"][metric]]
        said = summary["conclusion"][metric]
        if summary["state"] == "failed":
            lines.append(f"{metric}: no result.")
        elif found:
            verb = "breaks it" if len(found) == 1 else "each break it"
            lines.append(f"{metric}: {' and '.join(found)} {verb}.")
        elif said == "clean":
            lines.append(
                f"{metric}: nothing breaks; {sets.label(tuple(summary['flags']))} trains as well as the baseline."
            )
        elif said == "searching":
            among = [_suspect(s) for s in summary["suspects"][metric]]
            narrowed = f"; narrowed to {' and '.join(among)}" if among else ""
            if summary["odds"][metric]:
                narrowed = f"; so far: {odds_words(summary['odds'][metric])}" if among else ""
            lines.append(f"{metric}: not known yet{narrowed}.")
        if open_sets and said != "searching":
            lines.append(f"{metric}: could not be resolved: {'; '.join(open_sets)}.")
    if summary["state"] in ("interrupted", "inconclusive", "failed"):
        reason = f" ({summary['reason']})" if summary["reason"] else ""
        lines.append(f"{summary['state'].capitalize()}{reason}. Go on with: {summary['resume']}{_budget_hint(summary)}")
    return lines


def target_words(summary):
    """The targets in words, "" where there is none."""
    targets = {metric: summary["baseline"][metric]["target"] for metric in summary["metrics"]}
    said = ", ".join(f"{metric} {target:.3f}" for metric, target in targets.items() if target is not None)
    return f"target {said}" if said else ""


def parity_lines(told):
    """What parity found, as parity.digest says, and what it is used for; no line before there is any."""
    if not told:
        return []
    if told["reason"]:
        return [f"parity: not known ({told['reason']}); flags are tried in the order of the model"]
    differ, placebos, agree = (len(told[key]) for key in ("differ", "same_computation", "agree"))
    counts = [f"{differ} {'differs' if differ == 1 else 'differ'}"]
    counts += [f"{placebos} {'placebo' if placebos == 1 else 'placebos'}"] * (placebos > 0)
    counts += [f"{agree} {'agrees' if agree == 1 else 'agree'}"] * (agree > 0)
    whole = differ + placebos + agree
    lines = [
        f"parity: {whole} {'flag' if whole == 1 else 'flags'} compared in {told['seconds']:.0f} s: {', '.join(counts)}"
    ]
    for place, one in enumerate(told["differ"]):
        size = f", error {one['error']:.2g}" if one["error"] is not None else ""
        chance = f", p {one['p_value']:.2g}" if one["p_value"] is not None else ""
        order = "tried next" if place else "tried first"
        lines.append(f"  {one['flag']} differs, so it is {order}: {one['worst']}{size}{chance}")
    if told["same_computation"]:
        lines.append(f"  {', '.join(told['same_computation'])}: the same computation on or off (placebo), tried last")
    return lines


def verdict_words(summary):
    """The result in as few words as a list has room for."""
    words = []
    for metric in summary["metrics"]:
        found = " and ".join("+".join(c["flags"]) for c in summary["culprits"][metric])
        said = summary["conclusion"][metric]
        words.append(f"{metric}: {found or {'clean': 'nothing breaks', 'searching': 'not known yet'}.get(said, said)}")
    return "; ".join(words)


def odds_words(odds, most=3):
    """The flags that most likely take part in a culprit, in words."""
    likely = sorted(odds, key=lambda flag: -odds[flag])[:most]
    return ", ".join(f"{flag} {odds[flag]:.0%}" for flag in likely)


def percent(probability):
    """A probability in percent that never rounds up to certainty."""
    return f"{min(math.floor(1000 * probability) / 10, 99.9):.1f}%"


def _budget_hint(summary):
    return " --max-runs N" if summary["max_runs"] and "budget" in summary["reason"] else ""


def _suspect(suspect):
    held = suspect["with"]
    return sets.label(tuple(suspect["flags"])) + (f" (with {sets.label(tuple(held))} on)" if held else "")


def _baseline(state, metric):
    values = [t.value(metric) for t in state.of(()) if t.metrics and metric_key(metric) in t.metrics]
    mean = sum(values) / len(values) if values else None
    sd = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else None
    return {"mean": mean, "sd": sd, "runs": len(values), "target": state.settings.targets.get(metric)}


def _trial(folder, state, analysis, trial, controlled):
    home = store.trial_folder(folder, trial.id)
    far = None if trial.ended else trainer.progress(home / "out")
    running = trial.state == "running" and controlled
    verdicts = {metric: analysis.verdicts[metric].get(trial.flags) for metric in state.settings.metrics}
    return {
        "id": trial.id,
        "flags": list(trial.flags),
        "seed": trial.seed,
        "state": trial.state if trial.state != "running" or controlled else "interrupted",
        "slot": trial.slot if running else None,
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
        "folder": str(home),
    }


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
    trials = [t for flags in culprit.evidence for t in state.of(flags) if t.ended and t.state != CRASHED]
    return {"flags": list(culprit.flags), "confidence": culprit.confidence, "trials": sorted(t.id for t in trials)}


def _tree(state, analysis):
    """Every subset tried, in the order of a tree: each below the one that it was split off, with its depth."""
    tried = list(dict.fromkeys(trial.flags for trial in state.trials.values()))
    asked = {}
    for plan in analysis.plans.values():
        for one in plan.asked:
            asked.setdefault(one.flags, one)
    children = {}
    for flags in tried:
        children.setdefault(_parent(flags, tried, asked), []).append(flags)

    def walk(flags, depth):
        yield flags, depth
        for child in children.get(flags, []):
            yield from walk(child, depth + 1)

    rows = [row for root in children.get(None, []) for row in walk(root, 0)]
    return [
        {
            "flags": list(flags),
            "label": sets.label(flags, state.settings.flags),
            "depth": depth,
            "why": _why(state, flags, asked),
            "trials": [trial.id for trial in (*state.of(flags), *state.of(flags, stale=True))],
            "evidence": {
                metric: _numbers(table[flags])
                for metric, table in analysis.verdicts.items()
                if flags in table and table[flags].call
            },
        }
        for flags, depth in rows
    ]


def _why(state, flags, asked):
    """Why the search looks at a subset, else why it asked for its first run."""
    said = asked[flags].why if flags in asked else ""
    first = (*state.of(flags), *state.of(flags, stale=True))[0]
    return said or first.why or ("an earlier split" if flags else "baseline")


def _parent(flags, tried, asked):
    """The subset that this one was split off, as the search says, else the smallest one tried that holds it."""
    if not flags:
        return None
    if flags in asked and asked[flags].parent in tried:
        return asked[flags].parent
    holders = [other for other in tried if set(flags) < set(other)]
    return min(holders, key=len) if holders else None
