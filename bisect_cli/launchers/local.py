"""Runs as processes of this machine, each in a session and process group of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from bisect_cli.launchers import Exit, Handle, Launcher, process, write_job

MOST_SLOTS = 8  # by default: a search seldom has more subsets to ask about at once


def cores():
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


class Local(Launcher):
    """Shares the cores evenly: each run is given cores / slots threads, at least one."""

    def __init__(self, slots, options=None):
        self.slots = slots

    @staticmethod
    def default_slots(fills_machine):
        """One run a core: small models gain more from another run than from another thread."""
        return 1 if fills_machine else min(cores(), MOST_SLOTS)

    def prepare(self, job):
        threads = max(1, cores() // self.slots)
        write_job(job._replace(env={"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1", **job.env}))
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
        return _Started(popen, opens)

    def reattach(self, ticket, folder):
        if ticket.get("host") != socket.gethostname():
            return None
        pid = ticket["pid"]
        if process.identity(pid) == ticket["identity"]:
            return _Reattached(ticket)
        if process.identity(pid) is None and ticket["identity"].startswith(process.boot()):
            process.signal_group(pid, signal.SIGKILL)  # what a dead run has left of its group
        return None


class _Process(Handle):
    """A process group by its leader, the agent. It alone is asked to stop, and asks the run, which knows how to end
    its own helpers.
    """

    def ask_to_stop(self):
        pid = self.ticket["pid"]
        if process.identity(pid) == self.ticket["identity"]:
            os.kill(pid, signal.SIGTERM)

    def kill(self):
        process.signal_group(self.ticket["pid"], signal.SIGKILL)


class _Started(_Process):
    """A child of this process."""

    def __init__(self, popen, opens):
        self._popen, self._opens = popen, opens
        self.ticket = {
            "host": socket.gethostname(),
            "pid": popen.pid,
            "identity": process.identity(popen.pid) or "gone",
        }

    def go(self):
        with contextlib.suppress(BrokenPipeError):  # already killed; `poll` tells
            os.write(self._opens, b"1")
        os.close(self._opens)

    def poll(self):
        code = self._popen.poll()
        if code is None:
            return None
        self.kill()
        return Exit(code)


class _Reattached(_Process):
    """A process that an earlier controller started; its exit code is not ours to see."""

    def __init__(self, ticket):
        self.ticket = ticket

    def go(self):
        """It is under way already."""

    def poll(self):
        now = process.identity(self.ticket["pid"])
        if now == self.ticket["identity"]:
            return None
        if now is None:  # else the id is another process's by now
            self.kill()
        return Exit(None)


LAUNCHER = Local
