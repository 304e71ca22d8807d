"""All that can happen to a campaign: every kind of event, its fields, and what it makes of the State.

An event in the log is a JSON object with its `kind`, its `time` and the fields of the class below. Logs are kept for
years: a kind or a field that gets another name keeps its old one as a former name, and new fields have defaults. Events
of a kind that is not known change nothing.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Optional

from bisect_cli.campaign import fingerprint as fingerprints
from bisect_cli.campaign.settings import Settings
from bisect_cli.campaign.spec import Spec
from bisect_cli.campaign.state import (
    ATTEMPTS,
    CANCELLED,
    CRASHED,
    DIVERGED,
    FINISHED,
    RUNNING,
    STOPPED_EARLY,
    WAITING,
    NodeUse,
    State,
    Trial,
)

TURNED_OFF = "turned off"  # the reason of no parity, if the user wants none
FORMER_FIELDS = {"key": "fingerprint"}
_KINDS = {}


def _event(kind, *former):
    """Declares a kind of event, and the names that it had in older logs."""

    def declare(cls):
        cls.kind = kind
        cls = dataclass(frozen=True)(cls)
        _KINDS.update(dict.fromkeys((kind, *former), cls))
        return cls

    return declare


@_event("created")
class Created:
    """The campaign, once. spec: what its trainer declares."""

    settings: dict
    spec: dict
    time: Optional[float] = None

    def apply(self, state):
        settings = Settings.from_json(self.settings, Spec.from_json(self.spec))
        return dataclasses.replace(state, settings=settings, created=self.time)


@_event("opened")
class Opened:
    """A controller has taken the campaign: a process on a host, with so many slots and runs allowed in all. slots: None
    where people start the runs, and may start as many at once as they like.
    """

    pid: int
    host: str
    slots: Optional[int] = None
    max_runs: Optional[int] = None

    def apply(self, state):
        again = {
            t.id: dataclasses.replace(t, crashes=0, state=WAITING if t.state == CRASHED else t.state)
            for t in state.trials.values()
        }
        return dataclasses.replace(
            state, state="open", reason="", slots=self.slots, max_runs=self.max_runs, trials=again
        )


@_event("closed")
class Closed:
    """The controller has left it. state: finished, inconclusive, failed or interrupted."""

    state: str
    reason: str = ""

    def apply(self, state):
        return dataclasses.replace(state, state=self.state, reason=self.reason)


@_event("parity")
class Parity:
    """What the comparison of the implementations found, as parity.digest."""

    result: dict

    def apply(self, state):
        return dataclasses.replace(state, parity=self.result)


@_event("fingerprint", "keyed")
class Fingerprint:
    """What a run is computed with from now on. changed: the parts in which that differs from before."""

    fingerprint: Optional[dict]
    changed: tuple = ()

    def apply(self, state):
        state = _reopened(state, fingerprint=self.fingerprint)
        return _with_parity_to_do(state) if self.changed else state


@_event("flags_added", "widened")
class FlagsAdded:
    """Further flags are bisected as well. flags: all of them now; seeds: replicates of the baseline now."""

    flags: tuple
    seeds: int

    def apply(self, state):
        settings = dataclasses.replace(state.settings, flags=tuple(self.flags), seeds=self.seeds)
        return _with_parity_to_do(_reopened(state, settings=settings))


@_event("prior_evidence", "heard")
class PriorEvidence:
    """Verdicts that may be right, in the place of what this source said before. rows: as evidence.prior."""

    source: str
    rows: list

    def apply(self, state):
        return _reopened(state, prior_evidence={**state.prior_evidence, self.source: self.rows})


@_event("run_imported", "taken")
class RunImported:
    """A run of another campaign that is as good as one of this one's own. outcome: finished or diverged."""

    trial: str
    flags: tuple
    seed: int
    outcome: str
    source: str
    metrics: dict = field(default_factory=dict)
    wall: Optional[float] = None
    fingerprint: Optional[dict] = None

    def apply(self, state):
        kept = {name: getattr(self, name) for name in ("metrics", "wall", "fingerprint", "source")}
        trial = Trial(self.trial, self.flags, self.seed, state=self.outcome, **kept)
        return _with_trial(_reopened(state), trial)


@_event("started")
class Started:
    """An attempt of a trial, logged before it can begin. slot: None where people start the runs. ticket: how its
    launcher finds it again. argv: its command.
    """

    trial: str
    flags: tuple
    seed: int
    attempt: int
    slot: Optional[int] = None
    ticket: dict = field(default_factory=dict)
    argv: list = field(default_factory=list)
    why: str = ""
    time: Optional[float] = None

    def apply(self, state):
        old = state.trials.get(self.trial) or Trial(self.trial, self.flags, self.seed)
        trial = dataclasses.replace(
            old,
            state=RUNNING,
            attempts=self.attempt,
            slot=self.slot,
            ticket=self.ticket,
            node=self.ticket.get("node", ""),
            started=self.time,
            reason="",
            why=self.why,
            fingerprint=fingerprints.for_flags(state.fingerprint, old.flags),
        )
        return _with_trial(state, trial)


