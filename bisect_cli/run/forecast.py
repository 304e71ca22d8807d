"""What a campaign would do, before it does anything: which runs come first, how many at most, and about how long."""

from typing import NamedTuple

from bisect_cli import search
from bisect_cli.analysis import amount_for, analyse, measure
from bisect_cli.campaign.events import RunImported, apply
from bisect_cli.campaign.state import State
from bisect_cli.run import schedule, session
from bisect_cli.storage import store
from bisect_cli.trainers import trainer_of


class Forecast(NamedTuple):
    """steps: (event, State after it) of what would be logged first. noise, smallest_drop: {metric: number}, None where
    the baseline has to show it. too_small: the user's smallest drop, where noise would drown it, as {metric: number}.
    first_look: the step of the evaluation for early stopping, 0 for none. first: (subset, runs) that would be started.
    fewest, most: runs. seconds: of each earlier run alike, sorted.
    """

    state: State
    steps: tuple
    noise: dict
    smallest_drop: dict
    too_small: dict
    first_look: int
    first: tuple
    fewest: int
    most: int
    max_runs: object
    slots: int
    seconds: tuple

    @property
    def imports(self):
        """Whether runs of other campaigns would be among those counted."""
        return any(isinstance(event, RunImported) for event, _ in self.steps)

    def duration(self, runs):
        """Seconds of so many runs, as earlier ones took them."""
        return -(-runs // self.slots) * self.seconds[len(self.seconds) // 2]


def forecast(state, changes, runs_dir, slots=None, max_runs=None):
    """The Forecast of a campaign. state: as it is, with settings. changes: events that would be logged first."""
    settings, steps = state.settings, []
    for event in changes:
        state = apply(state, event)
        steps.append((event, state))
    yardsticks = {metric: measure(settings, metric, ()) for metric in settings.metrics}
    smallest = {metric: one.smallest_drop() if one.known else None for metric, one in yardsticks.items()}
    wanted = {metric: amount_for(settings.smallest_drop, metric) for metric in settings.metrics}
    answer = search.find(settings.search).answer
    structure = {"groups": settings.spec.blocks, "needs": settings.needs}
    requests = analyse(state).requests
    begun = {request.flags: len(state.trials_of(request.flags)) for request in requests}
    return Forecast(
        state,
        tuple(steps),
        {metric: one.noise() if one.known else None for metric, one in yardsticks.items()},
        smallest,
        {metric: w for metric, w in wanted.items() if w and smallest[metric] and smallest[metric] > w},
        trainer_of(settings).first_look(settings),
        tuple(_counts(schedule.missing(requests, begun))),
        schedule.noiseless_runs(answer, settings.flags, settings.seeds, (), **structure),
        schedule.worst_case_runs(answer, settings.flags, settings.seeds, **structure),
        max_runs,
        session.launcher_of(state.settings, slots).slots,
        tuple(sorted(store.earlier_seconds(runs_dir, settings.spec))),
    )


def _counts(missing):
    counts = {}
    for subset, *_ in missing:
        counts[subset] = counts.get(subset, 0) + 1
    return counts.items()
