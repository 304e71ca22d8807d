"""The loop of a campaign: ask the search, fill free slots, collect what ended, judge, retry crashes, stop.

All that it decides is decided from the State folded from the log, and every step is logged before it has an effect that
matters, so a controller that is killed anywhere is followed by one that goes on in its place.
"""

import contextlib
import os
import signal
import socket
import time
from typing import NamedTuple, Optional

from bisect_cli.analysis import analyse, check_metrics
from bisect_cli.campaign import fingerprint as keys
from bisect_cli.campaign.state import (
    ATTEMPTS,
    CANCELLED,
    CRASHED,
    DIVERGED,
    FINISHED,
    STOPPED_EARLY,
    TURNED_OFF,
    WAITING,
    apply,
    metric_key,
)
from bisect_cli.errors import UserError
from bisect_cli.evidence import curves
from bisect_cli.launchers import Job
from bisect_cli.storage import store
from bisect_cli.trainers import parity
from bisect_cli.trainers import runfiles as trainer

POLL = 0.2  # seconds between looks at the runs
GRACE = 60  # seconds that a run asked to stop has to save, before it is killed
HUNG = 3600  # seconds without a byte written by a run, after which it counts as crashed


class _Leaving(NamedTuple):
    """A run that is asked to save and end: when it is killed if it has not, the outcome that it will have, in words
    too, and where its curve settled its verdict, as curves.stop.
    """

    deadline: float
    outcome: str
    reason: str
    stop: Optional[dict] = None


