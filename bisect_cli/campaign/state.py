"""One bisect: its settings, fixed when it starts, and its state, a pure fold over the events of its log."""

import dataclasses
import itertools
import math
import re
from dataclasses import dataclass, field
from typing import Optional

from bisect_cli.campaign import fingerprint as keys
from bisect_cli.errors import UserError, unknown
from maskrcnn.pieces import parse_flag

SIZES = ("", "50", "75", "_small", "_medium", "_large")
METRICS = {f"{kind}/AP{size}": kind if not size else f"{kind}/AP{size}" for kind in ("bbox", "segm") for size in SIZES}
SEARCHES = ("bayes", "halving", "ddmin")
SUSPECT = 6.0  # how many times likelier a culprit a flag is that the user suspects and says no more of
ATTEMPTS = 3  # of one trial before it counts as crashed
TURNED_OFF = "turned off"  # the reason of no parity, if the user wants none
WAITING, RUNNING, CANCELLED = "waiting", "running", "cancelled"
FINISHED, DIVERGED, CRASHED = "finished", "diverged", "crashed"
STOPPED_EARLY = "stopped early"


@dataclass(frozen=True)
class Settings:
    """What is bisected, and how a run of it is trained. Two campaigns with equal settings ask the same question."""

    name: str
    flags: tuple
    metrics: tuple = ("bbox", "segm")
    preset: str = "shapes"
    data: str = ""  # a COCO folder, absolute; empty for the trainer's own
    weights: str = ""  # a file of pretrained weights, absolute; empty for none
    targets: dict = field(default_factory=dict)  # {metric: what a training that works is known to reach}
    np: int = 1  # processes of a run
    hosts: str = ""  # where they run, as the trainer's --hosts; empty for this machine
    plants: tuple = ()
    batch: Optional[int] = None  # None leaves it to the preset
    sets: tuple = ()
    search: str = "halving"  # one of SEARCHES; campaigns from before there was a choice have none
    suspects: dict = field(default_factory=dict)  # {flag: how many times likelier a culprit than another}
    trusts: tuple = ()  # flags held to be innocent
    noise: Optional[float] = None  # of the judge's Scale, in AP; None leaves it to the preset
    smallest_drop: Optional[float] = None  # likewise
    seeds: int = 3  # replicates of the baseline
    seed: int = 0  # the first; replicate k of any subset has seed + k
    early_stop: bool = field(default=False, compare=False)  # stop runs whose curve settles their verdict
    trainer: tuple = ()  # command; empty for the one that belongs to this package
    workdir: str = field(default="", compare=False)  # where runs are started, for --plant FLAG=module:function

    def to_json(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values):
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known})

    def differences(self, other):
        """The names of the settings in which two campaigns differ."""
        fields = [f.name for f in dataclasses.fields(self) if f.compare]
        return [name for name in fields if getattr(self, name) != getattr(other, name)]


def parse_metric(text):
    """A metric's name, `bbox` standing for `bbox/AP`. Raises UserError with the nearest names."""
    if text in METRICS.values():
        return text
    if text in METRICS:
        return METRICS[text]
    raise unknown("metric", text, METRICS.values())


def parse_metrics(texts):
    """The metrics of several "A,B,...", each once; without any bbox and segm. Raises UserError, as parse_metric."""
    names = [name.strip() for text in texts for name in text.split(",")]
    return tuple(dict.fromkeys(parse_metric(name) for name in names if name)) or ("bbox", "segm")


def parse_targets(text, metrics):
    """{metric: AP} of "bbox=.377,segm=.339". Raises UserError where one is not a metric of the campaign or no AP."""
    targets = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        metric = parse_metric(name.strip())
        try:
            targets[metric] = float(value)
        except ValueError:
            targets[metric] = math.nan
        if metric not in metrics or not 0 < targets[metric] < 1:
            raise UserError(
                f"--target {part.strip()}: write METRIC=AP, with one of {', '.join(metrics)} and an AP between 0 and 1."
            )
    return targets


