"""Why a verdict or a culprit was named, in plain words and numbers, and what would change it."""

import math

from bisect_cli.analysis import of_all, outcomes
from bisect_cli.campaign import subsets as sets
from bisect_cli.evidence import judge
from bisect_cli.report.lines import number
from bisect_cli.report.summary import percent

SHOWN = 4  # explanations, and verdicts that matter most


def of_trial(state, analysis, trial):
    """Lines about the verdicts on a trial's set of flags."""
    label = sets.label(trial.flags, state.settings.flags)
    yield f"{trial.id}: {label}, seed {trial.seed}, {trial.state}"
    if trial.why:
        yield f"  it was run because: {trial.why}"
    if trial.source:
        yield f"  it was taken over from {trial.source}"
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


def of_campaign(state, analysis):
    """Lines about what each metric's result, or its search so far, rests on."""
    for metric, plan in analysis.plans.items():
        table = analysis.verdicts[metric]
        yield f"{metric}:"
        if () not in table:
            yield f"  nothing is known before all {state.settings.seeds} runs of the baseline have ended."
            continue
        yield from _baseline(state, analysis, metric)
        yield from _result(state, plan, table)
        if plan.note:
            yield f"  note: {plan.note}"
        yield from _hearsay(state, analysis.hearsay[metric])
        if plan.beliefs:
            yield "  explanations, and how likely each is given all verdicts:"
            for belief in plan.beliefs[:SHOWN]:
                yield f"    {percent(belief.probability)} {_belief(belief)}"
            yield from _against(state, plan, table)


def _baseline(state, analysis, metric):
    base, scale = analysis.verdicts[metric][()], analysis.scales[metric]
    values, _ = outcomes(state, (), metric)
    finite = [value for value in values.values() if math.isfinite(value)]
    shown = " ".join(number(value) for value in finite)
    smallest = judge.smallest_drop(finite, scale)
    looked_for = judge.smallest_drop(finite, scale.given(base.largest_drop))
    beside = ", a tenth of the largest seen" if looked_for > smallest else ""
    yield (
        f"  {metric} of the baseline: {shown} (mean {number(base.mean)}); seeds are taken to differ by "
        f"{number(judge.noise(finite, scale))}, and drops of {number(looked_for)} and more are looked for{beside}."
    )


def _verdict(state, analysis, metric, flags, verdict):
    values, crashed = outcomes(state, flags, metric)
    if verdict.call == judge.CRASHED:
        yield f"  {crashed} runs crashed and gave no {metric}: that is no evidence; a run that ends would be."
        return
    reference, _ = outcomes(state, (), metric)
    shown = ", ".join(f"{_value(value)}{_twin(reference, seed)}" for seed, value in values.items()) or "none finished"
    difference = "" if verdict.difference is None else f", {number(verdict.difference, signed=True)} to the baseline"
    yield f"  {metric} of its runs: {shown}{difference}."
    for trial in state.of(flags):
        if trial.early:
            there = trial.early["metrics"][metric]
            yield (
                f"  {trial.id} was stopped early, at step {trial.early['step']} of {trial.early['steps']}, with "
                f"{metric} {number(there['value'])} where the baseline has {number(there['baseline'])}: "
                f"{_times(there['log_odds']) if there['log_odds'] else 'no evidence'} (docs/early-stopping.md)."
            )
    yield f"  That is {_times(verdict.log_odds)}, so it is {verdict.call} (a verdict needs {judge.VERDICT_ODDS} times)."
    mean = analysis.verdicts[metric][()].mean
    more = [value for value in (mean, verdict.mean) if value is not None]
    for value in dict.fromkeys(more):
        then = _again(state, analysis, metric, flags, value)
        yield f"  One more run with {metric} {number(value)} would make it {then.call} ({_times(then.log_odds)})."


def _twin(reference, seed):
    """What the baseline's run of the same seed, which is likely to be alike, came to."""
    return f" (seed {seed}; the baseline's {_value(reference[seed])})" if seed in reference else ""


def _value(value):
    return "NaN" if math.isnan(value) else number(value)


def _again(state, analysis, metric, flags, value):
    """The verdict on a set, had one more run of it ended with this value."""
    values, crashed, early = of_all(state, metric)
    values[flags] = {**values[flags], next(state.free_seeds(flags)): value}
    reference, _ = outcomes(state, (), metric)
    target = state.settings.targets.get(metric)
    return judge.judge_all(reference, values, crashed, early, target, analysis.scales[metric])[flags]


def _result(state, plan, table):
    whole = state.settings.flags
    for culprit in plan.culprits:
        yield f"  {' + '.join(culprit.flags)} breaks it, with probability {percent(culprit.confidence)}. That rests on:"
        for subset in culprit.evidence:
            yield f"    {sets.label(subset, whole)}: {_told(table[subset])}"
    if plan.clean is not None:
        yield f"  nothing breaks it, with probability {percent(plan.clean)}: {_told(table[whole])}"
    for one in plan.unresolved:
        yield f"  {sets.label(one.flags, whole)} is unresolved: {one.reason}."
    if not plan.done:
        yield "  the search goes on; next: " + ", ".join(
            f"{sets.label(want.flags, whole)} ({want.why})" for want in plan.wanted[:SHOWN]
        )


def _against(state, plan, table):
    """The verdicts that the likeliest explanation does not agree with, and what separates it from the next."""
    whole, culprits = state.settings.flags, plan.beliefs[0].culprits
    for subset, verdict in table.items():
        if subset and verdict.call in (judge.FINE, judge.BROKEN):
            says = judge.BROKEN if _holds(culprits, subset) else judge.FINE
            if verdict.call != says:
                yield f"    against the first: {sets.label(subset, whole)}: {_told(verdict)}"
    if len(plan.beliefs) > 1:
        other = plan.beliefs[1].culprits
        apart = [s for s in table if s and _holds(culprits, s) != _holds(other, s) and table[s].call != judge.CRASHED]
        apart.sort(key=lambda subset: -abs(table[subset].log_odds))
        if apart:
            yield "  what tells the first two apart, and would turn them over if it came out otherwise:"
        for subset in apart[:SHOWN]:
            yield f"    {sets.label(subset, whole)}: {_told(table[subset])}"
        if not apart:
            yield "  no run tells the first two apart yet."


def _holds(culprits, subset):
    return any(set(one) <= set(subset) for one in culprits)


def _hearsay(state, told):
    """What is known from stale runs, other campaigns and journals."""
    if told:
        heard = "is heard, too, as weak evidence" if state.settings.search == "bayes" else "is not heard"
        yield f"  of stale runs, other campaigns and journals this {heard}:"
        for subset, log_odds in told.items():
            yield f"    {sets.label(subset, state.settings.flags)}: {_times(log_odds)}"


def _belief(belief):
    if not belief.culprits:
        return "nothing breaks"
    return ", and ".join(" together with ".join(one) for one in belief.culprits)


def _told(verdict):
    runs = "1 run" if verdict.runs == 1 else f"{verdict.runs} runs"
    if verdict.call == judge.CRASHED:
        return f"{verdict.call}, {runs}"
    away = "" if verdict.difference is None else f", {number(verdict.difference, signed=True)}"
    return f"{verdict.call}, {runs}{away}, {_times(verdict.log_odds)}"


def _times(log_odds):
    """Odds in words."""
    times = math.exp(min(abs(log_odds), 20))
    words = f"{times:.1f}" if times < 10 else f"{times:.0f}" if times < 1e6 else "over a million"
    return f"{words} times likelier {'broken' if log_odds > 0 else 'fine'} than {'fine' if log_odds > 0 else 'broken'}"
