"""What a campaign comes to, in words; drawn from its summary."""

import time

from bisect_cli.campaign.spec import Spec
from bisect_cli.report.numbers import count, duration, moment, number, percent

NOT_COMPLETED = "not completed"
NO_PARITY = "the trainer has no parity command"  # as trainers.parity says it: nothing to speak of


def metrics_of(summary):
    """{name: spec.Metric} of a summary's metrics."""
    spec = Spec.from_json(summary["spec"])
    return {name: spec.metric(name) for name in summary["metrics"]}


def verdict_lines(summary):
    """The result in plain sentences: for each metric, and for how the campaign stands unless it has simply finished."""
    lines = [line for metric in summary["metrics"] for line in _result_lines(summary, metric)]
    if any(one == "clean" for one in summary["conclusion"].values()) and _undecided(summary):
        lines.append(
            "A result rests on all runs together; a subset marked undecided has too few runs of its own for a verdict "
            "by itself."
        )
    if summary["state"] in ("interrupted", "inconclusive", "failed"):
        if summary["under_way"]:
            return [*lines, f"{state_words(summary).capitalize()}. Take them over with: {summary['resume']}"]
        reason = f" ({summary['reason']})" if summary["reason"] else ""
        budget = " --max-runs N" if summary["max_runs"] and "budget" in summary["reason"] else ""
        resume = f" Resume it with: {summary['resume']}{budget}" if summary["resume"] else ""
        lines.append(f"{summary['state'].capitalize()}{reason}.{resume}")
    return lines


def state_words(summary):
    """How a campaign, of a summary or a headline, stands: with what goes on where nobody runs it."""
    if not summary["under_way"]:
        return summary["state"]
    counts = ", ".join(f"{number} {where}" for where, number in summary["under_way"].items() if number)
    return f"interrupted, but its runs go on: {counts}"


def headline_words(one):
    """How a campaign of a headline stands, and whether its log was damaged."""
    return state_words(one) + (", its log was damaged" if one["damaged"] else "")


def _result_lines(summary, metric):
    label = Spec.from_json(summary["spec"]).label
    said, found = summary["conclusion"][metric], summary["culprits"][metric]
    if summary["state"] == "failed":
        yield f"{metric}: no result."
    elif found:
        named = [f"{' + '.join(one['flags'])} ({_confidence(one)})" for one in found]
        yield f"{metric}: {' and '.join(named)} {'breaks it' if len(found) == 1 else 'each break it'}."
    elif said == "clean":
        sure = f" (confidence {percent(summary['clean'][metric])})" if summary["clean"][metric] is not None else ""
        yield f"{metric}: nothing breaks{sure}; {label(tuple(summary['flags']))} trains as well as the baseline."
    elif said == "searching":
        yield f"{metric}: not known yet{_so_far(summary, metric, label)}."
    if summary["unresolved"][metric] and said != "searching":
        sets = [f"{label(tuple(one['flags']))}: {one['reason']}" for one in summary["unresolved"][metric]]
        yield f"{metric}: could not be resolved: {'; '.join(sets)}."


def _confidence(culprit):
    ran_with = f"; it ran with {', '.join(culprit['needed'])}, which it needs" if culprit["needed"] else ""
    return f"confidence {percent(culprit['confidence'])}{ran_with}"


def _so_far(summary, metric, label):
    suspects = summary["suspects"][metric]
    if not suspects:
        return ""
    if summary["odds"][metric]:
        return f"; so far: {odds_words(summary['odds'][metric])}"
    return f"; narrowed to {' and '.join(suspect_words(one['flags'], one['with'], label) for one in suspects)}"


def _undecided(summary):
    """Whether a metric without a culprit has subsets that are undecided."""
    return any(
        summary["conclusion"][metric] == "clean" and numbers["call"] == "undecided"
        for row in summary["subsets"]
        for metric, numbers in row["evidence"].items()
    )


def suspect_words(part, held, label):
    """A set under examination, with what is on beside it."""
    return label(tuple(part)) + (f" (with {label(tuple(held))} on)" if held else "")


def run_words(summary, trial):
    """The state of a run in a word: one that waited for its next attempt when the campaign ended waits no more."""
    over = summary["state"] in ("finished", "inconclusive", "failed")
    return NOT_COMPLETED if trial["state"] == "waiting" and over else trial["state"]


def place_words(trial):
    """Where a run of a summary is under way, and, where somebody else has started it, since when."""
    if trial["slot"] is not None and trial["node"] and trial["began"]:
        return f"node {trial['node']} for {duration(max(0, time.time() - trial['began']))}"
    if trial["state"] == "queued":
        return f"queued for {duration(max(0, time.time() - (trial['started'] or 0)))}"
    if trial["slot"] is not None:
        return f"slot {trial['slot']}{', ' + gpu_words(trial['gpus']) if trial['gpus'] else ''}"
    since = f" since {moment(trial['started'])}" if trial["started"] else ""
    return f"{'node ' + trial['node'] if trial['node'] else 'out'}{since}"


def gpu_words(gpus):
    """The names of GPUs in words: GPU 0, or GPUs 0,1; an id by its beginning."""
    names = ",".join(name if name.isdigit() else name[:12] for name in gpus)
    return names if "-" in names else f"GPU{'s' if len(gpus) > 1 else ''} {names}"


def target_words(summary):
    """The targets in words, "" where there is none."""
    targets = {metric: summary["baseline"][metric]["target"] for metric in summary["metrics"]}
    metrics = metrics_of(summary)
    said = [f"{name} {number(value, metrics[name])}" for name, value in targets.items() if value is not None]
    return f"target {', '.join(said)}" if said else ""


def parity_lines(digest):
    """What parity found, as parity.digest says, and what it is used for; no line before there is any."""
    if not digest or digest["reason"] == NO_PARITY:
        return []
    if digest["reason"]:
        return [f"parity: not known ({digest['reason']}); flags are tried in the trainer's order"]
    differ, placebos, agree = (len(digest[key]) for key in ("differ", "same_computation", "agree"))
    counts = [count(differ, "differs", "differ")]
    counts += [count(placebos, "placebo")] * (placebos > 0)
    counts += [count(agree, "agrees", "agree")] * (agree > 0)
    whole = count(differ + placebos + agree, "flag")
    lines = [f"parity: {whole} compared in {digest['seconds']:.0f} s: {', '.join(counts)}"]
    for place, one in enumerate(digest["differ"]):
        size = f", error {one['error']:.2g}" if one["error"] is not None else ""
        chance = f", p {one['p_value']:.2g}" if one["p_value"] is not None else ""
        order = "tried next" if place else "tried first"
        lines.append(f"  {one['flag']} differs, so it is {order}: {one['worst']}{size}{chance}")
    if placebos:
        flags = ", ".join(digest["same_computation"])
        lines.append(f"  {flags}: the same computation on or off (placebo), tried last")
    return lines


def verdict_words(summary):
    """The result in as few words as a list has room for."""
    words = []
    for metric in summary["metrics"]:
        found = " and ".join("+".join(one["flags"]) for one in summary["culprits"][metric])
        said = summary["conclusion"][metric]
        words.append(f"{metric}: {found or {'clean': 'nothing breaks', 'searching': 'not known yet'}.get(said, said)}")
    return "; ".join(words)


def odds_words(odds, most=3):
    """The flags that most likely take part in a culprit, in words."""
    likely = sorted(odds, key=lambda flag: -round(odds[flag], 2))[:most]  # of equal ones the first of the campaign
    return ", ".join(f"{flag} {odds[flag]:.0%}" for flag in likely)
