"""What the trials of a campaign say: verdicts on every subset tried and the search's plan, per metric. Pure."""

from functools import partial
from typing import NamedTuple

from bisect_cli.campaign.state import CANCELLED, CRASHED, STOPPED_EARLY, metric_key
from bisect_cli.errors import UserError
from bisect_cli.evidence import curves, judge
from bisect_cli.evidence import prior as hearsay
from bisect_cli.search import Question, find
from bisect_cli.trainers import parity


class Analysis(NamedTuple):
    """verdicts: {metric: {flags: Verdict}}, empty until the baseline is complete. plans: {metric: Plan}.

    wanted: the runs that all metrics together want, most urgent first, as Wants. cancel: subsets of runs in flight that
    can no longer matter. stakes: {subset in flight: {metric: Stake}}. failure: why nothing can be concluded at all, or
    "". short: {metric: target} that the baseline itself misses. scales: {metric: the judge's Scale}. hearsay: {metric:
    {subset: log odds}} of old verdicts, as in Question.
    """

    verdicts: dict
    plans: dict
    wanted: tuple
    cancel: tuple
    stakes: dict
    failure: str
    short: dict
    scales: dict
    hearsay: dict

    @property
    def blind(self):
        """The metrics whose baseline is lower than the smallest drop worth naming: nothing can be seen to break."""
        return [
            metric
            for metric, table in self.verdicts.items()
            if () in table and table[()].mean < self.scales[metric].smallest_drop
        ]

    @property
    def unresolved(self):
        return any(plan.unresolved for plan in self.plans.values())


def analyse(state):
    """The Analysis of a campaign's State."""
    verdicts, failure, short = _verdicts(state)
    scales, heard = {metric: scale_of(state.settings, metric) for metric in state.settings.metrics}, _heard(state)
    answer = find(state.settings.search)(_question(state, verdicts, heard))
    return Analysis(verdicts, answer.plans, answer.wanted, answer.cancel, answer.stakes, failure, short, scales, heard)


def scale_of(settings, metric):
    """The judge's Scale for a metric of a campaign: what the settings say, else what belongs to the preset."""
    scale = judge.scale_of(settings.preset, metric)
    if settings.smallest_drop is not None:  # said by the user, it holds whatever else is lost
        scale = scale._replace(smallest_drop=settings.smallest_drop, beside=0.0)
    return scale if settings.noise is None else scale._replace(noise=settings.noise)


def _heard(state):
    """The hearsay of a campaign: what it was told, and its own stale runs."""
    stale = [trial for trial in state.trials.values() if state.stale(trial)]
    rows = [row for rows in state.heard.values() for row in rows]
    if stale:
        rows += hearsay.of_runs(state.settings, partial(scale_of, state.settings), list(state.trials.values()), stale)
    return hearsay.weighed(rows, state.settings)


def _question(state, verdicts, heard):
    """What the search of a campaign knows."""
    settings = state.settings
    judged = any(verdicts.values())
    out = [trial for trial in state.current if not trial.ended and trial.state != CANCELLED]
    unjudged = [] if judged else [trial for trial in state.current if trial.ended]
    return Question(
        settings.flags,
        verdicts,
        tuple(trial.flags for trial in (*unjudged, *out)),
        max(0, (state.slots or 1) - len(out)),
        settings.seeds,
        parity.lead(state.parity),
        settings.suspects,
        settings.trusts,
        heard,
    )


def _verdicts(state):
    """The verdicts, the reason of a failure or "", and the targets missed by the baseline, as in Analysis."""
    settings = state.settings
    verdicts, failure, short = {}, "", {}
    for metric in settings.metrics:
        table = verdicts[metric] = {}
        reference, crashed = outcomes(state, (), metric)
        if len(reference) + crashed < settings.seeds:
            continue
        if judge.baseline(reference).mean is None:
            what = "diverged" if reference else "crashed"
            failure = f"the baseline, with all flags off, {what}: there is nothing to compare with"
            continue
        target, scale = settings.targets.get(metric), scale_of(settings, metric)
        if target is not None and judge.falls_short(reference, target, scale):
            short[metric] = target
        table.update(judge.judge_all(reference, *of_all(state, metric), target=target, noise_prior=scale))
        table[()] = table[()]._replace(runs=len(reference) + crashed)
    return verdicts, failure, short


def check_metrics(settings, trial):
    """Raises UserError if a finished trial lacks a metric that the campaign is about."""
    for metric in settings.metrics:
        if trial.metrics and metric_key(metric) not in trial.metrics:
            known = ", ".join(sorted(trial.metrics))
            raise UserError(
                f"metric '{metric}' is not in the results of {trial.id}: start another campaign with one of {known}."
            )


def outcomes(state, flags, metric):
    """The metric of each run of a subset that ended, {seed: value} (NaN if diverged), and how many of them crashed; one
    that was stopped early is neither.
    """
    values, crashed = {}, 0
    for trial in state.of(flags):
        if trial.state == STOPPED_EARLY:
            continue
        if trial.state == CRASHED:
            crashed += 1
        elif trial.ended and (not trial.metrics or metric_key(metric) in trial.metrics):
            values[trial.seed] = trial.value(metric)
    return values, crashed


def of_all(state, metric):
    """What judge.judge_all takes of the subsets with a run that ended: {subset: values}, {subset: how many crashed} and
    {subset: what those stopped early say}.
    """
    values, crashed, early = {}, {}, {}
    for flags in dict.fromkeys(trial.flags for trial in state.current if trial.flags and trial.ended):
        values[flags], crashed[flags] = outcomes(state, flags, metric)
        stopped = [trial for trial in state.of(flags) if trial.state == STOPPED_EARLY]
        early[flags] = [curves.told(trial.early, metric) for trial in stopped]
    return values, crashed, early
