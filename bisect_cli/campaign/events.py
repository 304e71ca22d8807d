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
SHARED = ("flags", "fingerprint", "key")  # fields of many events that are large and mostly alike
_KINDS = {}


def _event(kind, *former):
    """Declares a kind of event, and the names that it had in older logs."""

    def declare(cls):
        cls.kind = kind
        cls = dataclass(frozen=True)(cls)
        cls.names = frozenset(f.name for f in dataclasses.fields(cls))
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
        if state.settings is not None:
            return _contradicted(state, "a campaign is created that is there")
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
            t.id: _changed(t, crashes=0, state=WAITING if t.state == CRASHED else t.state)
            for t in state.trials.values()
            if t.crashes or t.state == CRASHED
        }
        state = _with_trials(state, again)
        return dataclasses.replace(state, state="open", reason="", slots=self.slots, max_runs=self.max_runs)


@_event("closed")
class Closed:
    """The controller has left it. state: finished, inconclusive, failed or interrupted."""

    state: str
    reason: str = ""

    def apply(self, state):
        return dataclasses.replace(state, state=self.state, reason=self.reason, parity_ticket=None)


@_event("parity_started")
class ParityStarted:
    """The comparison of the implementations, logged before it can begin. ticket: how its launcher finds it again."""

    ticket: dict

    def apply(self, state):
        return dataclasses.replace(state, parity_ticket=self.ticket)


@_event("parity")
class Parity:
    """What the comparison of the implementations found, as parity.digest."""

    result: dict

    def apply(self, state):
        return dataclasses.replace(state, parity=self.result, parity_ticket=None)


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
        if state.settings is None:
            return _contradicted(state, "flags are added to a campaign that was not created")
        settings = dataclasses.replace(state.settings, flags=tuple(self.flags), seeds=self.seeds)
        return _with_parity_to_do(_reopened(state, settings=settings))


