"""Progress as plain lines, for logs and pipes: one for every event that matters to a reader."""

from bisect_cli.campaign import subsets as sets
from bisect_cli.campaign.state import metric_key
from bisect_cli.evidence import prior as hearsay
from bisect_cli.evidence.prior import WEAK
from bisect_cli.report.summary import conclusion, odds_words, parity_lines, percent, target_words, verdict_lines


class Lines:
    """A listener of the controller that hands each line to `write`."""

    def __init__(self, write):
        self.write = write
        self.told = {}

    def __call__(self, event, controller):
        if event is None:
            return
        line = describe(event, controller.state, controller.analysis)
        if line:
            self.write(line)
        for metric, plan in controller.analysis.plans.items():
            said = _search(plan)
            if said and self.told.get(metric) != said:
                self.told[metric] = said
                self.write(f"{metric}: {said}")


def describe(event, state, analysis):
    """One event as a line, parity as a few, or None."""
    kind = event["kind"]
    if kind == "opened":
        left = "no limit on runs" if event["max_runs"] is None else f"at most {event['max_runs']} runs"
        return f"campaign {state.settings.name}: {', '.join(state.settings.flags)}; {event['slots']} at once, {left}"
    if kind == "closed":
        return f"campaign {state.settings.name}: {event['state']}{': ' + event['reason'] if event['reason'] else ''}"
    if kind == "stopping":
        return f"asked {' '.join(event['runs'])} to save and stop; another Ctrl-C kills at once"
    if kind == "comparing":
        return "parity: comparing the two forms of each flag; the runs start after it"
    if kind == "parity":
        return "\n".join(parity_lines(state.parity))
    if kind == "keyed":
        return changed_words(state, event["changed"]) if event["changed"] else None
    if kind == "widened":
        flags = ", ".join(event["flags"])
        return f"flags are now {flags}; the runs so far still count, and the baseline runs once more"
    if kind == "heard":
        return heard_words(state, event)
    if kind not in ("started", "adopted", "ended", "taken"):
        return None
    trial = state.trials[event["trial"]]
    what = f"{trial.id} {sets.label(trial.flags, state.settings.flags)}, seed {trial.seed}"
    if kind == "started":
        again = f", attempt {trial.attempts}" if trial.attempts > 1 else ""
        return f"{what}: started in slot {trial.slot}{again}"
    if kind == "taken":
        what = f"{what}: taken over from {trial.source}"
        return what if trial.state == "diverged" else f"{what}, {_plain_metrics(state, trial)}"
    if kind == "adopted":
        return f"{what}: still running in slot {trial.slot}, taken over"
    if event["outcome"] == "finished":
        values = ", ".join(_metric(state, analysis, trial, metric) for metric in state.settings.metrics)
        stale = state.stale(trial)
        return f"{what}: finished, {values}{', stale: another ' + ' and '.join(stale) if stale else ''}"
    if event["outcome"] == "diverged":
        return f"{what}: diverged, which counts as broken"
    final = "; given up" if trial.state == "crashed" else ""
    return f"{what}: {event['outcome']}{': ' + trial.reason if trial.reason else ''}{final}"


def changed_words(state, changed):
    """What a change of what runs are computed with means for those there are."""
    stale = [trial for trial in state.trials.values() if trial.ended and state.stale(trial)]
    counted = len([trial for trial in state.trials.values() if trial.ended])
    what = f"{' and '.join(changed)} {'has' if len(changed) == 1 else 'have'} changed since the last run"
    if not stale:
        return f"{what}: no run so far depends on it" if counted else what
    little = (
        f"they say little now (at most {WEAK}:1 a set)" if state.settings.search == "bayes" else "they count no more"
    )
    return f"{what}: {len(stale)} of {_runs(counted)} are stale; {little}, and what is needed is trained again"


def heard_words(state, event):
    """How much hearsay a source has, or None where nobody needs to know."""
    settings = state.settings
    told = [row for row in event["rows"] if hearsay.concerns(settings, tuple(row[0]), row[1])]
    if settings.search != "bayes" or not told and event["source"].startswith("campaign"):
        return None
    verdicts = {0: "no verdict", 1: "1 verdict"}.get(len(told), f"{len(told)} verdicts")
    rest = len(event["rows"]) - len(told)
    left_out = f"; {rest} left out, of the baseline, other flags or other metrics" if rest else ""
    return f"{event['source']}: {verdicts} heard, weak evidence (at most {WEAK}:1 a set){left_out}"


