"""Parity before the first run of a campaign: done once for the same code and flags, and never in the way of a stop.

Like a run it is logged before it begins. One that a controller which died has left is ended: it may have been of other
flags.
"""

import contextlib
import time

from bisect_cli.campaign import events
from bisect_cli.launchers import Job, Unavailable
from bisect_cli.storage import store
from bisect_cli.trainers import parity, trainer_of, workdir
from bisect_cli.trainers.check import tail

POLL = 0.05
KILL_SECONDS = 60


HOME = "parity"  # in the campaign's folder


def compare(recorder, launcher, interrupts, wanted=True, patience=parity.SECONDS):
    """Logs what parity finds, however it ends; only a request to stop leaves it to be done. wanted: whether the user
    wants it at all. patience: in seconds, once it has begun.
    """
    end_earlier(recorder, launcher)
    if recorder.state.parity or interrupts.requested:
        return
    result = _parity(recorder, launcher, interrupts, patience) if wanted else parity.nothing(events.TURNED_OFF)
    if result:
        recorder.record(events.Parity(result))


def end_earlier(recorder, launcher):
    """Ends what an earlier controller has left running."""
    ticket = recorder.state.parity_ticket
    handle = launcher.reattach(ticket, recorder.folder / HOME) if ticket else None
    if handle:
        _kill(launcher, handle)


def _parity(recorder, launcher, interrupts, patience):
    """What parity says, as parity.digest; None if asked to stop."""
    settings, home = recorder.settings, recorder.folder / HOME
    file = home / "result.json"
    command = trainer_of(settings).parity_argv(settings, file)
    if not command:
        return parity.nothing(parity.NO_COMMAND)
    recorder.notify(events.Comparing())
    with store.writing(recorder.folder):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
        job = Job(command, workdir(settings), home, key="parity")
        handle = _prepare(recorder, launcher, interrupts, job, time.monotonic() + patience)
    if not handle:
        return None if interrupts.requested else parity.nothing(f"it could not begin within {patience:g} s")
    deadline = time.monotonic() + patience
    try:
        recorder.record(events.ParityStarted(handle.ticket))
        handle.go()
        while handle.poll() is None:
            launcher.refresh()
            if interrupts.requested:
                return None
            if handle.state == "queued":
                deadline = time.monotonic() + patience
            if time.monotonic() > deadline:
                return parity.nothing(f"it took more than {patience:g} s")
            recorder.notify()
            time.sleep(POLL)
        return parity.digest(file) or parity.nothing(parity.why_none(settings, handle.poll().code, tail(home)))
    finally:
        _kill(launcher, handle)


def _prepare(recorder, launcher, interrupts, job, deadline):
    """A Handle of a job, as soon as the launcher takes one; None if asked to stop before that, or too late: what it
    waits for may be the end of a run that goes on.
    """
    while not interrupts.requested and time.monotonic() < deadline:
        with contextlib.suppress(Unavailable):
            if launcher.ready:
                return launcher.prepare(job)
        recorder.notify()
        time.sleep(POLL)
    return None


def _kill(launcher, handle):
    """Ends what may still run; whatever a launcher cannot reach now is not waited for without end."""
    deadline = time.monotonic() + KILL_SECONDS + launcher.lag
    while handle.poll() is None and time.monotonic() < deadline:
        handle.kill()
        launcher.refresh()
        time.sleep(POLL)
