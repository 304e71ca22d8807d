"""The runs under way: started, found again, let go, and collected when they end."""

import contextlib
from typing import NamedTuple, Optional

from bisect_cli.analysis import check_metrics
from bisect_cli.campaign import nodes
from bisect_cli.campaign.events import Ended, Reattached, Started, Stopping
from bisect_cli.campaign.state import ATTEMPTS, CANCELLED, CRASHED, DIVERGED, FINISHED
from bisect_cli.errors import UserError
from bisect_cli.launchers import EVICTED, LOST, Exit, Job, Unavailable, read_exit, read_software
from bisect_cli.run import whose
from bisect_cli.run.schedule import attempt_of
from bisect_cli.run.watch import Evictions, Results, Silence, Watch
from bisect_cli.storage import store
from bisect_cli.trainers import runfiles, trainer_of
from bisect_cli.trainers.check import exit_words, last_line, tail

POLL = 0.05  # seconds between looks at a run that is about to end
HUNG = 3600  # seconds without a byte written by a run, after which it counts as crashed
PATIENCE = 60  # seconds for runs that were killed to be gone; those that are not are found by the next controller


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
        self.clock = recorder.clock
        self._silence, self._results = Silence(recorder, self.home, hung), Results(recorder, launcher, self.home)
        self._handles = {}  # trial id -> Handle of its attempt under way
        self._leaving = {}  # trial id -> the _Leaving of its run
        self._watch, self._evictions = Watch(recorder, launcher), Evictions(recorder.settings)

    def __len__(self):
        return len(self._handles)

    def __contains__(self, trial):
        return trial.id in self._handles

    def home(self, trial):
        """The folder of a trial."""
        return store.trial_folder(self.recorder.folder, trial.id)

    def is_leaving(self, trial):
        """Whether a run has been let go."""
        return trial.id in self._leaving

    @property
    def free_slots(self):
        """The numbers of the slots in which another run could start now."""
        if not self.launcher.ready:
            return []
        used = {trial.slot for trial in self.recorder.state.running}
        free = [slot for slot in range(1, self.launcher.slots + 1) if slot not in used]
        return free[: max(0, self.launcher.slots - len(self))]  # reattached runs may sit in slots beyond

    def start(self, run, slot):
        """Starts a schedule.NextRun, unless the launcher takes none now. No attempt begins that is not logged."""
        name, attempt = attempt_of(self.recorder.state, run)
        with store.writing(self.recorder.folder):
            job = make_job(self.recorder.settings, run, store.trial_folder(self.recorder.folder, name), attempt)
            avoid = tuple(nodes.left_out(self.recorder.state, self.clock.now()))
            try:
                handle = self.launcher.prepare(job._replace(key=f"{name}-{attempt}", grace=self.grace, avoid=avoid))
            except Unavailable:
                return
        try:
            started = Started(name, run.flags, run.seed, attempt, slot, handle.ticket, job.argv, run.why)
            self.recorder.record(started)
        except BaseException:
            handle.kill()
            raise
        self._handles[name] = handle
        handle.go()

    def reattach(self):
        """Takes over what an earlier controller left running, or notes how it ended."""
        whose.set_aside_all(self.recorder.folder, self.recorder.state)
        for trial in self.recorder.state.running:
            handle = self.launcher.reattach(trial.ticket, self._attempt(trial))
            if handle:
                self._handles[trial.id] = handle
                self.recorder.record(Reattached(trial.id))
            else:
                self.record_end(trial, LOST, reason="it ended while no controller was watching")

    def collect(self):
        """Logs the runs that ended; returns their Trials as they were before. Raises UserError if the trainer refuses
        its arguments, or if no run can be made where the launcher starts them.
        """
        ended = []
        self.launcher.refresh()
        with self.recorder.together():
            for name, handle in list(self._handles.items()):
                end = self._results.poll(name, handle)
                if end is not None:
                    del self._handles[name]
                    ended.append(self.recorder.state.trials[name])
                    self._record_exit(ended[-1], end, handle.node)
        for name, reason in self._silence.look(self._handles):
            self._handles[name].kill()
            self._leaving[name] = _Leaving(self.clock.monotonic(), CRASHED, reason)
        self._watch.look(self._handles)
        return ended

    def let_go(self, trial, outcome, reason, early=None):
        """Asks a run to save and end, with the outcome that it will then have."""
        if trial in self and not self.is_leaving(trial):
            self._handles[trial.id].ask_to_stop()
            self._leaving[trial.id] = _Leaving(self._deadline(), outcome, reason, early)

    def cancel(self):
        """Lets the runs go that can no longer matter, and kills those left of all let go after the grace time."""
        for trial in self.recorder.state.running:
            if trial.flags in self.recorder.analysis.cancel or self.recorder.state.stale(trial):
                self.let_go(trial, CANCELLED, "it could no longer matter")
        for name, leaving in self._leaving.items():
            if name in self._handles and self.clock.monotonic() > leaving.deadline:
                self._handles[name].kill()

    def stop_all(self, interrupts):
        """Asks all runs to save and end, and kills those left after the grace time, or at a further interrupt. One that
        is not gone even then stays under way in the log, for the next controller to find.
        """
        if self._handles:
            self.recorder.notify(Stopping(sorted(self._handles)))
        for handle in self._handles.values():
            handle.ask_to_stop()
        before, deadline = interrupts.count, self._deadline()
        while self._handles and self.clock.monotonic() < deadline + PATIENCE:
            self.launcher.refresh()
            if self.clock.monotonic() > deadline or interrupts.count > before:
                for handle in self._handles.values():
                    handle.kill()
            with contextlib.suppress(UserError):  # a full disk: what is not logged now is found by the next controller
                self._collect_stopped()
            self.recorder.notify()
            self.clock.wait(POLL)

    def record_end(self, trial, outcome, end=Exit(None), reason="", early=None, node=""):  # noqa: B008 - a tuple
        """Logs the end of an attempt. end: its Exit."""
        settings, home = self.recorder.settings, self.home(trial)
        found = whose.result(settings, trial, home, end.code)
        if isinstance(found, runfiles.Result):
            outcome, reason, early = DIVERGED if found.diverged else FINISHED, "", None
        else:
            reason = found if found and outcome in (CRASHED, LOST) and not end.code else reason
            found = runfiles.Result(False, {}, None)
        of_run = found.metrics, found.wall, early, _made_with(trial, found, self._attempt(trial))
        ran = _seconds(end, self._attempt(trial))
        self.recorder.record(Ended(trial.id, outcome, trial.attempts, end.code, reason, *of_run, node or None, ran))
        trial = self.recorder.state.trials[trial.id]
        if trial.ended:
            self.trainer.release(settings, home)
        check_metrics(settings, trial)

    def _record_exit(self, trial, end, node):
        error, code = last_line(tail(self._attempt(trial))), end.code
        leaving = self._leaving.pop(trial.id, None)
        if leaving:
            self.record_end(trial, leaving.outcome, end, leaving.reason, leaving.early, node)
        elif end.outcome == EVICTED and self._evictions.hopeless(trial, self.home(trial)):
            self.record_end(trial, CRASHED, end, f"{end.reason}; resumed again and again, it got no further", node=node)
        elif end.outcome:
            self.record_end(trial, end.outcome, end, end.reason, node=node)
            if end.hopeless:
                raise UserError(end.reason)
        elif code in self.trainer.refusals(self.recorder.settings):
            self.record_end(trial, "refused", end, error, node=node)
            raise UserError(
                error or f"the trainer refused the arguments of {trial.id}: see `maskrcnn-bisect logs {trial.id}`."
            )
        else:
            how = end.reason or ("ended without a result" if code in (0, None) else exit_words(code))
            self.record_end(trial, CRASHED, end, f"{how}: {error}" if error else how, node=node)

    def _collect_stopped(self):
        for name, handle in list(self._handles.items()):
            end = self._results.poll(name, handle)
            if end is not None:
                del self._handles[name]
                trial = self.recorder.state.trials[name]
                self.record_end(trial, "stopped", end, "stopped on request", node=handle.node)

    def _deadline(self):
        return self.clock.monotonic() + self.grace + self.launcher.lag

    def _attempt(self, trial):
        return self.home(trial) / f"attempt-{trial.attempts}"


