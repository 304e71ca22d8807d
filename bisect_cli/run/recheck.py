"""Has something changed while the campaign runs? A run that ends under another fingerprint than it was started with
says so; the trainer is then asked again, beside the loop, which goes on meanwhile and starts nothing new.
"""

from bisect_cli.campaign import fingerprint
from bisect_cli.campaign.events import Fingerprint
from bisect_cli.errors import UserError
from bisect_cli.trainers import trainer_of
from bisect_cli.trainers.check import Check


class Recheck:
    """At most one such question at a time."""

    def __init__(self, recorder):
        self.recorder = recorder
        self._check = None
        self._cause = None  # the Trial that it was asked for

    @property
    def pending(self):
        return self._check is not None

    def look(self, ended):
        """Asks if one of these Trials, as they were before they ended, gives a reason, and logs an answer that is
        there. Raises UserError if the answer explains nothing: the run was made on an unlike machine.
        """
        state = self.recorder.state
        for before in ended:
            if not self.pending and state.stale(state.trials[before.id]) and not state.stale(before):
                self._cause = state.trials[before.id]
                self._check = Check(state.settings, self.recorder.folder)
        if self.pending and self._check.done:
            found = self._check.fingerprint()
            self.close()
            self._conclude(found)

    def at_once(self):
        """Logs what has changed, where the trainer can say so at once; whether something has."""
        state = self.recorder.state
        found = trainer_of(state.settings).fingerprint_now(state.settings)
        changed = fingerprint.differences(state.fingerprint, found)
        if changed:
            self.recorder.record(Fingerprint(found, changed))
        return bool(changed)

    def close(self):
        """Ends a question under way."""
        if self._check:
            self._check.__exit__()
            self._check = None

    def _conclude(self, found):
        state = self.recorder.state
        changed = fingerprint.differences(state.fingerprint, found)
        if not changed:
            different, node = state.stale(self._cause), self._cause.node
            where = f" on node {node}" if node else ""
            raise UserError(
                f"{self._cause.id} was trained{where} with another {' and '.join(different)} than is found here: make "
                "the machine that it ran on like this one, or leave it out, then resume."
            )
        self.recorder.record(Fingerprint(found, changed))
