"""What the trials of a campaign say: verdicts on every subset tried and the search's plan, per metric. Pure."""

from typing import NamedTuple

from bisect_cli import judge, parity
from bisect_cli.campaign import CRASHED, metric_key
from bisect_cli.search import halving
from maskrcnn.errors import UserError


class Analysis(NamedTuple):
    """verdicts: {metric: {flags: Verdict}}, empty until the baseline is complete. plans: {metric: Plan}.

    failure: why nothing can be concluded at all, or "". short: {metric: target} that the baseline itself misses.
    """

    verdicts: dict
    plans: dict
    failure: str
    short: dict

    @property
    def wanted(self):
        """What all metrics together want: each subset once, with the most runs that any of them asks for."""
        wants = {}
        for plan in self.plans.values():
            for want in plan.wanted:
                if want.flags not in wants or wants[want.flags].runs < want.runs:
                    wants[want.flags] = want
        return list(wants.values())

    @property
    def blind(self):
        """The metrics whose baseline is lower than the smallest drop worth naming: nothing can be seen to break."""
        return [
            metric for metric, table in self.verdicts.items() if () in table and table[()].mean < judge.SMALLEST_DROP
        ]

    @property
    def unresolved(self):
        return any(plan.unresolved for plan in self.plans.values())


def analyse(state, search=halving.plan):
    """The Analysis of a campaign's State."""
    settings = state.settings
    subsets = list(dict.fromkeys(trial.flags for trial in state.trials.values()))
    lead = parity.lead(state.parity)
    verdicts, plans, failure, short = {}, {}, "", {}
    for metric in settings.metrics:
        table = verdicts[metric] = {}
        reference, crashed = _values(state, (), metric)
        if len(reference) + crashed >= settings.seeds:
            base = judge.baseline(reference)
            if base.mean is None:
                what = "diverged" if reference else "crashed"
                failure = f"the baseline, with all flags off, {what}: there is nothing to compare with"
            else:
                table[()] = base._replace(runs=len(reference) + crashed)
                if metric in settings.targets and judge.falls_short(reference, settings.targets[metric]):
                    short[metric] = settings.targets[metric]
                for flags in filter(None, subsets):
                    values, crashed = _values(state, flags, metric)
                    if values or crashed:
                        table[flags] = judge.judge(reference, values, crashed, settings.targets.get(metric))
        plans[metric] = search(settings.flags, table.get, settings.seeds, lead)
    return Analysis(verdicts, plans, failure, short)


def check_metrics(settings, trial):
    """Raises UserError if a finished trial lacks a metric that the campaign is about."""
    for metric in settings.metrics:
        if trial.metrics and metric_key(metric) not in trial.metrics:
            known = ", ".join(sorted(trial.metrics))
            raise UserError(
                f"metric '{metric}' is not in the results of {trial.id}: start another campaign with one of {known}."
            )


def _values(state, flags, metric):
    """The metric of each run of a subset that ended (NaN if diverged), and how many of them crashed."""
    values, crashed = [], 0
    for trial in state.of(flags):
        if trial.state == CRASHED:
            crashed += 1
        elif trial.ended and (not trial.metrics or metric_key(metric) in trial.metrics):
            values.append(trial.value(metric))
    return values, crashed
