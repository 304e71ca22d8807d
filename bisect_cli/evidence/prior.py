"""Weak evidence: verdicts that may be right about the sets of a campaign, and are not on runs of it. Pure.

They come from runs that are stale, as the code or data have changed since; from runs of another campaign with another
key; and from a journal that people kept. A row is (flags, metric, log odds, broken to fine), plain JSON values.

The argument for their weight. The journal of 2019 (benchmarks/search/data) holds 68 verdicts on sets of flags, those on
bbox and segm counted apart; 12 are on sets that broke the metric. 3 of these 12 say that it converges, and so do 54 of
the 56 others: one such verdict makes fine 3 to 4 times likelier. What did not converge speaks clearer, but code has
changed since then. So a set's hearsay on a metric speaks for at most WEAK to one, however much of it there is. And a
journal may be wrong as a whole (other data, one fault in all of it), so all together has a limit too:
bisect_cli.search.hearsay.
"""

import json
import math

from bisect_cli.campaign import fingerprint as keys
from bisect_cli.campaign.state import DIVERGED, FINISHED, metric_key
from bisect_cli.evidence import judge

WEAK = 3  # to one


def weighed(rows, settings):
    """{metric: {subset: log odds}} of many rows: summed up, within WEAK, where they concern a campaign's Settings."""
    told = {metric: {} for metric in settings.metrics}
    for flags, metric, log_odds in rows:
        subset = tuple(flags)
        if concerns(settings, subset, metric):
            told[metric][subset] = _weak(told[metric].get(subset, 0.0) + _weak(log_odds))
    return told


def concerns(settings, flags, metric):
    """Whether a row can tell a campaign something: the baseline is never in question, and a flag that is off in every
    run of it says nothing of those.
    """
    return metric in settings.metrics and bool(flags) and set(flags) <= set(settings.flags)


def of_runs(settings, noise_prior, trials, told):
    """Rows from the verdicts on runs, each judged by the baseline that was computed with the same; without such a
    baseline a run says nothing. noise_prior: metric -> the judge's NoisePrior. trials: all that a campaign has; told: those of
    them that are hearsay.
    """
    ids, groups = {trial.id for trial in told}, {}
    for trial in trials:
        if trial.state in (FINISHED, DIVERGED):
            groups.setdefault(json.dumps(keys.base(trial.key), sort_keys=True), []).append(trial)
    rows = []
    for group in groups.values():
        about = {(trial.flags, _on_flags(trial)) for trial in group if trial.id in ids}
        for metric in settings.metrics:
            sets = {}
            for trial in group:
                if trial.state == DIVERGED or metric_key(metric) in trial.metrics:
                    sets.setdefault((trial.flags, _on_flags(trial)), {})[trial.seed] = trial.value(metric)
            reference = sets.pop(((), _on_flags(None)), {})
            if any(map(math.isfinite, reference.values())):
                verdicts = judge.judge_all(reference, sets, target=settings.targets.get(metric), noise_prior=noise_prior(metric))
                rows += [(one[0], metric, verdicts[one].log_odds) for one in sets if one in about]
    return rows


def _on_flags(trial):
    """What a run's key says of its flags, as text."""
    return json.dumps(((trial and trial.key) or {}).get(keys.FLAGS, {}), sort_keys=True)


def _weak(log_odds):
    return max(-math.log(WEAK), min(math.log(WEAK), log_odds))
