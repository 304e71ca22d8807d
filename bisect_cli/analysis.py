"""What the trials of a campaign say: verdicts on every subset tried and the search's plan, per metric. Pure."""

from typing import NamedTuple

from bisect_cli import hearsay, judge, parity
from bisect_cli.campaign import CANCELLED, CRASHED, STOPPED_EARLY, metric_key
from bisect_cli.search import Question, find
from maskrcnn.errors import UserError


class Analysis(NamedTuple):
    """verdicts: {metric: {flags: Verdict}}, empty until the baseline is complete. plans: {metric: Plan}.

    wanted: the runs that all metrics together want, most urgent first, as Wants. cancel: subsets of runs in flight that
    can no longer matter. stakes: {subset in flight: {metric: Stake}}. failure: why nothing can be concluded at all, or
    "". short: {metric: target} that the baseline itself misses. scale: of the judge. hearsay: {metric: {subset: log
    odds}} of old verdicts, as in Question.
    """

    verdicts: dict
    plans: dict
    wanted: tuple
    cancel: tuple
    stakes: dict
    failure: str
    short: dict
    scale: judge.Scale
    hearsay: dict

    @property
    def blind(self):
        """The metrics whose baseline is lower than the smallest drop worth naming: nothing can be seen to break."""
        return [
            metric
            for metric, table in self.verdicts.items()
            if () in table and table[()].mean < self.scale.smallest_drop
        ]

    @property
    def unresolved(self):
        return any(plan.unresolved for plan in self.plans.values())


def analyse(state):
    """The Analysis of a campaign's State."""
    verdicts, failure, short = _verdicts(state)
    scale, heard = scale_of(state.settings), _heard(state)
    answer = find(state.settings.search)(_question(state, verdicts, heard))
    return Analysis(verdicts, answer.plans, answer.wanted, answer.cancel, answer.stakes, failure, short, scale, heard)


def scale_of(settings):
    """The judge's Scale for a campaign: what its settings say, else what belongs to its preset."""
    scale = judge.COCO if settings.preset == "coco" else judge.SHAPES
    said = {"noise": settings.noise, "smallest_drop": settings.smallest_drop}
    return scale._replace(**{name: value for name, value in said.items() if value is not None})


def _heard(state):
    """The hearsay of a campaign: what it was told, and its own stale runs."""
    stale = [trial for trial in state.trials.values() if state.stale(trial)]
    rows = [row for rows in state.heard.values() for row in rows]
    if stale:
        rows += hearsay.of_runs(state.settings, scale_of(state.settings), list(state.trials.values()), stale)
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
    subsets = list(dict.fromkeys(trial.flags for trial in state.current))
    verdicts, failure, short = {}, "", {}
    for metric in settings.metrics:
        table = verdicts[metric] = {}
        reference, crashed = outcomes(state, (), metric)
        if len(reference) + crashed >= settings.seeds:
            base = judge.baseline(reference)
            if base.mean is None:
                what = "diverged" if reference else "crashed"
                failure = f"the baseline, with all flags off, {what}: there is nothing to compare with"
            else:
                if metric in settings.targets and judge.falls_short(
                    reference, settings.targets[metric], scale_of(settings)
                ):
                    short[metric] = settings.targets[metric]
                runs = {flags: outcomes(state, flags, metric) for flags in filter(None, subsets)}
                runs = {flags: told for flags, told in runs.items() if told[0] or told[1]}
                early = {flags: told_early(state, flags, metric) for flags in filter(None, subsets)}
                early = {flags: told for flags, told in early.items() if told}
                values, crashes = ({flags: told[i] for flags, told in runs.items()} for i in (0, 1))
                table.update(
                    judge.judge_all(reference, values, crashes, settings.targets.get(metric), scale_of(settings), early)
                )
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


def told_early(state, flags, metric):
    """The log odds, broken to fine, of each run of a subset that was stopped early."""
    return [trial.early["metrics"][metric]["log_odds"] for trial in state.of(flags) if trial.state == STOPPED_EARLY]
