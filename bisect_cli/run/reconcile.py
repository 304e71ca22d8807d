"""What a campaign makes of what was there before: of a change in what runs are computed with, of further flags, and of
other campaigns' runs. Pure: it says which events to log.
"""

from functools import partial

from bisect_cli.analysis import measure
from bisect_cli.campaign import fingerprint as fingerprints
from bisect_cli.campaign.events import Fingerprint, FlagsAdded, PriorEvidence, RunImported, apply
from bisect_cli.campaign.state import DIVERGED, FINISHED, id_of
from bisect_cli.campaign.subsets import union
from bisect_cli.evidence import prior


def changes(state, fingerprint, flags=(), others=(), journals=()):
    """The events that bring a State up to date.

    fingerprint: what a run would be computed with now. flags: further ones to bisect. others: {name: State} of the
    campaigns to import runs from. journals: {name: rows} of prior evidence.
    """
    events = []

    def add(event):
        nonlocal state
        events.append(event)
        state = apply(state, event)

    changed = fingerprints.differences(state.fingerprint, fingerprint)
    if changed or (fingerprint and not state.fingerprint and state.state != "finished"):
        add(Fingerprint(fingerprint, changed))
    settings = state.settings
    whole = union(settings.flags, flags, order=settings.spec.flag_names)
    if whole != settings.flags:
        begun = len(state.trials_of(()))  # one more of them shows whether all else is as it was
        add(FlagsAdded(whole, max(settings.seeds, begun + 1) if begun else settings.seeds))
    sources = {f"journal {name}": rows for name, rows in dict(journals).items()}
    for name, other in dict(others).items():
        for event in _imports(state, name, other):
            add(event)
        sources[f"campaign {name}"] = _rows(state, other)
    for source, rows in sources.items():
        if rows and state.prior_evidence.get(source) != rows:
            add(PriorEvidence(source, rows))
    return events


def _imports(state, name, other):
    """The events of those runs of another campaign that are as good as this one's own."""
    known = {(trial.flags, trial.seed) for trial in state.current}
    keys = [state.settings.metric(metric).key for metric in state.settings.metrics]
    number = state.next_number
    for trial in other.trials.values():
        if trial.state not in (FINISHED, DIVERGED) or (trial.flags, trial.seed) in known or not _same(state, trial):
            continue
        if set(trial.flags) <= set(state.settings.flags) and all(map(trial.reports, keys)):
            yield RunImported(
                id_of(number),
                trial.flags,
                trial.seed,
                trial.state,
                f"{name}/{trial.id}",
                trial.metrics,
                trial.wall,
                trial.fingerprint,
            )
            number += 1


def _rows(state, other):
    """What the other runs of that campaign say as prior evidence, as plain values."""
    others = [trial for trial in other.trials.values() if not _same(state, trial)]
    rows = prior.rows_of_runs(state.settings, partial(measure, other.settings), list(other.trials.values()), others)
    return [[list(flags), metric, log_odds] for flags, metric, log_odds in rows]


def _same(state, trial):
    """Whether a run of another campaign is known to have been computed as one of this campaign would be."""
    if not trial.fingerprint or not state.fingerprint:
        return False
    return not fingerprints.differences(trial.fingerprint, fingerprints.for_flags(state.fingerprint, trial.flags))
