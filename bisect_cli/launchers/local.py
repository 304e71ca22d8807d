"""Runs as processes of this machine, each in a session and process group of its own.

A run is its agent and all that descends from it, or has its mark (`process`). Its ticket names the agent by host, id,
boot and start time, and has what makes the mark. Where any of that does not hold, nothing is signalled.

Where there are GPUs, a run is given its own. Which one it has stands in its ticket, so that a later controller gives it
to nobody else as long as the run lives.
"""

import contextlib
import functools
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

from bisect_cli.launchers import Exit, Handle, Launcher, Option, Unavailable, gpus, process, read_exit, write_job

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
        token = secrets.token_hex(16)
        mark = process.mark(token, job.folder)
        waits, opens = os.pipe()
        try:
            with open(job.folder / "stdout.txt", "ab") as out, open(job.folder / "stderr.txt", "ab") as err:
                popen = subprocess.Popen(
                    [*agent, str(waits), str(job.folder.resolve())],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env={**os.environ, **process.environment(mark)},
                    pass_fds=(waits,),
                    start_new_session=True,
                )
        except BaseException:
            os.close(opens)
            raise
        finally:
            os.close(waits)
        ticket = {**process.where(), "pid": popen.pid, "identity": process.identity(popen.pid) or "gone"}
        ticket.update({"mark": token, **({"gpus": list(own)} if own else {})})
        return _Started(popen, opens, ticket, mark, self._handles)

    def reattach(self, ticket, folder):
        self._to_reattach = [other for other in self._to_reattach if other != ticket]
        if process.place(ticket) != process.HERE:
            return None
        mark = process.mark(ticket.get("mark"), folder)
        if _is_alive(ticket):
            ours = process.has_mark(ticket["pid"], mark) if mark else _is_unmarked(ticket["pid"], folder)
            return _Reattached(ticket, mark, self._handles) if ours else None
        process.end_all(mark)  # what a dead run has left
        return None

    def elsewhere(self, ticket, folder):
        if process.place(ticket) != process.ELSEWHERE or read_exit(folder):
            return ""
        other = ticket["host"] != process.where()["host"]
        return f"on host {ticket['host']}" if other else f"in another container of the host name {ticket['host']}"


def gpus_of(ticket):
    """The names of the GPUs that the run of a ticket has."""
    names = ticket.get("gpus")
    return [str(name) for name in names] if isinstance(names, list) else []


def _is_alive(ticket):
    """Whether the process is alive that a ticket names, be it ours or not."""
    known = ticket.get("identity")
    return process.place(ticket) == process.HERE and process.identity(ticket.get("pid")) == known is not None


def _is_unmarked(pid, folder):
    """Whether a process is the agent of an attempt's folder, from before there were marks."""
    with contextlib.suppress(OSError, ValueError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        named = any(os.path.basename(word) == b"agent.py" for word in words)
        return named and os.path.samefile(os.fsdecode(words[-1]), folder)
    return False


class _Process(Handle):
    """A run by its agent, which alone is asked to stop, and asks the run, which knows how to end its own helpers. mark:
    of all its processes, None if they have none. alive: the list that it is in as long as it may be alive.
    """

    def __init__(self, ticket, mark, alive):
        self.ticket, self._mark, self._alive = ticket, mark, alive
        self._exit = None
        alive.append(self)

    def ask_to_stop(self):
        process.signal_one(self.ticket["pid"], self.ticket["identity"], signal.SIGTERM)

    def kill(self):
        process.end_all(self._mark, self.ticket["pid"] if _is_alive(self.ticket) else None)

    def _ended(self, code):
        """Its Exit, once nothing is left of it; what it had is free now."""
        if self._exit is None:
            process.end_all(self._mark)
            self._alive.remove(self)
            self._exit = Exit(code)
        return self._exit


class _Started(_Process):
    """A child of this process. opens: the end of the pipe that lets it begin."""

    def __init__(self, popen, opens, ticket, mark, alive):
        super().__init__(ticket, mark, alive)
        self._popen, self._opens = popen, opens

    def go(self):
        with contextlib.suppress(BrokenPipeError):  # already killed; `poll` tells
            os.write(self._opens, b"1")
        os.close(self._opens)

    def kill(self):
        super().kill()
        if self._popen.returncode is None:  # so the group is still its own, also where it has exited
            process.signal_group(self._popen.pid, signal.SIGKILL)

    def poll(self):
        if self._popen.returncode is None:
            if not _has_exited(self._popen):
                return None
            process.signal_group(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
        return self._ended(self._popen.returncode)


class _Reattached(_Process):
    """A process that an earlier controller started; its exit code is not ours to see."""

    def go(self):
        """It is under way already."""

    def poll(self):
        return None if _is_alive(self.ticket) else self._ended(None)


def _has_exited(popen):
    """Whether a child has ended. It is not waited for yet, as long as the system can tell, so that its id stays its
    own.
    """
    with contextlib.suppress(AttributeError, ChildProcessError):
        return os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return popen.poll() is not None


LAUNCHER = Local
