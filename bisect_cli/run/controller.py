"""The loop of a campaign: collect what ended, look at what runs, fill free slots, until nothing is left to do.

All that it decides is decided from the State folded from the log, and every step is logged before it has an effect that
matters, so a controller that is killed anywhere is followed by one that resumes in its place.
"""

import os
import socket

from bisect_cli.analysis import check_metrics
from bisect_cli.campaign.events import Closed, Opened
from bisect_cli.run import lost
from bisect_cli.run.attempts import HUNG, Attempts
from bisect_cli.run.compare import compare, end_earlier
from bisect_cli.run.early_stop import EarlyStop
from bisect_cli.run.interrupts import Interrupts
from bisect_cli.run.recheck import Recheck
from bisect_cli.run.schedule import ending, next_runs
from bisect_cli.storage import store
from bisect_cli.trainers.parity import SECONDS

POLL = 0.2  # seconds between looks at the runs, while something happens
MOST_POLL = 2.0  # ... and at most, where nothing does
QUIET_SHARE = 0.01  # of the time since something happened, until the next look
DETACHED = "its runs go on"


class Controller:
    """Runs one campaign whose lease is held.

    recorder: the Recorder of the campaign. launcher: a Launcher. max_runs: None leaves it as it was. parity: whether it
    comes before the first run, for at most `patience` seconds. grace, hung: as in Attempts. detach: a signal leaves the
    runs under way, for the next controller to take over; a request by file never does.
    """

    def __init__(
        self, recorder, launcher, max_runs=None, *, parity=True, patience=SECONDS, grace=None, hung=HUNG, detach=False
    ):
        self.recorder, self.launcher, self.detach = recorder, launcher, detach
        self.max_runs = recorder.state.max_runs if max_runs is None else max_runs
        self.parity, self.patience = parity, patience
        self.attempts = Attempts(recorder, launcher, grace, hung)
        self.interrupts = Interrupts(recorder.folder)
        self.early_stop = EarlyStop(recorder, self.attempts)
        self.recheck = Recheck(recorder)
        self._seen, self._since = None, 0.0  # the last State, and when it was new
        self._listed = (None, None, [])  # the runs that are next, of which State and Analysis

    def run(self, changes=()):
        """Runs until the campaign has ended or is interrupted, and returns the State then: `finished` (culprits named,
        or clean), `inconclusive`, `failed` or `interrupted`. changes: events to log before anything else.

        Raises UserError if the trainer refuses its arguments or the disk cannot be written; the campaign can be resumed
        then.
        """
        self._open(changes)
        with self.interrupts:
            try:
                compare(self.recorder, self.launcher, self.interrupts, self.parity, self.patience)
                self.attempts.reattach()
                while True:
                    self.recheck.look(self.attempts.collect())
                    self.early_stop.look()
                    ending = self._ending()
                    if ending and ending[0] == "finished":
                        self.attempts.stop_all(self.interrupts)
                        if not self.recorder.analysis.wants_nothing:
                            continue  # one of them ended with a result that asks for more
                    if ending:
                        return self._close(*ending)
                    self.attempts.cancel()
                    self.recorder.check()
                    self._fill()
                    self.recorder.notify()
                    self._pause()
            except BaseException:
                self.recorder.silence()
                self._leave()
                raise

    def stop(self):
        """Stops what a controller that died has left running."""
        self._open(())
        with self.interrupts:
            end_earlier(self.recorder, self.launcher)
            self.attempts.reattach()
            return self._close("interrupted", "stopped on request")

    def _open(self, changes):
        self.interrupts.clear_earlier()
        lost.recover(self.recorder, self.attempts)
        for event in changes:
            self.recorder.record(event)
        self.recorder.record(Opened(os.getpid(), socket.gethostname(), self.launcher.slots, self.max_runs))
        state = self.recorder.state
        tickets = [trial.ticket for trial in state.running] + ([state.parity_ticket] if state.parity_ticket else [])
        with store.writing(self.recorder.folder):
            self.launcher.open(self.recorder.folder, self.recorder.settings.uid, tickets)
        for trial in self.recorder.state.current:
            check_metrics(self.recorder.settings, trial)

    def _ending(self):
        """State and reason if nothing is left to do, else None."""
        if self.interrupts.requested:
            return "interrupted", DETACHED if self._detaches else "stopped on request"
        if self.recheck.pending:
            return None
        return ending(self.recorder.state, self.recorder.analysis, self.max_runs)

    def _next(self):
        state, analysis = self.recorder.state, self.recorder.analysis
        if self._listed[0] is not state or self._listed[1] is not analysis:
            self._listed = state, analysis, list(next_runs(state, analysis.requests, self.max_runs))
        return self._listed[2]

    def _pause(self):
        """Waits for the next look: the longer nothing has happened, the longer."""
        clock = self.recorder.clock
        if self._seen is not self.recorder.state:
            self._seen, self._since = self.recorder.state, clock.monotonic()
        quiet = (clock.monotonic() - self._since) * QUIET_SHARE
        clock.wait(min(MOST_POLL, max(POLL, quiet)), lambda: self.interrupts.requested)

    def _fill(self):
        runs = [] if self.recheck.pending or not self.attempts.free_slots else self._next()
        if not runs:
            return
        if self.recheck.at_once():
            return  # what is next may be another run now
        for slot, run in zip(self.attempts.free_slots, runs):
            if self.launcher.ready:
                self.attempts.start(run, slot)

    def _close(self, state, reason):
        """Stops what still runs, and logs how the campaign stands."""
        self._leave()
        self.recorder.record(Closed(state, reason))
        self.interrupts.clear_request()
        return self.recorder.state

    @property
    def _detaches(self):
        return self.detach and self.interrupts.count > 0 and not self.interrupts.asked_by_file

    def _leave(self):
        self.recheck.close()
        if not self._detaches:
            self.attempts.stop_all(self.interrupts)
        self.launcher.close()
