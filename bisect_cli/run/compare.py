"""Parity before the first run of a campaign: done once for the same code and flags, and never in the way of a stop."""

import contextlib
import time

from bisect_cli.campaign import events
from bisect_cli.launchers import Job
from bisect_cli.storage import store
from bisect_cli.trainers import parity, trainer_of, workdir
from bisect_cli.trainers.check import tail

POLL = 0.05


def compare(recorder, launcher, interrupts, wanted=True, patience=parity.SECONDS):
    """Logs what parity finds, however it ends; only a request to stop leaves it to be done. wanted: whether the user
    wants it at all. patience: in seconds.
    """
    if recorder.state.parity or interrupts.requested:
        return
    result = _parity(recorder, launcher, interrupts, patience) if wanted else parity.nothing(events.TURNED_OFF)
    if result:
        recorder.record(events.Parity(result))


def _parity(recorder, launcher, interrupts, patience):
    """What parity says, as parity.digest; None if asked to stop."""
    settings, home = recorder.settings, recorder.folder / "parity"
    file = home / "result.json"
    command = trainer_of(settings).parity_argv(settings, file)
    if not command:
        return parity.nothing(parity.NO_COMMAND)
    recorder.notify(events.Comparing())
    with store.writing(recorder.folder):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
        handle = launcher.prepare(Job(command, workdir(settings), home))
    deadline = time.monotonic() + patience
    try:
        handle.go()
        while handle.poll() is None:
            if interrupts.requested:
                return None
            if time.monotonic() > deadline:
                return parity.nothing(f"it took more than {patience:g} s")
            recorder.notify()
            time.sleep(POLL)
        return parity.digest(file) or parity.nothing(parity.why_none(settings, handle.poll().code, tail(home)))
    finally:
        if handle.poll() is None:
            handle.kill()
            while handle.poll() is None:
                time.sleep(POLL)
