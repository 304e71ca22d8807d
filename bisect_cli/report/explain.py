"""Why a verdict or a culprit was named, in plain words and numbers, and what would change it."""

import math

from bisect_cli.analysis import runs_to_judge, values_of
from bisect_cli.evidence import judge
from bisect_cli.report.numbers import number, percent
from bisect_cli.search import find

SHOWN = 4  # explanations, and verdicts that matter most


def explain_trial(state, analysis, trial):
    """Lines about the verdicts on a trial's set of flags."""
    label = state.settings.label(trial.flags)
    yield f"{trial.id}: {label}, seed {trial.seed}, {trial.state}"
    if trial.why:
        yield f"  it was run because: {trial.why}"
    if trial.source:
        yield f"  it was imported from {trial.source}"
    stale = state.stale(trial)
    if stale:
        yield f"  it is stale, as {' and '.join(stale)} differs from now; the verdicts below are not on it"
    for metric, table in analysis.verdicts.items():
        yield ""
        if () not in table:
            yield f"{metric}: no verdict before all {state.settings.seeds} runs of the baseline have ended."
            continue
        yield from _baseline(state, analysis, metric)
        if not trial.flags:
            continue
        verdict = table.get(trial.flags)
        if verdict is None:
            yield f"  {label}: no run of it has ended yet."
        else:
            yield from _verdict(state, analysis, metric, trial.flags, verdict)


def explain_campaign(state, analysis):
    """Lines about what each metric's result, or its search so far, rests on."""
    for metric, plan in analysis.plans.items():
        table = analysis.verdicts[metric]
        yield f"{metric}:"
        if () not in table:
            yield f"  nothing is known before all {state.settings.seeds} runs of the baseline have ended."
            continue
        yield from _baseline(state, analysis, metric)
        show = _Shown(state.settings, metric)
        yield from _result(show, plan, table)
        if plan.note:
            yield f"  note: {plan.note}"
        yield from _prior_evidence(state.settings, analysis.prior_evidence[metric])
        if plan.beliefs:
            yield "  explanations, and how likely each is given all verdicts:"
            for belief in plan.beliefs[:SHOWN]:
                yield f"    {percent(belief.probability)} {_belief(belief)}"
            yield from _against(show, plan, table)


class _Shown:
    """How subsets and verdicts of a metric are written."""

    def __init__(self, settings, metric):
        self.settings, self.metric = settings, settings.metric(metric)

    def __call__(self, subset, verdict):
        return f"{self.settings.label(subset)}: {self._numbers(verdict)}"

    def _numbers(self, verdict):
        runs = "1 run" if verdict.runs == 1 else f"{verdict.runs} runs"
        if verdict.call == judge.CRASHED:
            return f"{verdict.call}, {runs}"
        away = "" if verdict.difference is None else f", {number(verdict.difference, self.metric, signed=True)}"
        return f"{verdict.call}, {runs}{away}, {_odds(verdict.log_odds)}"


def _baseline(state, analysis, name):
    base, measured, metric = analysis.verdicts[name][()], analysis.yardsticks[name], state.settings.metric(name)
    finite = [value for value in values_of(state, (), name)[0].values() if math.isfinite(value)]
    smallest, looked_for = measured.smallest_drop(finite), measured.smallest_drop(finite, base.largest_drop)
    changes = "drops" if metric.higher_is_better else "rises"
    beside = ", a tenth of the largest seen" if looked_for > smallest else ""
    yield (
        f"  {name} of the baseline: {' '.join(number(value, metric) for value in finite)} (mean "
        f"{number(base.mean, metric)}); seeds are taken to differ by {number(measured.noise(finite), metric)}, and "
        f"{changes} of {number(looked_for, metric)} and more are looked for{beside}."
    )


