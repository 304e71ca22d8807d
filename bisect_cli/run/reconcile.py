"""What a campaign makes of what was there before: of a change in what runs are computed with, of further flags, and of
other campaigns' runs. Pure: it says which events to log.
"""

from functools import partial

from bisect_cli.analysis import scale_of
from bisect_cli.campaign import fingerprint as keys
from bisect_cli.campaign import subsets as sets
from bisect_cli.campaign.state import DIVERGED, FINISHED, apply, metric_key
from bisect_cli.evidence import prior as hearsay


def news(state, key, flags=(), others=(), journals=()):
    """The events, without their times, that bring a State up to date.

    key: what a run would be computed with now. flags: further ones to bisect. others: {name: State} of the campaigns to
    take runs from. journals: {name: rows} of hearsay.
    """
    events = []

    def add(kind, **values):
        nonlocal state
        events.append({"kind": kind, **values})
        state = apply(state, events[-1])

    changed = keys.differences(state.key, key)
    if changed or (key and not state.key and state.state != "finished"):
        add("keyed", key=key, changed=list(changed))
    whole = sets.ordered({*state.settings.flags, *flags})
    if whole != state.settings.flags:
        begun = len(state.of(()))  # one more of them tells whether all else is as it was
        add("widened", flags=list(whole), seeds=max(state.settings.seeds, begun + 1) if begun else state.settings.seeds)
    heard = {f"journal {name}": rows for name, rows in dict(journals).items()}
    for name, other in dict(others).items():
        for event in _taken(state, name, other):
            add("taken", **event)
        told = [trial for trial in other.trials.values() if not _same(state, trial)]
        scale = partial(scale_of, other.settings)
        rows = hearsay.of_runs(state.settings, scale, list(other.trials.values()), told)
        heard[f"campaign {name}"] = [[list(flags), metric, log_odds] for flags, metric, log_odds in rows]
    for source, rows in heard.items():
        if rows and state.heard.get(source) != rows:
            add("heard", source=source, rows=rows)
    return events


def _taken(state, name, other):
    """What the events say of those runs of another campaign that are as good as this one's own."""
    known = {(trial.flags, trial.seed) for trial in state.current}
    number = len(state.trials)
    for trial in other.trials.values():
        if trial.state not in (FINISHED, DIVERGED) or (trial.flags, trial.seed) in known or not _same(state, trial):
            continue
        complete = all(metric_key(metric) in trial.metrics for metric in state.settings.metrics)
        if set(trial.flags) <= set(state.settings.flags) and (complete or trial.state == DIVERGED):
            number += 1
            yield {
                "trial": f"t{number:02d}",
                "flags": list(trial.flags),
                "seed": trial.seed,
                "outcome": trial.state,
                "metrics": trial.metrics,
                "wall": trial.wall,
                "key": trial.key,
                "source": f"{name}/{trial.id}",
            }


def _same(state, trial):
    """Whether a run of another campaign is known to have been computed as one of this campaign would be."""
    return bool(trial.key and state.key) and not keys.differences(trial.key, keys.of_run(state.key, trial.flags))