@_event("reattached", "adopted")
class Reattached:
    """A controller has found an attempt alive that an earlier one started."""

    trial: str

    def apply(self, state):
        return state


@_event("ended")
class Ended:
    """The end of an attempt.

    outcome: finished, diverged, crashed, stopped (on request), cancelled (it could no longer matter), lost (it died
    with its controller), evicted (its node or scheduler ended it, which costs no attempt), refused (the trainer's word
    for wrong input), or stopped early (its curve settled its verdict). code: of its exit, None if nobody saw it. early:
    where it was stopped early, as curves.stop. fingerprint: the run's own word. node: the one it ran on, where that is
    said only now; ran: for how many seconds, if that is known.
    """

    trial: str
    outcome: str
    attempt: Optional[int] = None
    code: Optional[int] = None
    reason: str = ""
    metrics: dict = field(default_factory=dict)
    wall: Optional[float] = None
    early: Optional[dict] = None
    fingerprint: Optional[dict] = None
    node: Optional[str] = None
    ran: Optional[float] = None
    time: Optional[float] = None

    def apply(self, state):
        if self.trial not in state.trials:
            return state
        old = state.trials[self.trial]
        crashes = old.crashes + (self.outcome == CRASHED)
        lasting = (FINISHED, DIVERGED, CANCELLED, STOPPED_EARLY)
        trial = dataclasses.replace(
            old,
            state=self.outcome if self.outcome in lasting else CRASHED if crashes >= ATTEMPTS else WAITING,
            crashes=crashes,
            slot=None,
            ticket=None,
            metrics=self.metrics or {},
            wall=self.wall,
            reason=self.reason,
            early=self.early,
            fingerprint=self.fingerprint or old.fingerprint,
            node=self.node or old.node,
            before=dataclasses.replace(old, before=None),
        )
        uses = (NodeUse(trial.node, self.trial, self.time or 0.0, self.outcome, self.ran),) if trial.node else ()
        return _with_trial(_reopened(state, node_uses=state.node_uses + uses), trial)


@_event("undone")
class Undone:
    """What was said of the end of a trial is taken back: it is again as it was before. A run that was imported has yet
    to be made.
    """

    trial: str

    def apply(self, state):
        trial = state.trials.get(self.trial)
        if trial is None:
            return state
        unmade = Trial(trial.id, trial.flags, trial.seed)
        return _with_trial(_reopened(state), trial.before or unmade)


def parse(record):
    """The event of a record of the log, None if its kind is not known."""
    cls = _KINDS.get(record.get("kind"))
    if cls is None:
        return None
    fields = {f.name for f in dataclasses.fields(cls)}
    named = {FORMER_FIELDS.get(name, name): value for name, value in record.items()}
    return cls(**{name: tuple(v) if name == "flags" else v for name, v in named.items() if name in fields})


def record_of(event, time):
    """The record of an event for the log: plain values. Fields that say nothing are left out."""
    values = {f.name: getattr(event, f.name) for f in dataclasses.fields(event) if f.name != "time"}
    return {"kind": event.kind, "time": time, **{name: v for name, v in values.items() if v is not None}}


def fold(records):
    """The State after these records of a log."""
    state = State()
    for record in records:
        state = apply(state, parse(record))
    return state


def apply(state, event):
    """The State after one more event, or the same where there is none."""
    return event.apply(state) if event else state


def _reopened(state, **changes):
    """What the campaign ended with may hold no longer."""
    return dataclasses.replace(state, state="open", reason="", **changes)


def _with_parity_to_do(state):
    """Parity is out of date and has to be looked at again, unless the user wants none."""
    if (state.parity or {}).get("reason") == TURNED_OFF:
        return state
    return dataclasses.replace(state, parity=None)


def _with_trial(state, trial):
    return dataclasses.replace(state, trials={**state.trials, trial.id: trial})


# Notices: shown to whoever watches, and never logged


@dataclass(frozen=True)
class Comparing:
    """Parity has begun."""

    kind = "comparing"


@dataclass(frozen=True)
class Began:
    """A run that had to wait has begun."""

    trial: str
    node: str
    kind = "began"


@dataclass(frozen=True)
class Trouble:
    """Nothing is known of the runs for now, and why; "" once it is again."""

    words: str
    kind = "trouble"


@dataclass(frozen=True)
class Stopping:
    """These runs, ids of trials, have been asked to save and end."""

    runs: list
    kind = "stopping"
