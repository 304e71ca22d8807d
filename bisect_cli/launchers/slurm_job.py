"""One job of Slurm, from submitted to gone: what its folder says counts, then what Slurm says."""

import contextlib
import json
import os
import time

from bisect_cli.launchers import EVICTED, LOST, Exit, Handle, read_claim

# Of a job that is over, though its run may not be.
FAULTLESS = {
    "PREEMPTED": "preempted",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not boot",
    "TIMEOUT": "it reached the time limit of its job",
    "DEADLINE": "it reached its deadline",
    "CANCELLED": "its job was cancelled from outside",
    "REVOKED": "its job was revoked",
}
OVER = {*FAULTLESS, "COMPLETED", "FAILED", "OUT_OF_MEMORY", "GONE"}
AGAIN = ("PENDING", "REQUEUED", "REQUEUE_HOLD")  # waiting; after a claim: put back into the queue
UNSEEN = 3  # times vanish_seconds, after which a job that runs should have been seen in its folder


class Job(Handle):
    """An attempt as a job. Slurm says whether it lives; the files of its folder say what became of it."""

    def __init__(self, slurm, ticket, folder, reattached=False):
        self.ticket, self.folder = ticket, folder
        self._slurm, self._number = slurm, ticket["job"]
        self._since = time.monotonic()  # when it was submitted or found: what Slurm said before says nothing
        self._to_release = self._doubtful = reattached
        self._later = []  # what Slurm is to do once it is sure that the job is ours
        self._claim, self._listed = None, None
        self._ran_since = None  # when it was first seen running, without a claim
        self._over_since = None  # when it was first seen over, or its heart last beat after that
        self._beat = ""
        self._killed = self._requeued = False

    @property
    def state(self):
        return "queued" if self._claim is None else "running"

    @property
    def node(self):
        return (self._claim or {}).get("node") or (self._listed.node if self._listed else "")

    def go(self):
        self._do("scontrol", "release")

    def ask_to_stop(self):
        self._put_stop()
        if self._claim is None:  # should it begin after all, its agent finds the file
            self._do("scancel", "--state=PENDING")
        else:
            self._do("scancel", "--batch", "--signal=TERM")

    def kill(self):
        if not self._killed:
            self._killed = True
            self._put_stop()  # for an agent that Slurm does not reach
            self._do("scancel", "--signal=KILL", "--full")
            self._do("scancel")

    def poll(self):
        self._look_for_claim()
        end = self._read_end()
        if end:
            return self._exit(end)
        listed = self._slurm.listed(self._number, self._since)
        if not listed:
            return None
        if self._doubtful and not self._is_ours(listed):
            return Exit(None, LOST, f"job {self._number} belongs to a copy of this campaign")
        self._listed = listed if listed.state != "GONE" or not self._listed else self._listed
        if self._claim is not None and listed.state in AGAIN and not self._requeued:
            self._requeued = True
            self._do("scancel")
        if listed.state in OVER or self._requeued:
            return self._without_word(listed)
        self._over_since = None
        if self._to_release and listed.held:
            self.go()
        self._to_release = False
        return self._unseen(listed) if listed.state == "RUNNING" and self._claim is None else None

    def _look_for_claim(self):
        if not (self._claim or {}).get("node"):
            claim = read_claim(self.folder)
            if claim is not None and self._claim is None:
                self._slurm.seen, self._since = True, time.monotonic()
            self._claim = claim if claim is not None else self._claim

    def _do(self, *words):
        if self._doubtful:
            self._later.append(words)
        else:
            self._slurm.scheduler.do([*words, self._number])

    def _is_ours(self, listed):
        """Whether the job of a ticket is that of this folder, not of one that this was copied from."""
        with contextlib.suppress(OSError):
            if listed.workdir and not os.path.samefile(listed.workdir, self.folder):
                return False
        self._doubtful = False
        for words in self._later:
            self._do(*words)
        return True

    def _exit(self, end):
        code, seconds = end.get("code"), end.get("seconds")
        if end.get("asked_to_stop"):
            state = self._listed.state if self._listed else ""
            reason = FAULTLESS.get(state, "it was asked to stop: a time limit, preemption or scancel")
            return Exit(code, EVICTED, reason, seconds)
        return Exit(code, seconds=seconds)

    def _without_word(self, listed):
        """What is to be made of a job that is over, and has not said how. Before it is given up, its heart has to have
        stood still for a while: a node that Slurm has lost sight of may go on.
        """
        now, beat = time.monotonic(), self._beat_now()
        if self._over_since is None or beat != self._beat:
            self._over_since, self._beat = now, beat
            self._put_stop()
        if self._killed:
            return Exit(None)
        if self._claim is None and not self.node and listed.state == "CANCELLED":
            return Exit(None, EVICTED, "its job was cancelled in the queue")
        if now - self._over_since < self._slurm.vanish_seconds:
            return None
        node = f" on {self.node}" if self.node else ""
        if self._claim is None and (listed.node or self._ran_since):
            return self._never_seen(f"ran{node} and ended ({listed.state})")
        if listed.state in FAULTLESS or self._requeued:
            return Exit(None, EVICTED, FAULTLESS.get(listed.state, "it was put back into the queue"))
        if listed.state == "GONE":
            return Exit(None, LOST, f"job {self._number}{node} is gone from the queue, and left no exit.json")
        return Exit(None, reason=f"job {self._number}{node} is over ({listed.state}), and left no exit.json")

    def _unseen(self, listed):
        """What is to be made of a job that runs without a claim."""
        self._ran_since = self._ran_since or time.monotonic()
        if time.monotonic() - self._ran_since < UNSEEN * self._slurm.vanish_seconds:
            return None
        self.kill()
        return self._never_seen(f"has been running on {listed.node} for a while")

    def _never_seen(self, how):
        """A node that does not see the campaign's folder, or lacks Python: hopeless if no other node did any better."""
        words = _last_line(self.folder / "slurm.txt")
        said = f" (it wrote: {words})" if words else ""
        check = f"see whether the node has the folder: srun -w {self.node or 'NODE'} ls -d {self.folder}"
        reason = f"job {self._number} {how}, but nothing of it is seen here{said}; {check}"
        return Exit(None, LOST, reason, seconds=0.0, hopeless=not self._slurm.seen)

    def _read_end(self):
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.folder / "exit.json").read_text())
        return None

    def _beat_now(self):
        with contextlib.suppress(OSError):
            return (self.folder / "heartbeat").read_text()
        return ""

    def _put_stop(self):
        with contextlib.suppress(OSError):
            (self.folder / "stop").touch()


def _last_line(path):
    with contextlib.suppress(OSError):
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else ""
    return ""
