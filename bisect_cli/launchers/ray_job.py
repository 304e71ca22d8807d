"""One job of Ray, from submitted to gone: what its folder says counts, then what Ray says."""

import json
import os
import signal
import time

from bisect_cli.launchers import EVICTED, LOST, Exit, ray_api
from bisect_cli.launchers.agent_job import NOW, AgentJob, replace

OVER = ("STOPPED", "SUCCEEDED", "FAILED", "GONE")
LOST_BY_RAY = "Ray lost its job, mostly with the node or its memory"
UNASKED = "it was asked to stop before it began"


class Job(AgentJob):
    """An attempt as a job of Ray. It may be submitted again under its key, as long as no agent has claimed it: whoever
    creates claim.json decides whether it begins, be it an agent or, to take it back, we.
    """

    def __init__(self, ray, ticket, folder, avoid=(), reattached=False):
        super().__init__(ray, ticket, folder, reattached)
        self._key, self._avoid = ticket["key"], avoid
        self._again_at = None  # when it is submitted again
        self._withdrawn = ""  # why it was taken back before it began

    @property
    def node(self):
        return super().node or (self._listed.node if self._listed else "")

    def go(self):
        self.launcher.submit(self._key, self.folder, self._avoid)

    def ask_to_stop(self):
        self.put_stop()
        if self._claim is None:
            self._withdraw(UNASKED)

    def kill(self):
        if not self._killed:
            self._killed = True
            self.put_stop(NOW)
            if not self._withdraw(UNASKED):
                self.do(ray_api.stop(self._key))

    def poll(self):
        listed = self.launcher.listed(self._key, self._since)  # first: whoever is over has noted its end before
        self.look_for_claim()
        if self._claim is not None:
            self.launcher.early_ends.pop(self._key, None)
        if self._withdrawn:
            return Exit(None, EVICTED, self._withdrawn)
        end = self.read_end()
        if end:
            return self.exit_of(end, EVICTED, self._why(listed))
        refusal = self.launcher.refusals.get(self._key)
        if refusal and self._claim is None:
            return self._refused(refusal)
        if not listed:
            return None
        if self._doubtful and not self.is_ours(listed.folder):
            return Exit(None, LOST, f"job {self._key} belongs to a copy of this campaign")
        self._listed = listed
        if listed.status in OVER:
            return self._without_word(listed) if self._claim is not None else self._not_begun(listed)
        self._over_since = None
        if listed.status == "RUNNING" and self._claim is None and self.is_unseen():
            self.kill()
            return self._never_seen("has been running for a while")
        return None

    def _not_begun(self, listed):
        """What is to be made of a job that is over without a claim."""
        if listed.status == "GONE" or listed.waited:
            return self._again(listed)  # whatever is to be avoided: there may be no other nodes
        why = (listed.message.strip().splitlines() or [f"job {self._key} has failed"])[0]
        if listed.impossible:
            return self._refused(why) if self._withdraw(why) else None
        if listed.died or (listed.status == "FAILED" and not listed.node):
            self.launcher.early_ends[self._key] = f"Ray ended a job before it began, and is asked again: {why}"
            return self._again(listed, (*self._avoid, listed.node), self.launcher.poll_seconds)
        if not self._withdraw("its job was stopped before it began"):
            return None
        if listed.status == "STOPPED":
            return Exit(None, EVICTED, self._withdrawn)
        return self._never_seen(f"has ended ({listed.status})")

    def _again(self, listed, avoid=(), seconds=0.0):
        """Has Ray take the job once more, in a while. It cannot be there twice, as it is Ray's one job of its key."""
        self._again_at = self._again_at or time.monotonic() + seconds
        if time.monotonic() >= self._again_at:
            self._again_at = None
            if listed.status != "GONE":
                self.do(ray_api.delete(self._key))
            self.launcher.submit(self._key, self.folder, avoid)

    def _without_word(self, listed):
        """What is to be made of a job that has begun, is over, and has not said how."""
        silent = self.is_silent()
        if self._killed and listed.status == "STOPPED":
            return Exit(None)
        if not silent:
            return None
        node = f" on {self.node}" if self.node else ""
        if listed.status == "STOPPED" or listed.died:
            return Exit(None, EVICTED, self._why(listed))
        if listed.status == "FAILED":
            return Exit(None, reason=f"job {self._key}{node} has failed, and left no exit.json")
        return Exit(None, LOST, f"job {self._key}{node} is gone ({listed.status.lower()}), and left no exit.json")

    def _why(self, listed):
        """Why a run ends that we have not asked to."""
        return LOST_BY_RAY if listed and listed.died else "its job was stopped from outside"

    def _refused(self, words):
        return Exit(None, LOST, f"Ray refuses a run: {words}; mend --launcher-option.", hopeless=True)

    def _never_seen(self, how):
        """Nodes that do not see the campaign's folder, or lack Python: hopeless if none did any better."""
        lines = [line.strip() for line in (self._listed.message if self._listed else "").splitlines() if line.strip()]
        said = f" (it wrote: {lines[-1]})" if lines else ""
        check = f"see whether its node, {self._listed.node[:8] or 'any'}, has the folder: ls -d {self.folder}"
        if "not found" in said:  # of the shell, which knows no such program
            check = "the node lacks that Python: name one of its own, --launcher-option python=PATH"
        reason = f"job {self._key} {how}, but nothing of it is seen here{said}; {check}"
        return Exit(None, LOST, reason, seconds=0.0, hopeless=not self.launcher.seen)

    def _withdraw(self, why):
        """Claims the attempt ourselves, so that it never begins; whether that was possible."""
        try:
            os.close(os.open(self.folder / "claim.json", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            end = {"code": 128 + signal.SIGTERM, "asked_to_stop": True, "seconds": 0.0}  # as its agent would have noted
            replace(self.folder / "exit.json", json.dumps(end))
        except OSError:
            return False
        self._withdrawn, self._claim = why, {}
        self.launcher.forget(self._key)
        self.do(ray_api.stop(self._key))
        return True
