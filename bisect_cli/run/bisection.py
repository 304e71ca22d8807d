"""A campaign in memory, for notebooks and other programs, which ask it for runs and tell it how they ended.

It folds the same events and asks the same searches as the command line, and needs no folder and no trainer. Nothing
heavy is imported before one is made.
"""

import json
import time
from typing import NamedTuple, Optional

from bisect_cli import launchers
from bisect_cli.campaign import events
from bisect_cli.campaign import settings as parse
from bisect_cli.campaign.spec import Flag, Group, Metric, Spec
from bisect_cli.errors import UserError, unknown
from bisect_cli.search import DEFAULT, find

LAUNCHER = "manual"
BETTER = ("higher", "lower")
SEPARATORS = set(",=+/{} \t\n")  # not in a name, for lists of names are written with them


class Run(NamedTuple):
    """A run to make: the training with these flags on and all others off. attempt: from 1, for a run that crashed is
    asked for again. why: the search's reason.
    """

    id: str
    flags: tuple
    seed: int
    attempt: int = 1
    why: str = ""


class Result(NamedTuple):
    """What the search of a metric ended with. culprits: search.Culprits, with `flags` and `confidence`. clean: the
    probability that nothing breaks it, if that is the result. unresolved: search.Unresolved, with `flags` and `reason`.
    """

    culprits: tuple
    clean: Optional[float]
    unresolved: tuple


class Bisection:
    """Names which flag, or which combination of flags, breaks which metric, from the runs that it asks for.

    flags: names, or spec.Flags. metrics: {name: "higher" or "lower"}, which values are the good ones, or spec.Metrics.
    search, seeds, seed, max_runs: as of `maskrcnn-bisect start`. slots: runs out at once, None for any number. noise,
    smallest_drop: a number for all metrics, or {metric: number}, in the metric's own unit. targets: {metric: number}.
    suspects: flags, or {flag: how many times likelier than another}. trusts: flags. groups: {name: flags}. name: in
    messages.

    Raises UserError, here and in all methods, for what makes no sense, in one line.
    """

    def __init__(
        self,
        flags,
        metrics,
        *,
        search=DEFAULT,
        seeds=3,
        seed=0,
        slots=None,
        max_runs=None,
        noise=None,
        smallest_drop=None,
        targets=None,
        suspects=(),
        trusts=(),
        groups=None,
        name="bisection",
    ):
        for option, number in (("seeds", seeds), ("slots", slots), ("max_runs", max_runs)):
            _check_positive(option, number)
        spec = _spec(flags, metrics, groups or {})
        flags, metrics = spec.flag_names, spec.default_metrics
        settings = parse.Settings(
            name,
            spec,
            flags,
            metrics,
            targets=parse.parse_targets(",".join(_texts(targets)), spec, metrics) if targets else {},
            search=find(search).name,
            suspects=parse.parse_suspects(_texts(suspects), spec, flags),
            trusts=parse.parse_trusts(_texts(trusts), spec, flags),
            noise=parse.parse_amounts("noise", _texts(noise), spec, metrics),
            smallest_drop=parse.parse_amounts("smallest_drop", _texts(smallest_drop), spec, metrics),
            seeds=int(seeds),
            seed=int(seed),
            launcher=LAUNCHER,
        )
        opened = events.Opened(0, "", slots and int(slots), max_runs and int(max_runs))
        first = events.Created(settings.to_json(), spec.to_json()), opened
        self._load([events.record_of(event, time.time()) for event in first])

    def __repr__(self):
        return f"<Bisection {self.name}: {self.state}, {len(self._recorder.state.trials)} runs, {len(self.out)} out>"

    def _load(self, records):
        from bisect_cli.run import ask_tell
        from bisect_cli.run.recorder import Recorder

        self._records, self._ask_tell = records, ask_tell
        self._recorder = Recorder(None, records, events.fold(records))  # a list is log enough

    # Runs

    def ask(self, count=1):
        """The next runs to make, as Runs: up to `count`, fewer if no more are worth it before others have ended, and
        none once it is over. They are out until it is said how they ended, and nothing is asked for twice.
        """
        _check_positive("count", count)
        return [_run(trial) for trial in self._ask_tell.hand_out(self._recorder, count, lambda *_: ({}, []))]

    def tell(self, run, values):
        """How a run ended. run: a Run, or its id. values: {metric: number}; one that is no finite number says that it
        diverged.
        """
        self._ask_tell.finish(self._recorder, _id(run), values)

    def diverged(self, run):
        """A run's loss became NaN or infinite, which is a result: it counts as broken."""
        self._ask_tell.diverge(self._recorder, _id(run))

    def crashed(self, run, why=""):
        """A run ended without a result. It is asked for again, three times in all."""
        self._ask_tell.crash(self._recorder, _id(run), why)

    def undo(self, run):
        """Takes back what was said of a run's end: it is out again."""
        self._ask_tell.undo(self._recorder, _id(run))

    @property
    def out(self):
        """The Runs that are out."""
        return [_run(trial) for trial in self._recorder.state.running]

    # What is known

    @property
    def name(self):
        return self._recorder.settings.name

    @property
    def state(self):
        """`running` while runs are out, else `waiting` to be asked; once it is over `finished`, `inconclusive` or
        `failed`.
        """
        from bisect_cli.storage.lease import live_state

        return live_state(None, self._recorder.state)

    @property
    def reason(self):
        """Why it is in that state, or ""."""
        return self._recorder.state.reason

    @property
    def done(self):
        """Whether it is over. To undo a run may change that."""
        return self._recorder.state.state != "open"

    @property
    def result(self):
        """{metric: Result}, None instead where the search still goes on, or has nothing to compare with."""
        plans, failed = self._recorder.analysis.plans, self._recorder.analysis.failure
        return {
            metric: Result(plan.culprits, plan.clean, plan.unresolved) if plan.done and not failed else None
            for metric, plan in plans.items()
        }

    @property
    def verdicts(self):
        """{metric: {subset: evidence.verdict.Verdict}} of every subset with a run that ended; empty until the baseline
        is complete. A Verdict has, among others, `call` ("fine", "broken", ...), `runs`, `mean` and `difference`.
        """
        return self._recorder.analysis.verdicts

    def summary(self):
        """All that is known, as `maskrcnn-bisect status --json` prints it (docs/status-json.md). What is about folders
        is None.
        """
        from bisect_cli.analysis import analyse
        from bisect_cli.report.summary import summarize

        return summarize(None, self._recorder.state, analyse(self._recorder.state))

    # Kept

    def to_json(self):
        """All that has happened, as a list of plain values, for `from_json`."""
        return json.loads(json.dumps(self._records))

    @classmethod
    def from_json(cls, records):
        """The Bisection that `to_json` was called of. Raises UserError if it was none."""
        try:
            settings = events.fold(records).settings
            by_hand = settings is not None and launchers.find(settings.launcher).by_hand
        except (TypeError, ValueError, KeyError, AttributeError):
            by_hand = False
        if not by_hand:
            raise UserError("from_json: that is no list that to_json returned.")
        found = cls.__new__(cls)
        found._load([dict(record) for record in records])
        return found


