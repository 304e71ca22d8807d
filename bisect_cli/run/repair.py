"""Mends what an Inspection has found. Nothing is thrown away: what is changed or taken away lies in a folder
`before-repair-N` of the campaign, and a trial's folder that is of another run is renamed.
"""

import itertools
import os
import shutil
import time
from pathlib import Path

from bisect_cli.campaign import events
from bisect_cli.launchers import LOST, read_exit
from bisect_cli.report import kept
from bisect_cli.run import lost, session, whose
from bisect_cli.run.attempts import Attempts
from bisect_cli.run.inspection import inspect
from bisect_cli.run.recorder import Recorder
from bisect_cli.storage import eventlog, lease, store

BACKUP = "before-repair"


def repair(folder):
    """Mends what can be mended of a campaign; returns (the Findings that were there, the folder of what was taken away,
    None if nothing was). Raises UserError if somebody runs the campaign, and where the disk does not let us.
    """
    held = lease.holder(folder)
    with store.writing(folder), lease.Lease(folder):
        found = inspect(folder, held)
        done = [one for one in found.findings if one.mend]
        backup = _Backup(folder)
        for one in done:
            if one.kind == "leftover":
                backup.take(one.about)
            elif one.kind == "stray":
                whose.rename_aside(one.about)
        if any(one.kind == "log" for one in done):
            _rewrite(folder, backup, found.sound.records, [one.what for one in done if one.kind == "log"])
        if any(one.kind in ("foreign", "lost", "ended") for one in done):
            _log_what_is_known(folder, found.sound.state, done)
    return done, backup.folder


class _Backup:
    """The folder of what is taken away, made once there is something. folder: None before that."""

    def __init__(self, campaign):
        self.campaign, self.folder = Path(campaign), None

    def take(self, path, copy=False):
        """Moves a file of the campaign there, or copies it."""
        if self.folder is None:
            places = (self.campaign / f"{BACKUP}-{number}" for number in itertools.count(1))
            self.folder = next(place for place in places if not os.path.lexists(place))
            self.folder.mkdir()
        place = self.folder / path.relative_to(self.campaign)
        place.parent.mkdir(parents=True, exist_ok=True)
        if copy:
            shutil.copy2(path, place)
        else:
            os.rename(path, place)


def _rewrite(folder, backup, records, damage):
    """Writes a log of these records in the place of the one that is there. damage: what is wrong with that, in
    sentences, which all later commands go on to say.
    """
    path = (folder / store.LOG).resolve()
    backup.take(folder / store.LOG, copy=True)
    if os.path.lexists(folder / kept.FILE):  # it is of the log that was
        backup.take(folder / kept.FILE)
    fresh = path.with_name(f"{store.LOG}.new")
    fresh.unlink(missing_ok=True)
    log = eventlog.Writer(fresh)
    try:
        for record in records:
            log.append(record)
        more = f", and {len(damage) - 1} more of the kind" if len(damage) > 1 else ""
        sentence = f"damage was taken out of the log, which lies in {backup.folder.name} as it was: {damage[0]}{more}"
        log.append(events.record_of(events.Repaired(sentence), time.time()))
    finally:
        log.close()
    os.replace(fresh, path)


def _log_what_is_known(folder, state, findings):
    """Sets aside the folders that are of other runs, and logs the ends of runs that the folders have."""
    for one in (one for one in findings if one.kind == "foreign"):
        trial = one.about
        own = whose.owner(state.settings, trial.id, trial.flags, trial.seed)
        whose.set_aside(state.settings, own, store.trial_folder(folder, trial.id))
    log = eventlog.Writer(folder / store.LOG)
    try:
        state, _ = store.load(folder)
        recorder = Recorder(folder, log, state)
        launcher = session.launcher_of(state.settings, state.slots)
        attempts = Attempts(recorder, launcher)
        lost.recover(recorder, attempts)
        gone = {one.about.id for one in findings if one.kind == "ended"}
        for trial in (trial for trial in recorder.state.running if trial.id in gone):
            attempt = attempts.home(trial) / f"attempt-{trial.attempts}"
            alive = launcher.reattach(trial.ticket, attempt)  # ends what a run that is gone has started and left
            if alive is None or read_exit(attempt):
                attempts.record_end(trial, LOST, reason="it ended while no controller was watching")
    finally:
        log.close()
