"""How a campaign stands: its trials and what is known of them. Built by `events.fold` alone."""

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Optional

from bisect_cli.campaign import fingerprint
from bisect_cli.campaign.settings import Settings

ATTEMPTS = 3  # of one trial before it counts as crashed
WAITING, RUNNING, CANCELLED = "waiting", "running", "cancelled"
FINISHED, DIVERGED, CRASHED = "finished", "diverged", "crashed"
STOPPED_EARLY = "stopped early"


def id_of(number):
    """The id of the trial of this number."""
    return f"t{number:02d}"


def number_of(trial):
    """The number of a trial's id, 0 if that is none of `id_of`."""
    digits = trial[1:]
    return int(digits) if trial[:1] == "t" and digits.isascii() and digits.isdigit() and len(digits) < 10 else 0


@dataclass(frozen=True)
class Trial:
    """One training run: a subset of flags and a seed. It may take several attempts.

    slot and ticket (how its launcher finds it again) are those of the attempt under way, else None. A cancelled run
    could no longer matter when it was cancelled; it is resumed should it be wanted again. crashes counts since the
    campaign was last opened. metrics: those of the end, empty if diverged. early: where a run was stopped whose curve
    had settled its verdict, as curves.stop says it, else None. fingerprint: None if it is not known. why: the search's
    reason for it. source: "campaign/trial" that it was imported from. node: where the last attempt ran, as people say
    it, or ""; gpus: the names of those that it was given. before: the trial as it was before it ended, None if it has
    not.
    """

    id: str
    flags: tuple
    seed: int
    state: str = WAITING
    attempts: int = 0
    crashes: int = 0
    slot: Optional[int] = None
    ticket: Optional[dict] = None
    started: Optional[float] = None
    metrics: dict = field(default_factory=dict)
    wall: Optional[float] = None
    reason: str = ""
    why: str = ""
    early: Optional[dict] = None
    fingerprint: Optional[dict] = None
    source: str = ""
    node: str = ""
    gpus: tuple = ()
    before: Optional["Trial"] = field(default=None, compare=False, repr=False)

    @property
    def ended(self):
        return self.state in (FINISHED, DIVERGED, CRASHED, STOPPED_EARLY)

    def reports(self, key):
        """Whether its end says something about the metric of this key: a value, or that it diverged."""
        return self.state == DIVERGED or key in self.metrics

    def value(self, key):
        """The metric of this key at the end, NaN if the run diverged. Raises KeyError if it was not reported."""
        return math.nan if self.state == DIVERGED else float(self.metrics[key])


@dataclass(frozen=True)
class NodeUse:
    """An attempt that has ended on a node: of which trial, when, how, and after how many seconds on it."""

    node: str
    trial: str
    time: float
    outcome: str
    seconds: Optional[float] = None


@dataclass(frozen=True)
class State:
    """A campaign as its log says it is.

    state: new, open (a controller has it, or had and died), or how the last one closed it. slots: runs at once, None
    for any number, where people start them. parity: as parity.digest says it, None before it; parity_ticket: of the
    comparison that is under way, None if none is. fingerprint: what a run would be computed with now, None if that is
    not known. prior_evidence: {source: rows}, as evidence.prior. node_uses: of all attempts that ended on a node which
    is known, in order. contradictions: a sentence for each event that cannot be and was skipped, as the log is damaged.
    repairs: a sentence for each time that damage was taken out of the log.
    unaccounted: ids of trials that have run, of which the log has lost what they were. seen: the highest number of a
    trial's id that was seen elsewhere than in the log's events; not of the log, but of who holds the campaign.
    """

    settings: Optional[Settings] = None
    trials: dict = field(default_factory=dict)  # id -> Trial, in the order they were first started
    state: str = "new"
    reason: str = ""
    slots: Optional[int] = None
    max_runs: Optional[int] = None
    created: Optional[float] = None
    parity: Optional[dict] = None
    parity_ticket: Optional[dict] = None
    fingerprint: Optional[dict] = None
    prior_evidence: dict = field(default_factory=dict)
    node_uses: tuple = ()
    contradictions: tuple = ()
    repairs: tuple = ()
    unaccounted: tuple = ()
    seen: int = field(default=0, compare=False)

    def trials_of(self, flags, stale=False):
        """The trials of a subset, by seed: those that count, or those that are stale."""
        return list(self._by_subset[stale].get(flags, ()))

    @property
    def subsets(self):
        """Every subset with a trial, in the order in which they were first started."""
        return list(dict.fromkeys(trial.flags for trial in self.trials.values()))

    def stale(self, trial):
        """What has changed since a trial was computed, as fingerprint.differences; empty if it counts."""
        if trial.fingerprint is None or self.fingerprint is None:
            return ()
        if trial.flags not in self._expected:
            self._expected[trial.flags] = fingerprint.for_flags(self.fingerprint, trial.flags)
        return fingerprint.differences(trial.fingerprint, self._expected[trial.flags])

    def free_seeds(self, flags):
        """The seeds for further runs of a subset, without end."""
        taken = {trial.seed for trial in self.trials_of(flags)}
        return (seed for seed in itertools.count(self.settings.seed) if seed not in taken)

    @property
    def current(self):
        """The trials that count."""
        return list(self._current)

    @property
    def in_flight(self):
        """The trials that count whose result is still out: under way, or to be resumed."""
        return [t for t in self._out if not self.stale(t)]

    @property
    def next_number(self):
        """The number of the next new trial's id: above all that were ever seen, so that no two runs share one."""
        return 1 + max((self.seen, *map(number_of, (*self.trials, *self.unaccounted))))

    @property
    def trained(self):
        """How many trainings the campaign has begun itself, those of which the log has lost what they were included."""
        return self._trained

    @property
    def running(self):
        return [t for t in self._out if t.state == RUNNING]

    # Worked out once: a State does not change, and is asked for these many times

    @cached_property
    def _by_subset(self):
        """{whether they are stale: {flags: trials, by seed}}."""
        found = {False: {}, True: {}}
        for trial in self.trials.values():
            found[bool(self.stale(trial))].setdefault(trial.flags, []).append(trial)
        for trials in (*found[False].values(), *found[True].values()):
            trials.sort(key=lambda t: t.seed)
        return found

    @cached_property
    def ended(self):
        """{flags: the trials that count and have ended, by seed}, in the order of their first."""
        found = {}
        for trial in self._current:
            if trial.ended:
                found.setdefault(trial.flags, []).append(trial)
        for trials in found.values():
            trials.sort(key=lambda t: t.seed)
        return found

    @cached_property
    def _current(self):
        return [t for t in self.trials.values() if not self.stale(t)]

    @cached_property
    def _out(self):
        """The trials, stale ones too, whose result is still out."""
        return [t for t in self.trials.values() if not t.ended and t.state != CANCELLED]

    @cached_property
    def _trained(self):
        unaccounted = sum(trial not in self.trials for trial in self.unaccounted)
        return sum(not t.source for t in self.trials.values()) + unaccounted

    @cached_property
    def _expected(self):
        """{flags: the part of the fingerprint that matters to them}, as far as asked for."""
        return {}
