"""The runs under way: started, found again, let go, and collected when they end."""

import contextlib
import os
import time
from typing import NamedTuple, Optional

from bisect_cli.analysis import check_metrics
from bisect_cli.campaign.events import Ended, Reattached, Started, Stopping
from bisect_cli.campaign.state import ATTEMPTS, CANCELLED, CRASHED, DIVERGED, FINISHED
from bisect_cli.errors import UserError
from bisect_cli.launchers import Job
from bisect_cli.storage import store
from bisect_cli.trainers import runfiles, trainer_of
from bisect_cli.trainers.check import exit_words, last_line, tail

POLL = 0.05  # seconds between looks at a run that is about to end
HUNG = 3600  # seconds without a byte written by a run, after which it counts as crashed


class _Leaving(NamedTuple):
    """A run that is asked to save and end: when it is killed if it has not, the outcome that it will have, in words
    too, and where its curve settled its verdict, as curves.stop.
    """

    deadline: float
    outcome: str
    reason: str
    early: Optional[dict] = None


class Attempts:
    """What a campaign has running. A result on disk is what counts, however its process ended."""

    def __init__(self, recorder, launcher, grace=None, hung=HUNG):
        self.recorder, self.launcher = recorder, launcher
        self.trainer = trainer_of(recorder.settings)
        self.grace = self.trainer.grace(recorder.settings) if grace is None else grace
        self.hung = hung
        self._handles = {}  # trial id -> Handle of its attempt under way
        self._leaving = {}  # trial id -> the _Leaving of its run

    def __len__(self):
        return len(self._handles)

    def __contains__(self, trial):
        return trial.id in self._handles

    def home(self, trial):
        """The folder of a trial."""
        return self._home(trial.id)

    def is_leaving(self, trial):
        """Whether a run has been let go."""
        return trial.id in self._leaving

    @property
    def free_slots(self):
        """The numbers of the slots in which another run could start now."""
        used = {trial.slot for trial in self.recorder.state.running}
        free = [slot for slot in range(1, self.launcher.slots + 1) if slot not in used]
        return free[: max(0, self.launcher.slots - len(self))]  # reattached runs may sit in slots beyond

    def start(self, run, slot):
        """Starts a schedule.NextRun. No attempt begins that is not logged."""
        state, trial = self.recorder.state, run.trial
        name = trial.id if trial else f"t{len(state.trials) + 1:02d}"
        attempt = trial.attempts + 1 if trial else 1
        home = self._home(name)
        out = home / "out"
        with store.writing(self.recorder.folder):
            if trial and trial.crashes == ATTEMPTS - 1 and out.exists():
                out.rename(home / f"out.before-attempt-{attempt}")  # the checkpoint itself may be what crashes
            out.mkdir(parents=True, exist_ok=True)
            what = state.settings, run.flags, run.seed, home.resolve(), attempt
            self.trainer.prepare(*what)
            command = self.trainer.command(*what)
            job = Job(command.argv, command.cwd, home / f"attempt-{attempt}", command.env, command.stop_signal)
            handle = self.launcher.prepare(job)
        try:
            started = Started(name, run.flags, run.seed, attempt, slot, handle.ticket, command.argv, run.why)
            self.recorder.record(started)
        except BaseException:
            handle.kill()
            raise
        self._handles[name] = handle
        handle.go()

    def reattach(self):
        """Takes over what an earlier controller left running, or notes how it ended."""
        for trial in self.recorder.state.running:
            handle = self.launcher.reattach(trial.ticket)
            if handle:
                self._handles[trial.id] = handle
                self.recorder.record(Reattached(trial.id))
            else:
                self.record_end(trial, "lost", reason="it ended while no controller was watching")

    def collect(self):
        """Logs the runs that ended; returns their Trials as they were before. Raises UserError if the trainer refuses
        its arguments.
        """
        ended = []
        for name, handle in list(self._handles.items()):
            trial, end = self.recorder.state.trials[name], handle.poll()
            if end is None and _silent_for(trial, self.home(trial)) > self.hung:
                _kill(handle)
                del self._handles[name]
                reason = f"hung: it wrote nothing for {self.hung / 60:.0f} minutes"
                self.record_end(trial, CRASHED, reason=reason)
            elif end is not None:
                del self._handles[name]
                ended.append(trial)
                self._record_exit(trial, end.code)
        return ended

    def let_go(self, trial, outcome, reason, early=None):
        """Asks a run to save and end, with the outcome that it will then have."""
        if trial in self and not self.is_leaving(trial):
            self._handles[trial.id].ask_to_stop()
            self._leaving[trial.id] = _Leaving(time.monotonic() + self.grace, outcome, reason, early)

    def cancel(self):
        """Lets the runs go that can no longer matter, and kills those left of all let go after the grace time."""
        for trial in self.recorder.state.running:
            if trial.flags in self.recorder.analysis.cancel or self.recorder.state.stale(trial):
                self.let_go(trial, CANCELLED, "it could no longer matter")
        for name, leaving in self._leaving.items():
            if name in self._handles and time.monotonic() > leaving.deadline:
                self._handles[name].kill()

    def stop_all(self, interrupts):
        """Asks all runs to save and end, and kills those left after the grace time, or at a further interrupt."""
        if self._handles:
            self.recorder.notify(Stopping(sorted(self._handles)))
        for handle in self._handles.values():
            handle.ask_to_stop()
        before, deadline = interrupts.count, time.monotonic() + self.grace
        while self._handles:
            if time.monotonic() > deadline or interrupts.count > before:
                for handle in self._handles.values():
                    handle.kill()
            with contextlib.suppress(UserError):  # a full disk: what is not logged now is found by the next controller
                self._collect_stopped()
            self.recorder.notify()
            time.sleep(POLL)

    def record_end(self, trial, outcome, code=None, reason="", early=None):
        """Logs the end of an attempt."""
        settings, home = self.recorder.settings, self.home(trial)
        found = self.trainer.result(settings, home, trial.attempts)
        if isinstance(found, runfiles.Result):
            outcome, reason, early = DIVERGED if found.diverged else FINISHED, "", None
        else:
            reason = found if found and outcome in (CRASHED, "lost") and not code else reason
            found = runfiles.Result(False, {}, None)
        end = Ended(
            trial.id, outcome, trial.attempts, code, reason, found.metrics, found.wall, early, found.fingerprint
        )
        self.recorder.record(end)
        trial = self.recorder.state.trials[trial.id]
        if trial.ended:
            self.trainer.release(settings, home)
        check_metrics(settings, trial)

    def _record_exit(self, trial, code):
        error = last_line(tail(self._home(trial.id) / f"attempt-{trial.attempts}"))
        leaving = self._leaving.pop(trial.id, None)
        if leaving:
            self.record_end(trial, leaving.outcome, code, leaving.reason, leaving.early)
        elif code in self.trainer.refusals(self.recorder.settings):
            self.record_end(trial, "refused", code, error)
            raise UserError(
                error or f"the trainer refused the arguments of {trial.id}: see `maskrcnn-bisect logs {trial.id}`."
            )
        else:
            how = "ended without a result" if code in (0, None) else exit_words(code)
            self.record_end(trial, CRASHED, code, f"{how}: {error}" if error else how)

    def _collect_stopped(self):
        for name, handle in list(self._handles.items()):
            end = handle.poll()
            if end is not None:
                del self._handles[name]
                self.record_end(self.recorder.state.trials[name], "stopped", end.code, "stopped on request")

    def _home(self, name):
        return store.trial_folder(self.recorder.folder, name)


def _silent_for(trial, home):
    """Seconds since a run wrote to any of its files."""
    latest = trial.started or 0
    for folder in (home / "out", home / f"attempt-{trial.attempts}"):
        with contextlib.suppress(OSError):
            latest = max([latest, *(entry.stat().st_mtime for entry in os.scandir(folder))])
    return time.time() - latest


def _kill(handle):
    handle.kill()
    while handle.poll() is None:
        time.sleep(POLL)
