"""What can be bisected: the interface of all trainers.

A trainer is a module of this package, or stands in one, as its `TRAINER`. It declares its options and a Spec, makes the
command of a run, and says how that command is asked to check its arguments. How runs report is the same for all
(`runfiles`). Nothing else in the program knows a trainer, and only its own module may import the training.
"""

import abc
import importlib
import os
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from bisect_cli.campaign.spec import Spec
from bisect_cli.errors import UserError
from bisect_cli.trainers import runfiles

DEFAULT = "maskrcnn"
USER_ERROR = 2  # exit code of a refusal: a retry would end the same


class Option(NamedTuple):
    """An option of `start` that belongs to a trainer. name: in the Spec's options. type: "text", "path" or "number".
    parity: `parity` takes it, too.
    """

    name: str
    switch: str
    help: str
    type: str = "text"
    default: Any = None
    multiple: bool = False
    metavar: str = ""
    show_default: bool = False
    parity: bool = False


class Command(NamedTuple):
    """What runs an attempt: a command and where, what is added to its environment, and the signal that asks it to save
    and end. software: {part of the fingerprint: {"argv", "cwd"}} of commands whose output hangs on the machine.
    """

    argv: list
    cwd: str
    env: dict = {}  # noqa: RUF012 - never written to
    stop_signal: str = "TERM"
    software: dict = {}  # noqa: RUF012 - never written to


class Trainer(abc.ABC):
    """A training that can be bisected. Free of state: all that a campaign needs is in its Settings.

    A run lives in its trial's folder, `home`: `out` in it is the trainer's and shared by all attempts, so that a
    further one resumes; `attempt-<k>` has the output of each.
    """

    options: tuple = ()

    @abc.abstractmethod
    def spec(self, options) -> Spec:
        """What the trainer declares with these options, {name: value}; missing ones have their defaults. Raises
        UserError for values that make no sense.
        """

    def legacy_spec(self, settings) -> Spec:
        """The Spec of a campaign from before these were stored, from its settings as they stand in the log."""
        return self.spec({option.name: settings[option.name] for option in self.options if option.name in settings})

    @abc.abstractmethod
    def command(self, settings, flags, seed, home, attempt=1) -> Command:
        """What runs an attempt of a trial. Raises UserError if it cannot be made."""

    def prepare(self, settings, flags, seed, home, attempt):
        """Makes on disk what an attempt needs, beside its folder `out`. Raises UserError if it cannot be made."""
        runfiles.set_aside(home / "out", attempt)

    def release(self, settings, home):  # noqa: B027 - most need nothing
        """Removes from disk what no further attempt of a trial will need."""

    def progress(self, settings, home):
        """How far a run is, as runfiles.Progress, or None."""
        return runfiles.progress(home / "out")

    def curve(self, settings, home):
        """The evaluations of a run so far, as runfiles.Curve."""
        return runfiles.curve(home / "out", map(settings.metric, settings.metrics))

    def result(self, settings, home, attempt):
        """What a run ended with, as runfiles.Result, or why it has no result, as a sentence ("" if its end says it)."""
        return runfiles.result(home / "out", list(map(settings.metric, settings.metrics)))

    def whose(self, settings, home):
        """[(name, object)] of what says of a run's `out` whose it is, by its flags and seed, as far as they are there:
        {"flags": [names], "seed": number}.
        """
        return runfiles.whose(home / "out")

    def fingerprint_now(self, settings):
        """What a run would be computed with now, if that can be found out at once, else None."""
        return None

    def grace(self, settings):
        """Seconds that a run asked to stop has to save, before it is killed."""
        return 60

    def refusals(self, settings):
        """The exit codes that say that the user made a mistake: a retry would end the same."""
        return (USER_ERROR,)

    def check_command(self, settings, out):
        """The Command that checks the arguments of a run and trains nothing. None if there is none."""
        return None

    def check_answer(self, settings, text):
        """What a run would be computed with now, its fingerprint, as the output of that command says it; None if it
        does not. Raises UserError if it says that a metric of the campaign will not be reported.
        """
        return None

    def reports(self, settings, home):
        """The files of a run that `progress`, `curve` and `result` read, relative to `home`."""
        return [Path("out") / name for name in ("metrics.jsonl", "result.json")]

    def parity_argv(self, settings, file, case=None):
        """The command that compares the implementations of each flag and writes what it finds to `file`, as
        `trainers.parity` reads it. None if there is no such command.
        """
        return None

    def has_parity(self, settings):
        """Whether the parity command is surely there, so that its refusal is worth a word of its own."""
        return self.parity_argv(settings, "file") is not None

    def first_look(self, settings):
        """The step at which a run is evaluated so that it can be stopped early; 0 if that is not ours to say."""
        return 0

    def fills_machine(self, settings):
        """Whether a run takes a whole machine, so that one goes at a time."""
        return False

    def duration_key(self, spec):
        """What the duration of a run depends on: of runs with the same, earlier ones tell how long one takes."""
        return [spec.trainer, spec.options]

    def notes(self, settings):
        """What a user should know of these settings, in sentences."""
        return ()

    def missing(self, settings):
        """What has to be installed before it can train, in a sentence; "" if nothing."""
        return ""


def find(name):
    """The Trainer of this name. Raises UserError if there is none."""
    try:
        return importlib.import_module(f"bisect_cli.trainers.{name}").TRAINER
    except (ModuleNotFoundError, AttributeError):
        raise UserError(f"unknown trainer '{name}': this version of maskrcnn-bisect has none of that name.") from None


def trainer_of(settings):
    """The Trainer of a campaign's Settings."""
    return find(settings.spec.trainer)


def upgraded(record):
    """A record of a log, as it would be written today: campaigns from before there were specs were all of the default
    trainer.
    """
    if record.get("kind") != "created" or "spec" in record:
        return record
    return {**record, "spec": find(DEFAULT).legacy_spec(record["settings"]).to_json()}


def workdir(settings):
    """Where runs are started: where the campaign was, if that folder is still there."""
    return settings.workdir if os.path.isdir(settings.workdir) else os.getcwd()


def as_shell(command):
    """A command as text that can be pasted into a shell."""
    return shlex.join(str(word) for word in command)
