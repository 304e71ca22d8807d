"""Prior evidence: verdicts that may be right about the sets of a campaign, and do not rest on runs of it. Pure.

It comes from runs that are stale, as the code or data have changed since; from runs of another campaign with another
fingerprint; and from a journal that people kept. A row is (flags, metric, log odds, broken to fine), plain JSON values.

The argument for its weight. The journal of 2019 (benchmarks/search/data) holds 68 verdicts on sets of flags, those on
bbox and segm counted apart; 12 are on sets that broke the metric. 3 of these 12 say that it converges, and so do 54 of
the 56 others: one such verdict makes fine 3 to 4 times likelier. What did not converge speaks clearer, but code has
changed since then. So the prior evidence on one set and one metric speaks for at most MOST_ODDS to one, however much of
it there is. And a journal may be wrong as a whole (other data, one fault in all of it), so all of it together has a
limit too: bisect_cli.search.bayes.prior.
"""

import json
import math

from bisect_cli.campaign import fingerprint
from bisect_cli.campaign.state import DIVERGED, FINISHED

MOST_ODDS = 3  # to one


def weigh(rows, settings):
    """{metric: {subset: log odds}} of those rows that concern a campaign's Settings, summed up within MOST_ODDS."""
    summed = {metric: {} for metric in settings.metrics}
    for flags, metric, log_odds in rows:
        subset = tuple(flags)
        if concerns(settings, subset, metric):
            summed[metric][subset] = _limited(summed[metric].get(subset, 0.0) + _limited(log_odds))
    return summed


def concerns(settings, flags, metric):
    """Whether a row can say something about a campaign: the baseline is never in question, and a flag that is off in
    every run of it says nothing of those.
    """
    return metric in settings.metrics and bool(flags) and set(flags) <= set(settings.flags)


def rows_of_runs(settings, measure, trials, prior_trials):
    """Rows from the verdicts on runs, each judged by the baseline that was computed with the same fingerprint; without
    such a baseline a run says nothing, nor does it where that baseline does not show the noise of the metric.

    measure: (a metric's name, the values of such a baseline) -> Yardstick. trials: all that a campaign has.
    prior_trials: those of them that are prior evidence.
    """
    ids, groups = {trial.id for trial in prior_trials}, {}
    for trial in trials:
        if trial.state in (FINISHED, DIVERGED):
            common = fingerprint.common(trial.fingerprint)
            groups.setdefault(json.dumps(common, sort_keys=True), []).append(trial)
    rows = []
    for group in groups.values():
        about = {_set(trial) for trial in group if trial.id in ids}
        for metric in settings.metrics:
            rows += _rows(metric, _values(group, settings.metric(metric).key), about, measure, settings)
    return rows


def _rows(metric, sets, about, measure, settings):
    """The rows about some sets. sets: {set: {seed: value}} of runs with one fingerprint, the baseline among them."""
    reference = sets.pop(((), _on_flags(None)), {})
    if not any(map(math.isfinite, reference.values())):
        return []
    yardstick = measure(metric, list(reference.values()))
    if not yardstick.known:
        return []
    verdicts = yardstick.judge_all(reference, sets, target=settings.targets.get(metric))
    return [(one[0], metric, verdicts[one].log_odds) for one in sets if one in about]


def _values(trials, key):
    """{set: {seed: value}} of a metric."""
    sets = {}
    for trial in trials:
        if trial.reports(key):
            sets.setdefault(_set(trial), {})[trial.seed] = trial.value(key)
    return sets


def _set(trial):
    """What was on in a run: its flags, and what its fingerprint says of them."""
    return trial.flags, _on_flags(trial.fingerprint)


def _on_flags(of_run):
    """What a run's fingerprint says of its flags, as text."""
    return json.dumps((of_run or {}).get(fingerprint.FLAGS, {}), sort_keys=True)


def _limited(log_odds):
    return max(-math.log(MOST_ODDS), min(math.log(MOST_ODDS), log_odds))