class Controller:
    """Runs one campaign whose lease is held.

    folder: the campaign's. log: an eventlog.Writer. state: the State that the log folds to. launcher: a Launcher.
    listen(event, controller): called for every event logged, for `comparing` and `stopping`, and with None at every
    look; draws the progress. compare: whether parity comes before the first run, for at most `patience` seconds.
    news: events to log before anything else is done, without their time.
    """

    def __init__(
        self,
        folder,
        log,
        state,
        launcher,
        max_runs=None,
        listen=lambda event, controller: None,
        grace=GRACE,
        hung=HUNG,
        compare=True,
        patience=parity.SECONDS,
        news=(),
    ):
        self.folder, self.log, self.state, self.launcher = folder, log, state, launcher
        self.max_runs = state.max_runs if max_runs is None else max_runs
        self.listen, self.grace, self.hung = listen, grace, hung
        self.compare, self.patience, self.news = compare, patience, news
        self.analysis = analyse(state)
        self.handles = {}  # trial id -> Handle of its attempt under way
        self.leaving = {}  # trial id -> the _Leaving of its run
        self.curves = {}  # trial id -> size of its metrics.jsonl when last read, and the trainer.Curve in it
        self.interrupts = 0

    def run(self):
        """Goes on until the campaign has ended or is interrupted, and returns the State then: `finished` (culprits
        named, or clean), `inconclusive`, `failed` or `interrupted`.

        Raises UserError if the trainer refuses its arguments or the disk cannot be written; the campaign can be gone on
        with then.
        """
        with contextlib.suppress(FileNotFoundError):
            (self.folder / store.STOP).unlink()
        for event in self.news:
            self._log(**event)
        self._log(
            "opened", pid=os.getpid(), host=socket.gethostname(), slots=self.launcher.slots, max_runs=self.max_runs
        )
        for trial in self.state.current:
            check_metrics(self.state.settings, trial)
        with self._signals():
            try:
                self._compare()
                self._adopt()
                while True:
                    self._collect()
                    self._settle()
                    if self._asked_to_stop():
                        return self._close("interrupted", "stopped on request")
                    ending = self._ending()
                    if ending:
                        return self._close(*ending)
                    self._cancel()
                    self._fill()
                    self.listen(None, self)
                    time.sleep(POLL)
            except BaseException:
                self.listen = lambda event, controller: None  # it may be what failed
                self._stop_all()
                raise

    def progress(self, trial):
        """The trainer.Progress of a trial, or None."""
        return trainer.progress(store.trial_folder(self.folder, trial.id) / "out")

    # Before the first run

    def _compare(self):
        """Parity, once for the same code and flags, however it ends; only a stop leaves it to be done."""
        if self.state.parity or self._asked_to_stop():
            return
        result = self._parity() if self.compare else parity.nothing(TURNED_OFF)
        if result:
            self._log("parity", result=result)

    def _parity(self):
        """What parity says, as parity.digest; None if asked to stop."""
        settings, home = self.state.settings, self.folder / "parity"
        file = home / "result.json"
        self.listen({"kind": "comparing"}, self)
        with store.writing(self.folder):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
            handle = self.launcher.prepare(Job(parity.argv(settings, file), trainer.workdir(settings), home))
        deadline = time.monotonic() + self.patience
        try:
            handle.go()
            while handle.poll() is None:
                if self._asked_to_stop():
                    return None
                if time.monotonic() > deadline:
                    return parity.nothing(f"it took more than {self.patience:g} s")
                self.listen(None, self)
                time.sleep(POLL / 4)
            return parity.digest(file) or parity.nothing(parity.why_none(settings, handle.poll().code, _tail(home)))
        finally:
            if handle.poll() is None:
                handle.kill()
                self._wait_gone(handle)

    # What to do next

    def _ending(self):
        """State and reason if nothing is left to do, else None."""
        if self.analysis.failure:
            return "failed", self.analysis.failure
        if not self.analysis.wanted:
            if self.analysis.unresolved:
                return "inconclusive", "some subsets gave no verdict"
            return "finished", ""
        if not self.handles and not self._next():
            return "inconclusive", f"the budget of {self.max_runs} runs is spent"
        return None

    def _next(self):
        """What to start, most urgent first: trials that were begun before, or (flags, seed) of new ones, as (trial or
        None, flags, seed, why).
        """
        room = float("inf") if self.max_runs is None else self.max_runs - self.state.trained
        chosen = []
        for want in self.analysis.wanted:
            trials = self.state.of(want.flags)
            seeds = self.state.free_seeds(want.flags)
            for k in range(want.runs):
                if k < len(trials):
                    if trials[k].state in (WAITING, CANCELLED):
                        chosen.append((trials[k], want.flags, trials[k].seed, want.why))
                elif room > 0:
                    chosen.append((None, want.flags, next(seeds), want.why))
                    room -= 1
        return chosen

    def _fill(self):
        used = {trial.slot for trial in self.state.running}
        free = [slot for slot in range(1, self.launcher.slots + 1) if slot not in used]
        free = free[: max(0, self.launcher.slots - len(self.handles))]  # adopted runs may sit in slots beyond
        for slot, (trial, flags, seed, why) in zip(free, self._next()):
            self._start(trial, flags, seed, slot, why)

    def _cancel(self):
        """Lets the runs go that can no longer matter, and kills those left of all let go after the grace time."""
        for trial in self.state.running:
            if trial.flags in self.analysis.cancel or self.state.stale(trial):
                self._let_go(trial, CANCELLED, "it could no longer matter")
        for name, leaving in self.leaving.items():
            if name in self.handles and time.monotonic() > leaving.deadline:
                self.handles[name].kill()

    def _settle(self):
        """Lets the runs go whose curve settles their verdict. Of those waiting to be gone on with it is logged at once:
        such a run was interrupted, or lost, before it was let go.
        """
        if not self.state.settings.early_stop:
            return
        for trial in self.state.current:
            # the baseline is what the others are compared with, so it is never in question
            if trial.flags and not trial.ended and trial.state != CANCELLED and trial.id not in self.leaving:
                stop = self._stop(trial)
                if stop and trial.id in self.handles:
                    self._let_go(trial, STOPPED_EARLY, curves.words(stop), stop)
                elif stop and trial.state == WAITING:
                    self._ended(trial, STOPPED_EARLY, None, curves.words(stop), stop)

    def _stop(self, trial):
        """Where a run can be stopped, as curves.stop, or None."""
        stakes = self.analysis.stakes.get(trial.flags)
        if stakes is None or not all(self.analysis.verdicts.values()):  # the baseline has to be complete
            return None
        own, looks = self._curve(trial), {}
        for metric in self.state.settings.metrics:
            key = metric_key(metric)
            ended = [one for one in self.state.of(()) if one.metrics]
            baseline = {one.seed: {**self._curve(one).of(key), own.steps: one.metrics[key]} for one in ended}
            scale = self.analysis.scales[metric].given(self.analysis.verdicts[metric][()].largest_drop)
            looks[metric] = curves.compare(baseline, own.of(key), trial.seed, own.steps, scale)
        return curves.stop(looks, stakes, own.steps)

    def _curve(self, trial):
        """The evaluations of a run so far, as trainer.Curve."""
        out = store.trial_folder(self.folder, trial.id) / "out"
        with contextlib.suppress(OSError):
            size = (out / "metrics.jsonl").stat().st_size
            if self.curves.get(trial.id, (None,))[0] != size:
                self.curves[trial.id] = size, trainer.curve(out)
            return self.curves[trial.id][1]
        return trainer.Curve({}, 0)

    def _let_go(self, trial, outcome, reason, stop=None):
        """Asks a run to save and end, with the outcome that it will then have."""
        if trial.id in self.handles and trial.id not in self.leaving:
            self.handles[trial.id].ask_to_stop()
            self.leaving[trial.id] = _Leaving(time.monotonic() + self.grace, outcome, reason, stop)

    # Runs

    def _start(self, trial, flags, seed, slot, why):
        name = trial.id if trial else f"t{len(self.state.trials) + 1:02d}"
        attempt = trial.attempts + 1 if trial else 1
        home = store.trial_folder(self.folder, name)
        out = home / "out"
        with store.writing(self.folder):
            if trial and trial.crashes == ATTEMPTS - 1 and out.exists():
                out.rename(home / f"out.before-attempt-{attempt}")  # the checkpoint itself may be what crashes
            out.mkdir(parents=True, exist_ok=True)
            argv = trainer.argv(self.state.settings, flags, seed, out)
            handle = self.launcher.prepare(Job(argv, trainer.workdir(self.state.settings), home / f"attempt-{attempt}"))
        try:
            self._log(
                "started",
                trial=name,
                flags=flags,
                seed=seed,
                attempt=attempt,
                slot=slot,
                why=why,
                ticket=handle.ticket,
                argv=argv,
            )
        except BaseException:
            handle.kill()
            raise
        self.handles[name] = handle
        handle.go()

    def _adopt(self):
        """Takes over what an earlier controller left running, or notes how it ended."""
        for trial in self.state.running:
            handle = self.launcher.adopt(trial.ticket)
            if handle:
                self.handles[trial.id] = handle
                self._log("adopted", trial=trial.id)
            else:
                self._ended(trial, "lost", None, "it ended while no controller was watching")

    def _collect(self, stopping=False):
        """Logs the runs that ended."""
        for name, handle in list(self.handles.items()):
            trial, end = self.state.trials[name], handle.poll()
            if end is None:
                if not stopping and self._silent_for(trial) > self.hung:
                    handle.kill()
                    self._wait_gone(handle)
                    self._ended(trial, CRASHED, None, f"hung: it wrote nothing for {self.hung / 60:.0f} minutes")
                    del self.handles[name]
                continue
            del self.handles[name]
            error = trainer.last_line(_tail(store.trial_folder(self.folder, trial.id) / f"attempt-{trial.attempts}"))
            if stopping:
                self._ended(trial, "stopped", end.code, "stopped on request")
            elif name in self.leaving:
                leaving = self.leaving.pop(name)
                self._ended(trial, leaving.outcome, end.code, leaving.reason, leaving.stop)
            elif end.code == trainer.USER_ERROR:
                self._ended(trial, "refused", end.code, error)
                raise UserError(
                    error or f"the trainer refused the arguments of {name}: see `maskrcnn-bisect logs {name}`."
                )
            else:
                told = "ended without a result" if end.code in (0, None) else trainer.exit_words(end.code)
                self._ended(trial, CRASHED, end.code, f"{told}: {error}" if error else told)
            if not stopping:
                self._look_again(trial)

    def _ended(self, trial, outcome, code, reason, stop=None):
        """Logs the end of an attempt. A result on disk is what counts, however the process ended."""
        result = trainer.result(store.trial_folder(self.folder, trial.id) / "out")
        if result:
            outcome, reason, stop = DIVERGED if result.diverged else FINISHED, "", None
        wall, metrics, key = (result.wall, result.metrics, result.key) if result else (None, {}, None)
        self._log(
            "ended",
            trial=trial.id,
            attempt=trial.attempts,
            outcome=outcome,
            code=code,
            reason=reason,
            metrics=metrics,
            wall=wall,
            **({"early": stop} if stop else {}),
            **({"key": key} if key else {}),
        )
        check_metrics(self.state.settings, self.state.trials[trial.id])

    def _look_again(self, trial):
        """Where a run has ended under another key than it was begun with, something changed after the last look."""
        different = self.state.stale(self.state.trials[trial.id])
        if not different or self.state.stale(trial):
            return
        key = trainer.check(self.state.settings, self.folder / "check" / "out")
        changed = keys.differences(self.state.key, key)
        if not changed:
            raise UserError(
                f"{trial.id} was trained with another {' and '.join(different)} than is found here: make the machine "
                "that it ran on like this one, then go on."
            )
        self._log("keyed", key=key, changed=list(changed))

    def _silent_for(self, trial):
        """Seconds since a run wrote to any of its files."""
        home = store.trial_folder(self.folder, trial.id)
        latest = trial.started or 0
        for folder in (home / "out", home / f"attempt-{trial.attempts}"):
            with contextlib.suppress(OSError):
                latest = max([latest, *(entry.stat().st_mtime for entry in os.scandir(folder))])
        return time.time() - latest

    # Stopping

    def _asked_to_stop(self):
        return self.interrupts > 0 or (self.folder / store.STOP).exists()

    def _close(self, state, reason):
        """Stops what still runs, and logs how the campaign stands."""
        self._stop_all()
        self._log("closed", state=state, reason=reason)
        with contextlib.suppress(FileNotFoundError):
            (self.folder / store.STOP).unlink()
        return self.state

    def _stop_all(self):
        """Asks all runs to save and end, and kills those left after the grace time, or at a further interrupt."""
        if self.handles:
            self.listen({"kind": "stopping", "runs": sorted(self.handles)}, self)
        for handle in self.handles.values():
            handle.ask_to_stop()
        before, deadline = self.interrupts, time.monotonic() + self.grace
        while self.handles:
            if time.monotonic() > deadline or self.interrupts > before:
                for handle in self.handles.values():
                    handle.kill()
            with contextlib.suppress(UserError):  # a full disk: what is not logged now is found by the next controller
                self._collect(stopping=True)
            self.listen(None, self)
            time.sleep(POLL / 4)

    @staticmethod
    def _wait_gone(handle):
        while handle.poll() is None:
            time.sleep(POLL / 4)

    @contextlib.contextmanager
    def _signals(self):
        """Counts the signals that ask this process to end, instead of ending at once."""

        def note(*_):
            self.interrupts += 1

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # The log

    def _log(self, kind, **values):
        event = {"kind": kind, "time": time.time(), **values}
        with store.writing(self.folder):
            self.log.append(event)
        self.state = apply(self.state, event)
        if kind not in ("started", "adopted", "closed"):
            self.analysis = analyse(self.state)
        self.listen(event, self)


def _tail(folder):
    """The end of the error output that a job has left in its folder."""
    try:
        with open(folder / "stderr.txt", "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
