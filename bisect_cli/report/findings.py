"""What the analysis of a campaign adds to its summary, as plain JSON values. To make them takes the whole arithmetic;
to show them takes none, so they are kept beside the log (`kept`).
"""

import dataclasses

from bisect_cli.campaign import subsets
from bisect_cli.campaign.state import CRASHED
from bisect_cli.report.numbers import number

WANTS_MORE = "more runs are wanted than when it had finished, as where its log has lost some"


def key_of(flags):
    """A subset as the key of a JSON object."""
    return ",".join(flags)


def conclusion(plan):
    """What the search says about a metric: `clean`, `culprits`, `unresolved` or `searching`."""
    if not plan.done:
        return "searching"
    if plan.unresolved:
        return "unresolved"
    return "culprits" if plan.culprits else "clean"


def find(state, analysis):
    """The findings on a State by its Analysis.

    conclusion, prior_evidence, results: as in docs/status-json.md; results has several keys of that. evidence: {metric:
    {key_of a subset: numbers of its verdict}}. queries: {key_of a subset: [the subset that it was split off, or None;
    why]}. search_notes, baseline_notes: sentences. wants_nothing: whether no run is left to make.
    """
    settings = state.settings
    return {
        "conclusion": {metric: conclusion(analysis.plans[metric]) for metric in settings.metrics},
        "prior_evidence": _prior_evidence(settings, analysis),
        "results": _results(state, analysis),
        "evidence": {
            metric: {key_of(flags): _numbers(verdict) for flags, verdict in table.items() if verdict.call}
            for metric, table in analysis.verdicts.items()
        },
        "queries": _queries(analysis),
        "search_notes": list(_search_notes(state, analysis)),
        "baseline_notes": list(_baseline_notes(state, analysis)),
        "wants_nothing": analysis.wants_nothing,
    }


def as_it_stands(state, found):
    """A State, given its findings: one that was closed as finished and wants more runs is open, and says why."""
    if state.state != "finished" or found["wants_nothing"]:
        return state
    return dataclasses.replace(state, state="open", reason=WANTS_MORE)


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


def _culprit(state, culprit):
    trials = [t for flags in culprit.evidence for t in state.trials_of(flags) if t.ended and t.state != CRASHED]
    return {
        "flags": list(culprit.flags),
        "confidence": culprit.confidence,
        "trials": sorted(t.id for t in trials),
        "needed": list(culprit.needed),
    }


def _prior_evidence(settings, analysis):
    return {
        metric: [
            {"flags": list(flags), "label": settings.label(flags), "log_odds": log_odds}
            for flags, log_odds in table.items()
        ]
        for metric, table in analysis.prior_evidence.items()
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


def _queries(analysis):
    """The first Query of each subset, of those that say something."""
    queries = {}
    for plan in analysis.plans.values():
        for one in plan.queries:
            queries.setdefault(one.flags, one)
    return {
        key_of(flags): [None if one.parent is None else list(one.parent), one.why]
        for flags, one in queries.items()
        if one.parent is not None or one.why
    }


def _search_notes(state, analysis):
    for metric, plan in analysis.plans.items():
        if plan.note:
            yield f"{metric}: {plan.note}"
        for culprit in plan.culprits:
            hidden = subsets.hidden_by(culprit.flags, state.settings.needs, state.settings.flags)
            if hidden:
                named = " + ".join(culprit.flags)
                yield f"{metric}: nothing is known of {', '.join(hidden)}, which can be on only where {named} is"


def _baseline_notes(state, analysis):
    for metric in analysis.insensitive_metrics:
        change = "drop" if state.settings.metric(metric).higher_is_better else "rise"
        yield f"the baseline's {metric} is too close to the worst for a {change} to show: train for longer"
    for metric, target in analysis.missed_targets.items():
        declared = state.settings.metric(metric)
        mean = number(analysis.verdicts[metric][()].mean, declared)
        yield (
            f"the baseline itself does not reach its target of {metric}, {mean} instead of "
            f"{number(target, declared)}: something other than the flags is wrong"
        )