def _verdict(state, analysis, name, flags, verdict):
    metric = state.settings.metric(name)
    values, crashed = values_of(state, flags, name)
    if verdict.call == judge.CRASHED:
        yield f"  {crashed} runs crashed and gave no {name}: that is no evidence; a run that ends would be."
        return
    reference, _ = values_of(state, (), name)
    runs = [f"{number(v, metric)}{_same_seed(reference, seed, metric)}" for seed, v in values.items()]
    away = "" if verdict.difference is None else number(verdict.difference, metric, signed=True)
    difference = f", {away} to the baseline" if away else ""
    yield f"  {name} of its runs: {', '.join(runs) or 'none finished'}{difference}."
    for trial in state.trials_of(flags):
        if trial.early:
            there = trial.early["metrics"][name]
            yield (
                f"  {trial.id} was stopped early, at step {trial.early['step']} of {trial.early['steps']}, with {name} "
                f"{number(there['value'], metric)} where the baseline has {number(there['baseline'], metric)}: "
                f"{_odds(there['log_odds']) if there['log_odds'] else 'no evidence'} (docs/early-stopping.md)."
            )
    needs = f"a verdict needs {judge.VERDICT_ODDS} times"
    yield f"  That is {_odds(verdict.log_odds)}, so it is {verdict.call} ({needs})."
    mean = analysis.verdicts[name][()].mean
    for value in dict.fromkeys(one for one in (mean, verdict.mean) if one is not None):
        then = _again(state, analysis, name, flags, value)
        shown = number(value, metric)
        yield f"  One more run with {name} {shown} would make it {then.call} ({_odds(then.log_odds)})."


def _same_seed(reference, seed, metric):
    """What the baseline's run of the same seed, which is likely to be alike, came to."""
    return f" (seed {seed}; the baseline's {number(reference[seed], metric)})" if seed in reference else ""


def _again(state, analysis, name, flags, value):
    """The verdict on a set, had one more run of it ended with this value."""
    measured = analysis.yardsticks[name]
    values, crashed, early = runs_to_judge(state, name, measured)
    values[flags] = {**values[flags], next(state.free_seeds(flags)): value}
    reference, _ = values_of(state, (), name)
    return measured.judge_all(reference, values, crashed, early, state.settings.targets.get(name))[flags]


def _result(show, plan, table):
    whole, label = show.settings.flags, show.settings.label
    for culprit in plan.culprits:
        yield f"  {' + '.join(culprit.flags)} breaks it, with probability {percent(culprit.confidence)}. That rests on:"
        for subset in culprit.evidence:
            yield f"    {show(subset, table[subset])}"
    if plan.clean is not None:
        yield f"  nothing breaks it, with probability {percent(plan.clean)}, given all runs. The whole set by itself:"
        yield f"    {show(whole, table[whole])}"
    for one in plan.unresolved:
        yield f"  {label(one.flags)} is unresolved: {one.reason}."
    if not plan.done:
        yield "  the search goes on; next: " + ", ".join(
            f"{label(request.flags)} ({request.why})" for request in plan.requests[:SHOWN]
        )


def _against(show, plan, table):
    """The verdicts that the likeliest explanation does not agree with, and what separates it from the next."""
    culprits = plan.beliefs[0].culprits
    for subset, verdict in table.items():
        if subset and verdict.call in (judge.FINE, judge.BROKEN):
            says = judge.BROKEN if _holds(culprits, subset) else judge.FINE
            if verdict.call != says:
                yield f"    against the first: {show(subset, verdict)}"
    if len(plan.beliefs) > 1:
        other = plan.beliefs[1].culprits
        apart = [s for s in table if s and _holds(culprits, s) != _holds(other, s) and table[s].call != judge.CRASHED]
        apart.sort(key=lambda subset: -abs(table[subset].log_odds))
        if apart:
            yield "  what separates the first two, and would turn them over if it came out otherwise:"
        for subset in apart[:SHOWN]:
            yield f"    {show(subset, table[subset])}"
        if not apart:
            yield "  no run separates the first two yet."


def _holds(culprits, subset):
    return any(set(one) <= set(subset) for one in culprits)


def _prior_evidence(settings, table):
    """What stale runs, other campaigns and journals say."""
    if table:
        used = "counts as weak evidence" if find(settings.search).uses_prior_evidence else "counts for nothing"
        yield f"  prior evidence of stale runs, other campaigns and journals, which {used}:"
        for subset, log_odds in table.items():
            yield f"    {settings.label(subset)}: {_odds(log_odds)}"


def _belief(belief):
    if not belief.culprits:
        return "nothing breaks"
    return ", and ".join(" together with ".join(one) for one in belief.culprits)


def _odds(log_odds):
    """Odds in words."""
    times = math.exp(min(abs(log_odds), 20))
    words = f"{times:.1f}" if times < 10 else f"{times:.0f}" if times < 1e6 else "over a million"
    return f"{words} times likelier {'broken' if log_odds > 0 else 'fine'} than {'fine' if log_odds > 0 else 'broken'}"