def parse_suspects(texts, flags):
    """{flag: weight} of several "FLAG" or "FLAG=WEIGHT". Raises UserError where one is no flag of the campaign, or no
    positive number.
    """
    suspects = {}
    for text in texts:
        name, given, value = text.partition("=")
        flag = _flag_of(name, flags, "--suspect")
        try:
            suspects[flag] = float(value) if given else SUSPECT
        except ValueError:
            suspects[flag] = math.nan
        if not 0 < suspects[flag] < math.inf:
            raise UserError(f"--suspect {text}: write FLAG=TIMES, with a positive number of times, or FLAG alone.")
    return suspects


def parse_trusts(texts, flags):
    """Several flags of the campaign. Raises UserError where one is none."""
    return tuple(dict.fromkeys(_flag_of(text, flags, "--trust") for text in texts))


def _flag_of(text, flags, option):
    flag = parse_flag(text.strip())
    if flag not in flags:
        raise UserError(f"{option} {flag}: it is not among --flags, so it is off in every run; leave it out.")
    return flag


def metric_key(metric):
    """The key of a metric in a trainer's results."""
    return metric if "/" in metric else f"{metric}/AP"


def check_name(name):
    """Raises UserError if `name` cannot be a campaign's folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name) or name == "data":
        raise UserError(
            f"campaign name '{name}': use letters, digits, '.', '_' and '-' (and not 'data', which holds the shapes)."
        )


@dataclass(frozen=True)
class Trial:
    """One training run: a subset of flags and a seed. It may take several attempts.

    slot and ticket (how its launcher finds it again) are those of the attempt under way, else None. A cancelled run
    could no longer matter when it was stopped; it goes on where it was should it be wanted again.
    crashes counts since the campaign was last gone on with. metrics: those of the end, empty if diverged. early: where
    a run was stopped whose curve had settled its verdict, as curves.stop says it, else None. key: what it was computed
    with (bisect_cli.keys), None if that is not known.
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
    why: str = ""  # the search asked for it
    early: Optional[dict] = None
    key: Optional[dict] = None
    source: str = ""  # "campaign/trial" that it was taken over from

    @property
    def ended(self):
        return self.state in (FINISHED, DIVERGED, CRASHED, STOPPED_EARLY)

    def value(self, metric):
        """The metric at the end, NaN if the run diverged. Raises KeyError if the trainer did not report it."""
        return float("nan") if self.state == DIVERGED else float(self.metrics[metric_key(metric)])


@dataclass(frozen=True)
class State:
    """A campaign as its log tells it. state: new, open (a controller has it, or had and died), or how the last one
    ended.
    """

    settings: Optional[Settings] = None
    trials: dict = field(default_factory=dict)  # id -> Trial, in the order they were first started
    state: str = "new"
    reason: str = ""
    slots: Optional[int] = None
    max_runs: Optional[int] = None
    created: Optional[float] = None
    parity: Optional[dict] = None  # as parity.digest says, None before it
    key: Optional[dict] = None  # what a run would be computed with now, as bisect_cli.keys; None if that is not known
    heard: dict = field(default_factory=dict)  # {source: rows of hearsay}, as bisect_cli.hearsay

    def of(self, flags, stale=False):
        """The trials of a subset, by seed: those that count, or those that are stale."""
        own = (t for t in self.trials.values() if t.flags == flags and bool(self.stale(t)) == stale)
        return sorted(own, key=lambda t: t.seed)

    def stale(self, trial):
        """What has changed since a trial was computed, as keys.differences; empty if it counts."""
        return keys.differences(trial.key, keys.of_run(self.key, trial.flags))

    def free_seeds(self, flags):
        """The seeds for further runs of a subset, without end."""
        taken = {trial.seed for trial in self.of(flags)}
        return (seed for seed in itertools.count(self.settings.seed) if seed not in taken)

    @property
    def current(self):
        """The trials that count."""
        return [t for t in self.trials.values() if not self.stale(t)]

    @property
    def trained(self):
        """How many trainings the campaign has begun itself."""
        return sum(not t.source for t in self.trials.values())

    @property
    def running(self):
        return [t for t in self.trials.values() if t.state == RUNNING]


