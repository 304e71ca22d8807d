"""Runs as processes of this machine, each in a session and process group of its own.

Where there are GPUs, a run is given its own. Which one it has stands in its ticket, so that a later controller gives it
to nobody else as long as the run lives.
"""

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from bisect_cli.launchers import Exit, Handle, Launcher, Option, Unavailable, gpus, process, write_job

MOST_SLOTS = 8  # by default: a search seldom has more subsets to ask about at once


def cores():
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


class Local(Launcher):
    """Shares the cores evenly: each run is given cores / slots threads, at least one."""

    OPTIONS = {  # noqa: RUF012 - never written to
        "gpus": Option(str, "as 0,1 or all; none: runs are given none"),
        "gpus_per_run": Option(int, "GPUs of a run"),
        "runs_per_gpu": Option(int, "runs that share a GPU"),
    }

    def __init__(self, slots=None, options=None, fills_machine=False):
        self._slots, self.options, self.fills_machine = slots, options or {}, fills_machine
        self._handles = []  # of runs that have GPUs and may still be alive
        self._to_reattach = []  # tickets of runs that an earlier controller started

    @property
    def slots(self):
        """By default a run for each GPU or, without any, for each core: small models gain more from another run than
        from another thread.
        """
        without_gpus = 1 if self.fills_machine else min(cores(), MOST_SLOTS)
        return self._slots or self._share.slots or without_gpus

    @functools.cached_property
    def _share(self):
        return gpus.share(self.options, self._slots, self.fills_machine)

    @property
    def notes(self):
        trouble = "" if self._share.names or "gpus" in self.options else gpus.machine().trouble
        if trouble:
            yield f"nvidia-smi fails ({trouble}), so runs are given no GPU: say --gpus 0,1 or --gpus none."

    def check(self):
        _ = self._share

    def open(self, folder, uid, tickets):
        self._to_reattach = list(tickets)

    @property
    def ready(self):
        return self._free() is not None

    def _free(self):
        """The GPUs of a run that would start now, None if there are not enough."""
        waiting = [ticket for ticket in self._to_reattach if _is_alive(ticket)]
        tickets = [*waiting, *(handle.ticket for handle in self._handles)]
        return self._share.pick([name for ticket in tickets for name in gpus_of(ticket)])

    def prepare(self, job):
        own = self._free()
        if own is None:
            raise Unavailable("no GPU is free")
        threads = max(1, cores() // self.slots)
        env = {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1", **self._share.environment(own)}
        write_job(job._replace(env={**env, **job.env}))
        agent = [sys.executable, "-I", "-S", str(Path(__file__).with_name("agent.py"))]
        waits, opens = os.pipe()
        try:
            with open(job.folder / "stdout.txt", "ab") as out, open(job.folder / "stderr.txt", "ab") as err:
                popen = subprocess.Popen(
                    [*agent, str(waits), str(job.folder.resolve())],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    pass_fds=(waits,),
                    start_new_session=True,
                )
        except BaseException:
            os.close(opens)
            raise
        finally:
            os.close(waits)
        return _Started(popen, opens, own, self._handles)

    def reattach(self, ticket, folder):
        self._to_reattach = [other for other in self._to_reattach if other != ticket]
        if ticket.get("host") != socket.gethostname():
            return None
        pid = ticket["pid"]
        if _is_alive(ticket):
            return _Reattached(ticket, self._handles)
        if process.identity(pid) is None and ticket["identity"].startswith(process.boot()):
            process.signal_group(pid, signal.SIGKILL)  # what a dead run has left of its group
        return None


def gpus_of(ticket):
    """The names of the GPUs that the run of a ticket has."""
    names = ticket.get("gpus")
    return [str(name) for name in names] if isinstance(names, list) else []


def _is_alive(ticket):
    here = ticket.get("host") == socket.gethostname()
    return here and process.identity(ticket["pid"]) == ticket["identity"]


class _Process(Handle):
    """A process group by its leader, the agent. It alone is asked to stop, and asks the run, which knows how to end
    its own helpers. alive: the list that it is in as long as it may be alive.
    """

    def __init__(self, ticket, alive):
        self.ticket, self._alive = ticket, alive
        alive.append(self)

    def ask_to_stop(self):
        pid = self.ticket["pid"]
        if process.identity(pid) == self.ticket["identity"]:
            os.kill(pid, signal.SIGTERM)

    def kill(self):
        process.signal_group(self.ticket["pid"], signal.SIGKILL)

    def _ended(self, code):
        """Its Exit; what it had is free now."""
        if self in self._alive:
            self._alive.remove(self)
        return Exit(code)


class _Started(_Process):
    """A child of this process, with these GPUs."""

    def __init__(self, popen, opens, own, alive):
        self._popen, self._opens = popen, opens
        identity = process.identity(popen.pid) or "gone"
        ticket = {"host": socket.gethostname(), "pid": popen.pid, "identity": identity}
        super().__init__({**ticket, **({"gpus": list(own)} if own else {})}, alive)

    def go(self):
        with contextlib.suppress(BrokenPipeError):  # already killed; `poll` tells
            os.write(self._opens, b"1")
        os.close(self._opens)

    def poll(self):
        code = self._popen.poll()
        if code is None:
            return None
        self.kill()
        return self._ended(code)


class _Reattached(_Process):
    """A process that an earlier controller started; its exit code is not ours to see."""

    def go(self):
        """It is under way already."""

    def poll(self):
        now = process.identity(self.ticket["pid"])
        if now == self.ticket["identity"]:
            return None
        if now is None:  # else the id is another process's by now
            self.kill()
        return self._ended(None)


LAUNCHER = Local
