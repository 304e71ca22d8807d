"""What the jobs of all schedulers have in common: an agent of ours stands beside the run, and the files of its folder
say what becomes of it. The scheduler only says whether the job lives.
"""

import contextlib
import os
import time
from pathlib import Path

from bisect_cli.launchers import LOST, Exit, Handle, Launcher, read_claim, read_exit, write_job
from bisect_cli.storage import untrusted

SLOTS = 8  # by default: the cluster's machines are not ours to count
NOW = "now"  # in the file `stop`: the run is not asked first
MOST_BEAT = 64  # bytes of a heartbeat
TRIES = 3  # of one run that no node could start, after which no other will
UNSEEN = 3  # times vanish_seconds, after which a job that runs should have been seen in its folder


def install_agent(folder):
    """Puts the agent into a campaign's folder, from where the nodes read it; returns its path."""
    path = Path(folder) / "agent.py"
    replace(path, Path(__file__).with_name("agent.py").read_text())
    return path


def replace(path, text):
    """Writes a file whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    os.replace(fresh, path)


def prepare_folder(job, vanish_seconds, cpus=None):
    """Makes the folder of a Job ready for an agent. cpus: of the run, for its threads, if that is known."""
    threads = {"OMP_NUM_THREADS": str(cpus)} if cpus else {}
    write_job(job._replace(env={"PYTHONUNBUFFERED": "1", **threads, **job.env}), beat=vanish_seconds / 10)


class AgentLauncher(Launcher):
    """Runs as jobs of a scheduler. uid: of the campaign. seen: whether any node has seen the campaign's folder."""

    queues = True

    def __init__(self, slots=None, options=None, fills_machine=False):
        self.slots, self.options = slots or SLOTS, options or {}
        self.poll_seconds = self.options.get("poll_seconds", 10.0)
        self.vanish_seconds = self.options.get("vanish_seconds", 120.0)  # NFS clients may look once in 60 s
        self.lag = min(self.vanish_seconds, 30.0)
        self.folder, self.uid = None, ""
        self.seen = False

    def close(self):
        self.scheduler.finish(seconds=20)


class AgentJob(Handle):
    """An attempt as a job of a scheduler.

    launcher: an AgentLauncher. reattached: the job of the ticket may be that of a folder which this one was copied
    from, and gets no commands until it has been listed.
    """

    def __init__(self, launcher, ticket, folder, reattached=False):
        self.ticket, self.folder = ticket, folder
        self.launcher = launcher
        self._since = time.monotonic()  # when it was submitted or found: what was listed before says nothing
        self._doubtful = reattached
        self._later = []  # what is to be done once it is sure that the job is ours
        self._claim, self._listed = None, None
        self._ran_since = None  # when it was first seen running, without a claim
        self._over_since = None  # when it was first seen over, or its heart last beat after that
        self._beat = ""
        self._killed = False

    @property
    def state(self):
        return "queued" if self._claim is None else "running"

    @property
    def node(self):
        return (self._claim or {}).get("node") or ""

    def look_for_claim(self):
        if not (self._claim or {}).get("node"):
            claim = read_claim(self.folder)
            if claim is not None and self._claim is None:
                self.launcher.seen, self._since = True, time.monotonic()
            self._claim = claim if claim is not None else self._claim

    def read_end(self):
        """What the agent has noted of the end, None before that."""
        return read_exit(self.folder)

    def exit_of(self, end, outcome, reason):
        """The Exit of what `read_end` has found. outcome, reason: of one that others asked to stop."""
        code, seconds = end["code"], end["seconds"]
        if end["asked_to_stop"]:
            return Exit(code, outcome, reason, seconds)
        return self._not_started(end["error"]) if end["error"] else Exit(code, seconds=seconds)

    def _not_started(self, error):
        """A node that lacks what the run needs: for the node to mend, unless none has done any better."""
        home = self.folder.parent
        tried = [read_exit(folder) for folder in home.glob("attempt-*")]
        hopeless = sum(bool(end and end["error"]) for end in tried) >= TRIES
        hopeless = hopeless and not any(home.parent.glob("*/attempt-*/heartbeat"))
        where = "on no node so far" if hopeless else f"on node {self.node}"
        remedy = "install it there, under the same path as here, or mend the command"
        return Exit(127, LOST, f"{error}, {where}: {remedy}", seconds=0.0, hopeless=hopeless)

    def do(self, command):
        """Has the scheduler do something to the job, as soon as it is sure that it is ours."""
        if self._doubtful:
            self._later.append(command)
        else:
            self.launcher.scheduler.do(command)

    def is_ours(self, folder):
        """Whether a listed job, with its folder, "" where that is not known, is the one of this ticket."""
        with contextlib.suppress(OSError):
            if folder and not os.path.samefile(folder, self.folder):
                return False
        self._doubtful = False
        for command in self._later:
            self.do(command)
        self._later = []
        return True

    def put_stop(self, how=""):
        """Asks the agent to end its run; NOW: at once. One that has not begun yet ends then, too."""
        with contextlib.suppress(OSError), open(self.folder / "stop", "a") as file:
            file.write(how)

    def is_silent(self):
        """Of a job that is over and has not said how: whether its heart has stood still for a while. Before that it is
        not given up: a node that the scheduler has lost sight of may go on.
        """
        now, beat = time.monotonic(), self._beat_now()
        if self._over_since is None or beat != self._beat:
            self._over_since, self._beat = now, beat
            self.put_stop()
        return now - self._over_since >= self.launcher.vanish_seconds

    def is_unseen(self):
        """Whether a job that runs has had no claim for too long."""
        self._ran_since = self._ran_since or time.monotonic()
        return time.monotonic() - self._ran_since >= UNSEEN * self.launcher.vanish_seconds

    def _beat_now(self):
        return untrusted.read_end(self.folder / "heartbeat", MOST_BEAT).decode(errors="replace")