def make_job(settings, run, home, attempt):
    """The Job of an attempt of a schedule.NextRun, with all that it needs in the trial's folder, `home`. What another
    run has left there is set aside. Raises OSError, and UserError as Trainer.prepare.
    """
    trainer, out = trainer_of(settings), home / "out"
    own = whose.owner(settings, home.name, run.flags, run.seed)
    whose.set_aside(settings, own, home)
    kept = home / f"out.before-attempt-{attempt}"
    if run.trial and run.trial.crashes == ATTEMPTS - 1 and out.exists() and not kept.exists():
        out.rename(kept)  # the checkpoint itself may be what crashes
    out.mkdir(parents=True, exist_ok=True)
    what = settings, run.flags, run.seed, home.resolve(), attempt
    trainer.prepare(*what)
    command = trainer.command(*what)
    own["attempt"] = attempt
    job = Job(command.argv, command.cwd, home / f"attempt-{attempt}", command.env, command.stop_signal)
    return job._replace(of=own, software=command.software)


def _seconds(end, attempt):
    """How long an attempt ran, None if that is not known."""
    return end.seconds if end.seconds is not None else (read_exit(attempt) or {}).get("seconds")


def _made_with(trial, found, attempt):
    """The fingerprint of a run that has ended, as far as it is known from itself or from where it ran."""
    noted = read_software(attempt)
    return found.fingerprint or ({**trial.fingerprint, **noted} if trial.fingerprint and noted else None)