@_event("launcher_changed")
class LauncherChanged:
    """Runs are started by this launcher from now on, with these options of its own."""

    launcher: str
    options: dict = field(default_factory=dict)

    def apply(self, state):
        if state.settings is None:
            return _contradicted(state, "another launcher is given to a campaign that was not created")
        settings = dataclasses.replace(state.settings, launcher=self.launcher, launcher_options=self.options)
        slots = state.slots if self.launcher == state.settings.launcher else None
        return dataclasses.replace(state, settings=settings, slots=slots)


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
        if self.trial in state.trials:
            return _contradicted(state, f"{self.trial} is imported, whose id is a trial's already")
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
        if (old.flags, old.seed) != (self.flags, self.seed):
            return _contradicted(state, f"{self.trial} is started with other flags or another seed than before")
        if self.attempt <= old.attempts:
            return _contradicted(state, f"attempt {self.attempt} of {self.trial} is started again")
        gpus = self.ticket.get("gpus")
        trial = _changed(
            old,
            state=RUNNING,
            attempts=self.attempt,
            slot=self.slot,
            ticket=self.ticket,
            node=self.ticket.get("node", ""),
            gpus=tuple(map(str, gpus)) if isinstance(gpus, list) else (),
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
        old = state.trials.get(self.trial)
        if old is None:
            return _unaccounted(state, self.trial, f"{self.trial} has ended, of whose start nothing is known")
        attempt = old.attempts if self.attempt is None else self.attempt
        if attempt < old.attempts:
            return _contradicted(state, f"attempt {attempt} of {self.trial} has ended after a later one was started")
        if attempt == self.attempt == old.attempts and old.state == WAITING and self.outcome == CRASHED:
            return _contradicted(state, f"attempt {attempt} of {self.trial}, which has ended, has crashed")
        crashes = old.crashes + (self.outcome == CRASHED)
        lasting = (FINISHED, DIVERGED, CANCELLED, STOPPED_EARLY)
        trial = _changed(
            old,
            state=self.outcome if self.outcome in lasting else CRASHED if crashes >= ATTEMPTS else WAITING,
            attempts=attempt,
            crashes=crashes,
            slot=None,
            ticket=None,
            metrics=self.metrics or {},
            wall=self.wall,
            reason=self.reason,
            early=self.early,
            fingerprint=self.fingerprint or old.fingerprint,
            node=self.node or old.node,
            before=old if old.before is None else _changed(old, before=None),
        )
        if trial.node:
            state = _with_use(state, NodeUse(trial.node, self.trial, self.time or 0.0, self.outcome, self.ran))
        return _with_trial(_reopened(state), trial)


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


@_event("unaccounted")
class Unaccounted:
    """Trials that have run, as their folders show, and of which the log has lost what they were. They count for nothing
    but the budget.
    """

    trials: tuple

    def apply(self, state):
        for trial in self.trials:
            state = _unaccounted(state, trial, f"{trial} has run by its folder, and the log has lost what it was")
        return state


@_event("repaired")
class Repaired:
    """Damage was taken out of the log. sentence: what it was, and where the log of before lies."""

    sentence: str

    def apply(self, state):
        return dataclasses.replace(state, repairs=(*state.repairs, self.sentence))


# Kinds of events that change no verdict, and nothing that a search says
WITHOUT_VERDICTS = frozenset(
    ("started", "reattached", "adopted", "closed", "parity_started", "unaccounted", "repaired")
)


def parse(record):
    """The event of a record of the log, None if its kind is not known."""
    cls = _KINDS.get(record.get("kind"))
    if cls is None:
        return None
    named = {FORMER_FIELDS.get(name, name): value for name, value in record.items()}
    fields = {name: value for name, value in named.items() if name in cls.names}
    if "flags" in fields:
        fields["flags"] = tuple(fields["flags"])
    return cls(**fields)


def record_of(event, time):
    """The record of an event for the log: plain values. Fields that say nothing are left out."""
    values = {f.name: getattr(event, f.name) for f in dataclasses.fields(event) if f.name != "time"}
    return {"kind": event.kind, "time": time, **{name: v for name, v in values.items() if v is not None}}


def fold(records):
    """The State after these records of a log."""
    return Draft().add_all(records).state()


def apply(state, event):
    """The State after one more event, or the same where there is none."""
    return event.apply(state) if event else state


def _contradicted(state, sentence):
    """The same, with a word on an event that cannot be."""
    return dataclasses.replace(state, contradictions=(*state.contradictions, f"by the log, {sentence}: it was skipped"))


def _unaccounted(state, trial, sentence):
    """With a trial of which too little is known."""
    if trial in state.unaccounted:
        return state
    state = dataclasses.replace(state, unaccounted=(*state.unaccounted, trial))
    return dataclasses.replace(state, contradictions=(*state.contradictions, f"{sentence}: it counts for nothing"))


def _reopened(state, **changes):
    """What the campaign ended with may hold no longer."""
    if state.state == "open" and not state.reason and not changes:
        return state
    return dataclasses.replace(state, state="open", reason="", **changes)


def _with_parity_to_do(state):
    """Parity is out of date and has to be looked at again, unless the user wants none."""
    if (state.parity or {}).get("reason") == TURNED_OFF:
        return state
    return dataclasses.replace(state, parity=None)


class Draft:
    """A State of many events, one added after the other: nobody sees it in between, so that what it has of trials is
    changed in place, rather than copied for each event. Events that are added must not ask for what a State works out
    once.
    """

    def __init__(self):
        self._state = State(trials=_Growing(), node_uses=_GrowingList())
        self._alike = {}

    def add_all(self, records):
        """Adds events, as records of a log; returns itself."""
        for record in records:
            shared = {name: self._shared(record[name]) for name in SHARED if name in record}
            self._state = apply(self._state, parse({**record, **shared}))
        return self

    def add_if_it_fits(self, record):
        """Adds an event, unless it contradicts those before it; returns the sentences that say so."""
        before = self._state
        self.add_all([record])
        sentences = self._state.contradictions[len(before.contradictions) :]
        if sentences:
            self._state = before
        return sentences

    def state(self):
        """The State so far."""
        state = self._state
        return dataclasses.replace(state, trials=dict(state.trials), node_uses=tuple(state.node_uses))

    def _shared(self, value):
        """The same value, as the one object that all events of the log have of it: there may be thousands."""
        value = tuple(value) if isinstance(value, list) else value
        return self._alike.setdefault(repr(value), value)


class _Growing(dict):
    """The trials of a Draft."""


class _GrowingList(list):
    """The node uses of a Draft."""


def _changed(trial, **changes):
    """As dataclasses.replace, for a log has many trials."""
    return Trial(**{**vars(trial), **changes})


def _with_trial(state, trial):
    return _with_trials(state, {trial.id: trial})


def _with_trials(state, changed):
    trials = state.trials
    if not isinstance(trials, _Growing):
        return dataclasses.replace(state, trials={**trials, **changed})
    trials.update(changed)
    return state


def _with_use(state, use):
    if not isinstance(state.node_uses, _GrowingList):
        return dataclasses.replace(state, node_uses=(*state.node_uses, use))
    state.node_uses.append(use)
    return state


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
class Stuck:
    """A run that waits will go on waiting until somebody does something, and why, in the scheduler's words."""

    trial: str
    words: str
    kind = "stuck"


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
