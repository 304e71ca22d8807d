"""One job of Slurm, from submitted to gone: what its folder says counts, then what Slurm says."""

import re

from bisect_cli.launchers import EVICTED, LOST, Exit
from bisect_cli.launchers.agent_job import NOW, AgentJob
from bisect_cli.storage import untrusted

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
MOST_WORDS = 4096  # bytes at the end of what a job has written
STUCK = re.compile(  # reasons of a job that waits which pass only if somebody mends something
    "^(Partition(TimeLimit|NodeLimit|Down|Inactive)|(Account|QOS)NotAllowed|Invalid(Account|QOS)|BadConstraints|"
    "JobHeldAdmin)$|PerJob"
)
AGAIN = ("PENDING", "REQUEUED", "REQUEUE_HOLD")  # waiting; after a claim: put back into the queue


class Job(AgentJob):
    """An attempt as a job of Slurm."""

    def __init__(self, slurm, ticket, folder, reattached=False):
        super().__init__(slurm, ticket, folder, reattached)
        self._number = ticket["job"]
        self._to_release, self._requeued = reattached, False

    @property
    def node(self):
        return super().node or (self._listed.node if self._listed else "")

    @property
    def stuck(self):
        waits = self._claim is None and self._listed and self._listed.state == "PENDING"
        return self._listed.reason if waits and STUCK.search(self._listed.reason) else ""

    def go(self):
        self._call("scontrol", "release")

    def ask_to_stop(self):
        self.put_stop()
        if self._claim is None:  # should it begin after all, its agent finds the file
            self._call("scancel", "--state=PENDING")
        else:
            self._call("scancel", "--batch", "--signal=TERM")

    def kill(self):
        if not self._killed:
            self._killed = True
            self.put_stop(NOW)  # for an agent that Slurm does not reach
            self._call("scancel", "--signal=KILL", "--full")
            self._call("scancel")

    def poll(self):
        self.look_for_claim()
        end = self.read_end()
        if end:
            state = self._listed.state if self._listed else ""
            reason = FAULTLESS.get(state, "it was asked to stop: a time limit, preemption or scancel")
            return self.exit_of(end, EVICTED, reason)
        listed = self.launcher.listed(self._number, self._since)
        if not listed:
            return None
        if self._doubtful and not self.is_ours(listed.workdir):
            return Exit(None, LOST, f"job {self._number} belongs to a copy of this campaign")
        self._listed = listed if listed.state != "GONE" or not self._listed else self._listed
        if self._claim is not None and listed.state in AGAIN and not self._requeued:
            self._requeued = True
            self._call("scancel")
        if listed.state in OVER or self._requeued:
            return self._without_word(listed)
        self._over_since = None
        if self._to_release and listed.held:
            self.go()
        self._to_release = False
        return self._unseen(listed) if listed.state == "RUNNING" and self._claim is None else None

    def _call(self, *words):
        self.do([*words, self._number])

    def _without_word(self, listed):
        """What is to be made of a job that is over, and has not said how."""
        silent = self.is_silent()
        if self._killed:
            return Exit(None)
        if self._claim is None and not self.node and listed.state == "CANCELLED":
            return Exit(None, EVICTED, "its job was cancelled in the queue")
        if not silent:
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
        if not self.is_unseen():
            return None
        self.kill()
        return self._never_seen(f"has been running on {listed.node} for a while")

    def _never_seen(self, how):
        """A node that does not see the campaign's folder, or lacks Python: hopeless if no other node did any better."""
        words = _last_line(self.folder / "slurm.txt")
        said = f" (it wrote: {words})" if words else ""
        check = f"see whether the node has the folder: srun -w {self.node or 'NODE'} ls -d {self.folder}"
        if "exec: " in words:  # of the script, which the node could read the folder for
            check = "the node lacks that Python: name one of its own, --launcher-option python=PATH"
        reason = f"job {self._number} {how}, but nothing of it is seen here{said}; {check}"
        return Exit(None, LOST, reason, seconds=0.0, hopeless=not self.launcher.seen)


def _last_line(path):
    text = untrusted.read_end(path, MOST_WORDS).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
