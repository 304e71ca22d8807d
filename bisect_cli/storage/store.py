"""The folder of all campaigns: `<runs>/<name>/` with `events.jsonl`, `lease.json` and `trials/<id>/`."""

import contextlib
import errno
import os
import shutil
import time
from pathlib import Path

from bisect_cli.campaign.state import check_name, fold
from bisect_cli.errors import UserError, nearest
from bisect_cli.storage import eventlog

LOG = "events.jsonl"
STOP = "stop"  # a file that asks the controller to stop


@contextlib.contextmanager
def writing(folder):
    """Turns what can go wrong with a disk into a UserError that names the folder and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk of {folder} is full: free some space, then go on; nothing that was logged is lost."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
            reason = os.strerror(error.errno).lower()
            raise UserError(f"cannot write in {folder} ({reason}): choose another folder with --runs-dir.") from error
        raise


def names(runs):
    """The campaigns in a runs folder, the most recently active first."""
    found = [(log.stat().st_mtime, log.parent.name) for log in Path(runs).glob(f"*/{LOG}")]
    return [name for _, name in sorted(found, reverse=True)]


def find(runs, name=None):
    """The folder of a campaign, by default the most recent one's. Raises UserError, with the nearest names, if there is
    none.
    """
    known = names(runs)
    if not known:
        raise UserError(
            f"no campaign{f' {name!r}' if name else ''} in {runs}: begin one with `maskrcnn-bisect start`, or give "
            "another --runs-dir."
        )
    name = name or known[0]
    if name not in known:
        near = nearest(name, known) or known[:5]
        raise UserError(
            f"no campaign '{name}' in {runs}: there is {', '.join(near)}; `maskrcnn-bisect list` shows all."
        )
    return Path(runs) / name


def load(folder):
    """The State of a campaign, and notes about damage to its log."""
    log = eventlog.read(Path(folder) / LOG)
    return fold(log.events), log.notes


def create(runs, name=None):
    """The new or existing folder of a campaign, by default under a fresh name: the date and a number."""
    with writing(runs):
        Path(runs).mkdir(parents=True, exist_ok=True)
        if name:
            check_name(name)
            (Path(runs) / name).mkdir(exist_ok=True)
            return Path(runs) / name
        number = 1
        while True:
            folder = Path(runs) / f"{time.strftime('%Y-%m-%d')}-{number}"
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                number += 1


def trial_folder(folder, trial):
    """Where a trial lives: `out` is the trainer's, shared by its attempts so that a retry resumes; `attempt-<k>` is the
    launcher's.
    """
    return Path(folder) / "trials" / trial


def copy_taken(folder, events):
    """Copies, for runs that events say are taken over from campaigns beside this one, what their trainer told."""
    for event in events:
        if event["kind"] == "taken":
            campaign, _, trial = event["source"].partition("/")
            theirs = trial_folder(Path(folder).parent / campaign, trial) / "out"
            mine = trial_folder(folder, event["trial"]) / "out"
            with writing(folder):
                mine.mkdir(parents=True, exist_ok=True)
                for name in ("metrics.jsonl", "result.json"):
                    if (theirs / name).exists():
                        shutil.copy(theirs / name, mine / name)


def earlier_seconds(runs, settings):
    """The seconds from start to end of each finished run, in all campaigns, of the same preset and changes to it."""
    seconds = []
    for name in names(runs):
        events = eventlog.read(Path(runs) / name / LOG).events
        earlier = fold(events).settings
        if earlier and (earlier.preset, earlier.sets, earlier.batch) == (
            settings.preset,
            settings.sets,
            settings.batch,
        ):
            started = {(e["trial"], e["attempt"]): e["time"] for e in events if e["kind"] == "started"}
            seconds += [
                e["time"] - started[e["trial"], 1]
                for e in events
                if e["kind"] == "ended"
                and e["outcome"] == "finished"
                and e["attempt"] == 1
                and (e["trial"], 1) in started
            ]
    return seconds
