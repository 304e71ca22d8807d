"""What the trials of a campaign say: verdicts on every subset tried and the search's plan, per metric. Pure."""

from functools import partial
from typing import NamedTuple

from bisect_cli.campaign.state import CRASHED, STOPPED_EARLY
from bisect_cli.errors import UserError
from bisect_cli.evidence import curves, judge, prior, yardstick
from bisect_cli.search import NO_ORDER, Order, Question, find


class Analysis(NamedTuple):
    """All numbers are in the metrics' own units.

    verdicts: {metric: {flags: Verdict}}, empty until the baseline is complete. plans: {metric: Plan}. requests: the
    runs that all metrics together want, most urgent first, as RunRequests. cancel: subsets of runs in flight that can
    no longer matter. relevance: {subset in flight: {metric: Relevance}}. failure: why nothing can be concluded at all,
    or "". missed_targets: {metric: target} that the baseline itself misses. yardsticks: {metric: Yardstick}.
    prior_evidence: {metric: {subset: log odds}}, as in Question.
    """

    verdicts: dict
    plans: dict
    requests: tuple
    cancel: tuple
    relevance: dict
    failure: str
    missed_targets: dict
    yardsticks: dict
    prior_evidence: dict

    @property
    def insensitive_metrics(self):
        """Those whose baseline is so close to the worst that no drop worth naming can be seen."""
        return [
            metric
            for metric, table in self.verdicts.items()
            if () in table and not self.yardsticks[metric].sees_drops_from(table[()].mean)
        ]

    @property
    def wants_nothing(self):
        """Whether no run is left to make: the search has ended."""
        return not self.failure and not self.requests

    @property
    def unresolved(self):
        return any(plan.unresolved for plan in self.plans.values())


def analyse(state, memory=None):
    """The Analysis of a campaign's State. memory: {metric: judge.Memory} of what was worked out for earlier States of
    it, which is brought up to date; it saves time and changes nothing else.
    """
    settings = state.settings
    yardsticks = {metric: measure(settings, metric, baseline_values(state, metric)) for metric in settings.metrics}
    verdicts, failure, missed = _judge(state, yardsticks, {} if memory is None else memory)
    evidence = _prior_evidence(state)
    answer = find(settings.search).answer(_question(state, verdicts, evidence))
    return Analysis(
        verdicts,
        answer.plans,
        answer.requests,
        answer.cancel,
        answer.relevance,
        failure,
        missed,
        yardsticks,
        evidence,
    )


def measure(settings, metric, baseline):
    """The Yardstick of a metric of a campaign, given the baseline's values."""
    return yardstick.measure(
        settings.metric(metric),
        baseline,
        noise=amount_for(settings.noise, metric),
        smallest_drop=amount_for(settings.smallest_drop, metric),
    )


def check_metrics(settings, trial):
    """Raises UserError if a finished trial lacks a metric that the campaign is about."""
    for metric in settings.metrics:
        if trial.metrics and settings.metric(metric).key not in trial.metrics:
            known = ", ".join(sorted(trial.metrics))
            raise UserError(
                f"metric '{metric}' is not in the results of {trial.id}: start another campaign with one of {known}."
            )


def values_of(state, flags, metric):
    """The metric of each run of a subset that ended, {seed: value} (NaN if diverged), and how many of them crashed; one
    that was stopped early is neither.
    """
    key = state.settings.metric(metric).key
    trials = [trial for trial in state.ended.get(flags, ()) if trial.state != STOPPED_EARLY]
    crashed = [trial for trial in trials if trial.state == CRASHED]
    return {trial.seed: trial.value(key) for trial in trials if trial.reports(key)}, len(crashed)


def baseline_values(state, metric):
    """The metric of each run of the baseline that ended."""
    return list(values_of(state, (), metric)[0].values())


def runs_to_judge(state, metric, measured):
    """What Yardstick.judge_all takes of the subsets with a run that ended: {subset: values}, {subset: how many crashed}
    and {subset: what those stopped early say}.
    """
    values, crashed, early = {}, {}, {}
    for flags in filter(None, state.ended):
        values[flags], crashed[flags] = values_of(state, flags, metric)
        stopped = [trial.early for trial in state.ended[flags] if trial.state == STOPPED_EARLY]
        early[flags] = [curves.early(one, metric, measured.unit) for one in stopped]
    return values, crashed, early


def _judge(state, yardsticks, memory):
    """The verdicts, the reason of a failure or "", and the targets missed by the baseline, as in Analysis."""
    settings = state.settings
    verdicts, failure, missed = {}, "", {}
    for metric, measured in yardsticks.items():
        table = verdicts[metric] = {}
        reference, crashed = values_of(state, (), metric)
        if len(reference) + crashed < settings.seeds:
            continue
        if judge.baseline(reference).mean is None:
            what = "diverged" if reference else f"crashed{_crash_reason(state)}"
            failure = f"the baseline, with all flags off, {what}: there is nothing to compare with"
            continue
        if not measured.known:
            more = ", or --seeds 2 or more" if len(reference) == 1 else ""
            failure = f"the baseline shows nothing of the noise of {metric}: give what is known of it by --noise{more}"
            continue
        target = settings.targets.get(metric)
        if target is not None and measured.falls_short(reference, target):
            missed[metric] = target
        runs, known = runs_to_judge(state, metric, measured), memory.setdefault(metric, judge.Memory())
        table.update(measured.judge_all(reference, *runs, target=target, memory=known))
        table[()] = table[()]._replace(runs=len(reference) + crashed)
    return verdicts, failure, missed


def _crash_reason(state):
    """Why the baseline crashed, in brackets, "" if nobody knows."""
    reasons = [trial.reason for trial in state.trials_of(()) if trial.state == CRASHED and trial.reason]
    return f" ({reasons[0]})" if reasons else ""


def _prior_evidence(state):
    """What a campaign was given, and its own stale runs."""
    stale = [trial for trial in state.trials.values() if state.stale(trial)]
    rows = [row for rows in state.prior_evidence.values() for row in rows]
    if stale:
        rows += prior.rows_of_runs(state.settings, partial(measure, state.settings), list(state.trials.values()), stale)
    return prior.weigh(rows, state.settings)


def _question(state, verdicts, evidence):
    """What the search of a campaign knows."""
    settings = state.settings
    judged = any(verdicts.values())
    out = state.in_flight
    unjudged = [] if judged else [trial for trial in state.current if trial.ended]
    return Question(
        settings.flags,
        verdicts,
        tuple(trial.flags for trial in (*unjudged, *out)),
        1 if state.slots is None else max(0, state.slots - len(out)),
        settings.seeds,
        parity_order(state.parity),
        settings.suspects,
        settings.trusts,
        evidence,
        settings.spec.blocks,
        settings.needs,
        settings.eager,
    )


def parity_order(digest):
    """The test order that parity speaks for; None speaks for none."""
    if not digest:
        return NO_ORDER
    return Order(tuple(piece["flag"] for piece in digest["differ"]), tuple(digest["same_computation"]))


def amount_for(said, metric):
    """What --noise or --smallest-drop say of a metric: `said` is a number for all metrics, or {metric: number}."""
    return said.get(metric) if isinstance(said, dict) else said