def _runs(number):
    return "1 run" if number == 1 else f"{number} runs"


def _plain_metrics(state, trial):
    return ", ".join(f"{metric} {number(trial.value(metric))}" for metric in state.settings.metrics)


def number(value, signed=False):
    """A metric as people write AP: .712; with a sign, a difference."""
    if value is None:
        return "-"
    return f"{value:+.3f}".replace("0.", ".", 1) if signed else f"{value:.3f}".replace("0.", ".", 1)


def _metric(state, analysis, trial, metric):
    text = f"{metric} {number(trial.metrics[metric_key(metric)])}" if metric_key(metric) in trial.metrics else metric
    table = analysis.verdicts[metric]
    if trial.flags not in table or not trial.flags or state.stale(trial):
        return text
    difference = trial.value(metric) - table[()].mean
    return f"{text} ({number(difference, signed=True)}) {table[trial.flags].call}"


def _search(plan):
    """What a search has found out, in words."""
    said = conclusion(plan)
    if said == "clean":
        return "nothing breaks"
    if said in ("culprits", "unresolved"):
        found = [f"{' + '.join(c.flags)} is a culprit, confidence {percent(c.confidence)}" for c in plan.culprits]
        found += [f"{sets.label(u.flags)} is unresolved: {u.reason}" for u in plan.unresolved]
        return "; ".join(found)
    if plan.odds:
        return f"so far: {odds_words(plan.odds)}" if plan.suspects else ""
    parts = [sets.label(part) + (f" (with {sets.label(held)} on)" if held else "") for part, held in plan.suspects]
    return f"narrowed to {' and '.join(parts)}" if parts else ""


def plain(summary):
    """A whole summary as plain lines: a line for each run, in the tree's order, then the culprits and the result in
    words.
    """
    target = target_words(summary)
    yield f"campaign {summary['name']}: {summary['state']}{', ' + target if target else ''}"
    yield from parity_lines(summary["parity"])
    trials = {trial["id"]: trial for trial in summary["trials"]}
    for row in summary["subsets"]:
        for name in row["trials"]:
            trial = trials[name]
            indent = "  " * (row["depth"] + 1)
            yield f"{indent}{name} {row['label']}, seed {trial['seed']}: {_trial_words(summary, row, trial)}"
    for metric in summary["metrics"]:
        for culprit in summary["culprits"][metric]:
            sure, runs = percent(culprit["confidence"]), " ".join(culprit["trials"])
            yield f"culprit of {metric}: {' + '.join(culprit['flags'])}, confidence {sure}, runs {runs}"
    yield from verdict_lines(summary)
    yield from (f"note: {note}" for note in summary["notes"])


def _trial_words(summary, row, trial):
    words = [trial["state"]]
    if trial["state"] == "running":
        words.append(f"slot {trial['slot']}")
    if trial["steps"] and not trial["stopped_early"]:  # its reason says where
        words.append(f"step {trial['step']} of {trial['steps']}")
    if trial["seconds_left"] is not None:
        words.append(f"{trial['seconds_left']:.0f} s left")
    for metric in summary["metrics"]:
        value, mean = trial["metrics"].get(metric_key(metric)), summary["baseline"][metric]["mean"]
        if value is not None:
            difference = f" ({number(value - mean, signed=True)})" if mean is not None and not trial["stale"] else ""
            words.append(f"{metric} {number(value)}{difference}")
        call = "baseline" if trial["stale"] else row["evidence"].get(metric, {}).get("call", "baseline")
        if call != "baseline":
            words[-1] = f"{words[-1]} {call}" if value is not None else f"{words[-1]}, {metric} {call}"
    if trial["reason"]:
        words.append(trial["reason"])
    if trial["source"]:
        words.append(f"from {trial['source']}")
    if trial["stale"]:
        words.append(f"stale ({', '.join(trial['stale'])})")
    return ", ".join(words)