def fold(events):
    """The State after these events."""
    state = State()
    for event in events:
        state = apply(state, event)
    return state


def apply(state, event):
    """The State after one more event. Events of an unknown kind change nothing."""
    kind = event.get("kind")
    if kind == "created":
        return dataclasses.replace(state, settings=Settings.from_json(event["settings"]), created=event.get("time"))
    if kind == "opened":
        again = {
            t.id: dataclasses.replace(t, crashes=0, state=WAITING if t.state == CRASHED else t.state)
            for t in state.trials.values()
        }
        return dataclasses.replace(
            state, state="open", reason="", slots=event["slots"], max_runs=event["max_runs"], trials=again
        )
    if kind == "parity":
        return dataclasses.replace(state, parity=event["result"])
    if kind in ("keyed", "widened", "heard", "taken"):
        state = dataclasses.replace(state, state="open", reason="")  # what it ended with may hold no longer
    if kind == "keyed":
        return dataclasses.replace(state, key=event["key"], **_parity_to_do(state, event["changed"]))
    if kind == "widened":
        settings = dataclasses.replace(state.settings, flags=tuple(event["flags"]), seeds=event["seeds"])
        return dataclasses.replace(state, settings=settings, **_parity_to_do(state, True))
    if kind == "heard":
        return dataclasses.replace(state, heard={**state.heard, event["source"]: event["rows"]})
    if kind == "taken":
        told = {name: event[name] for name in ("seed", "metrics", "wall", "key", "source")}
        trial = Trial(event["trial"], tuple(event["flags"]), state=event["outcome"], **told)
        return dataclasses.replace(state, trials={**state.trials, trial.id: trial})
    if kind == "closed":
        return dataclasses.replace(state, state=event["state"], reason=event.get("reason", ""))
    if kind == "started":
        old = state.trials.get(event["trial"]) or Trial(event["trial"], tuple(event["flags"]), event["seed"])
        trial = dataclasses.replace(
            old,
            state=RUNNING,
            attempts=event["attempt"],
            slot=event["slot"],
            ticket=event["ticket"],
            started=event.get("time"),
            reason="",
            why=event.get("why", ""),
            key=keys.of_run(state.key, old.flags),
        )
        return dataclasses.replace(state, trials={**state.trials, trial.id: trial})
    if kind == "ended" and event["trial"] in state.trials:
        trial = _ended(state.trials[event["trial"]], event)
        return dataclasses.replace(state, trials={**state.trials, trial.id: trial})
    return state


def _parity_to_do(state, changed):
    """The changes to a State, whose parity is out of date if so, and may have to be looked at again."""
    return {} if not changed or (state.parity or {}).get("reason") == TURNED_OFF else {"parity": None}


def _ended(trial, event):
    """A trial after an attempt. outcome: finished, diverged, crashed, stopped (asked to), cancelled (no longer of use),
    lost (died with its controller), refused, or stopped early (its curve settled its verdict).
    """
    outcome = event["outcome"]
    crashes = trial.crashes + (outcome == CRASHED)
    kept = (FINISHED, DIVERGED, CANCELLED, STOPPED_EARLY)
    state = outcome if outcome in kept else CRASHED if crashes >= ATTEMPTS else WAITING
    return dataclasses.replace(
        trial,
        state=state,
        crashes=crashes,
        slot=None,
        ticket=None,
        metrics=event.get("metrics") or {},
        wall=event.get("wall"),
        reason=event.get("reason", ""),
        early=event.get("early"),
        key=event.get("key") or trial.key,
    )
