"""Starting runs: the interface of all launchers.

A launcher takes a Job and gives a Handle in two steps, so that no run can exist that the event log does not know of:
`prepare` makes it exist without running, its `ticket` (plain JSON) is logged, and only then `go` lets it run. Should
the controller die in between, the prepared job ends by itself. `reattach` finds the run of a ticket again from another
controller.
"""

import abc
import importlib
from pathlib import Path
from typing import NamedTuple, Optional

DEFAULT = "local"


class Job(NamedTuple):
    """A command to run in `cwd`, with its output in the files stdout.txt and stderr.txt of `folder`. env: what is added
    to the environment. stop_signal: what asks it to save and end, "TERM" for SIGTERM.
    """

    argv: list
    cwd: str
    folder: Path
    env: dict = {}  # noqa: RUF012 - never written to
    stop_signal: str = "TERM"


class Exit(NamedTuple):
    """How a run ended; code is None where nobody was there to see it."""

    code: Optional[int]


class Handle(abc.ABC):
    """One run, from prepared to gone."""

    ticket: dict

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
    """Runs up to `slots` jobs at once; a slot is a number from 1."""

    slots: int

    @abc.abstractmethod
    def prepare(self, job):
        """A Handle of the job, which waits for `go`."""

    @abc.abstractmethod
    def reattach(self, ticket):
        """A Handle of the run of this ticket if it is still alive, else None."""


def find(name):
    """The class of the Launcher of this name, which is made with the number of slots."""
    return importlib.import_module(f"bisect_cli.launchers.{name}").LAUNCHER