def _run(trial):
    return Run(trial.id, trial.flags, trial.seed, trial.attempts, trial.why)


def _id(run):
    return run.id if isinstance(run, Run) else str(run)


def _texts(values):
    """What is given as a number, names or {name: number}, as the command line has it."""
    if values is None:
        return []
    if isinstance(values, dict):
        return [f"{name}={_text(value)}" for name, value in values.items()]
    if isinstance(values, str):
        return [values]
    try:
        return [str(value) for value in values]
    except TypeError:
        return [_text(values)]


def _text(value):
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        return str(value)


def _check_positive(option, number):
    whole = number is None or hasattr(number, "__index__")  # as numpy's have, too
    if not whole or (number is not None and number < 1):
        raise UserError(f"{option}={number}: give a whole number, 1 or more.")


def _spec(flags, metrics, groups):
    """The Spec of a training that nobody here can start."""
    flags = tuple(flag if isinstance(flag, Flag) else Flag(flag) for flag in _listed("flags", flags))
    declared = _listed("metrics", metrics)
    if isinstance(metrics, dict):
        declared = (_metric(name, better) for name, better in metrics.items())
    metrics = tuple(declared)
    for kind, named in (("flag", flags), ("metric", metrics)):
        _check_names(kind, [one.name for one in named])
    names = [flag.name for flag in flags]
    for group, members in groups.items():
        for flag in members:
            if flag not in names:
                raise unknown(f"flag of group {group}", flag, names)
    ordered = [Group(name, tuple(flag for flag in names if flag in members)) for name, members in groups.items()]
    spec = Spec("", flags, tuple(ordered), metrics, tuple(metric.name for metric in metrics))
    spec.check_set(spec.flag_names)
    return spec


def _metric(name, better):
    if better not in BETTER:
        raise UserError(f'metric {name}: write "higher" or "lower": which values are the good ones?')
    return Metric(name, name, higher_is_better=better == "higher")


def _listed(what, values):
    if isinstance(values, str) or not values:
        raise UserError(f"{what}={values!r}: give a list of one or more.")
    return values


def _check_names(kind, names):
    for name in names:
        if not isinstance(name, str) or not name or SEPARATORS & set(name):
            raise UserError(f"{kind} {name!r}: a name is a text without blanks, commas, '=', '+', '/' or braces.")
        if sum(name.lower() == other.lower() for other in names) > 1:
            raise UserError(f"{kind} '{name}': there are two of that name.")
