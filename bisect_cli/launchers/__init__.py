"""Starting runs: the interface of all launchers.

A launcher takes a Job and gives a Handle in two steps, so that no run can exist that the event log does not know of:
`prepare` makes it exist without running, its `ticket` (plain JSON) is logged, and only then `go` lets it run. Should
the controller die in between, the prepared job ends by itself. `reattach` finds the run of a ticket again from another
controller.
"""

import abc
import importlib
import json
import os
import time
from pathlib import Path
from typing import NamedTuple, Optional

from bisect_cli.errors import UserError, unknown
from bisect_cli.storage import untrusted

DEFAULT = "local"
NAMES = (DEFAULT, "slurm", "ray", "manual")
NOTES = ("exit.json", "claim.json", "software.json", "stop", "heartbeat")  # what an agent leaves, or is left
OUTPUTS = ("job.json", "stdout.txt", "stderr.txt")  # of a Job's folder, too; what is written on is kept
MOST_NAME, MOST_CODE, MOST_WORDS = 255, 1 << 16, 1000  # of a node, in signs; of an exit; of an error, in signs
EVICTED, LOST = "evicted", "lost"  # outcomes that are no fault of the run's, so that they cost no attempt


class Unavailable(Exception):
    """No job can be taken now; later it may be. The text says why."""


class Job(NamedTuple):
    """A command to run in `cwd`, with its output in the files stdout.txt and stderr.txt of `folder`. env: what is added
    to the environment. stop_signal: what asks it to save and end, "TERM" for SIGTERM; grace: the seconds it then has.
    key: its name, of which there is one in a campaign. avoid: nodes that it is not to run on. of: whose it is, plain
    JSON that the agent notes at its end, too. software: as of trainers.Command; the agent of a scheduler's
    job notes digests of what it prints (`read_software`).
    """

    argv: list
    cwd: str
    folder: Path
    env: dict = {}  # noqa: RUF012 - never written to
    stop_signal: str = "TERM"
    grace: float = 60.0
    key: str = ""
    avoid: tuple = ()
    of: dict = {}  # noqa: RUF012 - never written to
    software: dict = {}  # noqa: RUF012 - never written to


def write_job(job, **more):
    """Makes the folder of a Job, with job.json in it: what is to run, for the agent and for readers. What an earlier
    job has left there is no longer found. Raises OSError.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    for path in (job.folder / name for name in (*NOTES, *OUTPUTS)):
        if path.is_dir() or (path.name in OUTPUTS and os.path.lexists(path) and not path.is_file()):
            path.rename(path.with_name(f"{path.name}.kept-{time.time_ns()}"))  # no run could write there
        elif path.name in NOTES:
            path.unlink(missing_ok=True)
    words = {"argv": list(map(str, job.argv)), "cwd": str(job.cwd), "env": job.env, "stop_signal": job.stop_signal}
    record = {**words, "grace": job.grace, "of": job.of, "software": job.software, **more}
    (job.folder / "job.json").write_text(json.dumps(record, allow_nan=False))


def read_claim(folder):
    """What the agent has noted of where and since when the run of a Job's folder goes, as {"node", "started"}; {} for a
    note that is being written, None before it has begun.
    """
    try:
        claim = untrusted.read_object(Path(folder) / "claim.json") or {}
    except OSError:
        return None
    node, started = claim.get("node"), untrusted.amount(claim.get("started"))
    named = isinstance(node, str) and node.isprintable() and len(node) <= MOST_NAME
    return {**({"node": node} if named else {}), **({} if started is None else {"started": started})}


def read_argv(folder):
    """The command of the run of a Job's folder, None if that is not known."""
    try:
        argv = (untrusted.read_object(Path(folder) / "job.json") or {}).get("argv")
    except OSError:
        return None
    return argv if isinstance(argv, list) and all(isinstance(word, str) for word in argv) else None


def read_software(folder):
    """{text: digest} of what the commands of the Job's `software` printed where its run goes; {} if it is not known."""
    try:
        found = untrusted.read_object(Path(folder) / "software.json") or {}
    except OSError:
        return {}
    return {text: digest for text, digest in found.items() if isinstance(digest, str) and digest.isalnum()}


def read_exit(folder):
    """What the agent has noted of the end of the run of a Job's folder: {"code", "asked_to_stop", "seconds", "of",
    the Job's, and "error", why it could not be started}; None before it has ended, and where that is not known.
    """
    try:
        end = untrusted.read_object(Path(folder) / "exit.json") or {}
    except OSError:
        return None
    code, seconds, of = end.get("code"), untrusted.amount(end.get("seconds")), end.get("of")
    if type(code) is not int or abs(code) > MOST_CODE or seconds is None:
        return None
    asked, error = end.get("asked_to_stop") is True, end.get("error")
    error = error[:MOST_WORDS] if isinstance(error, str) and error.isprintable() else ""
    of = of if isinstance(of, dict) else {}
    return {"code": code, "asked_to_stop": asked, "seconds": seconds, "of": of, "error": error}


class Exit(NamedTuple):
    """How a run ended; code is None where nobody was there to see it. outcome: of the attempt, with the reason, where
    it is not for the code to say: EVICTED or LOST. seconds: how long it ran, if that is known. hopeless: any other run
    would end the same.
    """

    code: Optional[int]
    outcome: str = ""
    reason: str = ""
    seconds: Optional[float] = None
    hopeless: bool = False


class Handle(abc.ABC):
    """One run, from prepared to gone. state: "queued" until it has begun on its node, then "running". stuck: why it
    never will by itself, or "".
    """

    ticket: dict
    state: str = "running"
    node: str = ""
    stuck: str = ""

    @abc.abstractmethod
    def go(self):
        """Lets a prepared run begin."""

    @abc.abstractmethod
    def poll(self):
        """None while the run is alive, then its Exit. Nothing of it runs any more after that."""

    @abc.abstractmethod
    def ask_to_stop(self):
        """Asks the run to save and end."""

    @abc.abstractmethod
    def kill(self):
        """Ends the run, and all that it started, at once."""


class Launcher(abc.ABC):
    """Runs up to `slots` jobs at once; a slot is a number from 1. Made with that number, None for as many as suit where
    the runs are, with its options, {name: value}, and with whether each run fills a machine.

    by_hand: people start the runs, and say how they ended (`ask` and `tell`), so no process holds the campaign. queues:
    a run may wait before it begins, and then notes its node and its start in claim.json. OPTIONS: {name: Option}. lag:
    seconds after which what a run has done is surely seen here. trouble: why nothing is known of the runs now, or "".
    notes: what the user should know before any run, in sentences.
    """

    slots: int
    by_hand: bool = False
    queues: bool = False
    OPTIONS: dict = {}  # noqa: RUF012 - never written to
    lag: float = 0.0
    trouble: str = ""
    notes: tuple = ()

    def check(self):  # noqa: B027 - most need nothing
        """Raises UserError if no run can be started from here with these options."""

    def open(self, folder, uid, tickets):  # noqa: B027 - most need nothing
        """The launcher is to serve a campaign: its folder, a text that it alone has, and the tickets of its runs. What
        an earlier controller has prepared and never logged is taken back.
        """

    @property
    def ready(self):
        """Whether a job can be taken now."""
        return True

    @abc.abstractmethod
    def prepare(self, job):
        """A Handle of the job, which waits for `go`. Raises Unavailable."""

    @abc.abstractmethod
    def reattach(self, ticket, folder):
        """A Handle of the run of this ticket if it may still be alive, else None. folder: of the Job."""

    def elsewhere(self, ticket, folder):
        """Where the run of this ticket may still be alive, out of reach from here, in words as "on host gpu07"; ""
        where `reattach` can tell. folder: of the Job.
        """
        return ""

    def refresh(self):  # noqa: B027 - most need nothing
        """Looks at all runs at once, if it is time for that. Called at every look of a controller; never waits."""

    def close(self):  # noqa: B027 - most need nothing
        """The campaign is left; what has been asked for is done, if that is possible soon."""


class Option(NamedTuple):
    """An option of a launcher. kind: what makes a value of a text."""

    kind: type
    help: str


def find(name):
    """The class of the Launcher of this name. Raises UserError if there is none."""
    if name not in NAMES:
        raise unknown("launcher", name, NAMES)
    return importlib.import_module(f"bisect_cli.launchers.{name}").LAUNCHER


def parse_options(name, texts, written="--launcher-option {}"):
    """The options of a launcher, {name: plain value}, from several (name, text). One that is a list may be there
    several times. Raises UserError where one is not known, or no such value; written: how the user has written its
    name, {}.
    """
    known, options = find(name).OPTIONS, {}
    for key, text in texts:
        if key not in known:
            hint = unknown(f"option of launcher {name}", key, known) if known else f"launcher {name} has no options."
            raise UserError(f"{written.format(key)}: {hint}")
        kind = known[key].kind
        try:
            text = ",".join(map(str, text)) if kind is str and isinstance(text, list) else text
            value = kind(text) if kind is not list else [*options.get(key, []), *_words(text)]
            if kind in (int, float) and not 0 < value < 1e9:
                raise ValueError
        except (TypeError, ValueError):
            what = {int: "a whole number above 0", float: "a number above 0", list: "a list of words"}[kind]
            wrong = f"{written.format(key)}: {text!r} is not right"
            raise UserError(f"{wrong}: write {what} ({known[key].help}).") from None
        options[key] = value
    return options


def _words(value):
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError
    return value
