"""The folder of all campaigns: `<runs>/<name>/` with `events.jsonl`, `lease.json` and `trials/<id>/`."""

import contextlib
import errno
import os
import shlex
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from bisect_cli import launchers, trainers
from bisect_cli.campaign.events import WITHOUT_VERDICTS, Draft, Ended, RunImported, Started, fold
from bisect_cli.campaign.settings import check_name
from bisect_cli.campaign.state import FINISHED, State
from bisect_cli.errors import UserError, nearest, unknown
from bisect_cli.storage import eventlog

LOG = "events.jsonl"
STOP = "stop"  # a file that asks the controller to stop
DEFAULT_RUNS = "runs"


@contextlib.contextmanager
def writing(folder):
    """Turns what can go wrong with a disk into a UserError that names the folder and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk of {folder} is full: free some space, then resume; nothing that was logged is lost."
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


def resume_command(folder):
    """The command that resumes a campaign, as it can be pasted."""
    return command_line("resume", folder)


def command_line(command, folder, *words):
    """A command on a campaign, with more words behind its name, as it can be pasted."""
    folder = Path(folder)
    elsewhere = [] if folder.parent.resolve() == Path(DEFAULT_RUNS).resolve() else ["--runs-dir", str(folder.parent)]
    return shlex.join(["maskrcnn-bisect", command, folder.name, *words, *elsewhere])


class Contents(NamedTuple):
    """What a campaign's log holds. state: the State. judged: the State after the last event that can change a verdict,
    which is the one to analyse. mark, judged_mark: the log up to either. notes: about damage to it.
    """

    state: State
    judged: State
    mark: eventlog.Mark
    judged_mark: eventlog.Mark
    notes: tuple
    log: eventlog.Reading


_last_read = {}  # path of a log: its Contents; of one log alone. A command reads the same log several times


def read(folder):
    """The Contents of a campaign's log."""
    path = Path(folder).resolve() / LOG
    log, known = eventlog.Reading(path), _last_read.get(path)
    if known is None or known.mark != log.whole:
        known = _contents(log)
        _last_read.clear()
        _last_read[path] = known._replace(log=None)  # its bytes need not stay in memory
    return known._replace(log=log)


def _contents(log):
    draft, waiting, judged_mark = Draft(), [], eventlog.Mark()
    for record in log:
        waiting.append(trainers.upgraded(record))
        if record.get("kind") not in WITHOUT_VERDICTS:
            draft.add_all(waiting)
            waiting, judged_mark = [], log.mark
    judged = draft.state()
    state = draft.add_all(waiting).state() if waiting else judged
    return Contents(state, judged, log.mark, judged_mark, tuple(log.notes), log)


def load(folder):
    """The State of a campaign, and notes about damage to its log."""
    contents = read(folder)
    return contents.state, contents.notes


def find_trial(state, name):
    """A Trial of a State. Raises UserError, with the nearest names, if there is none."""
    if name not in state.trials:
        raise unknown(f"trial of campaign '{state.settings.name}'", name, state.trials or ["(none has started)"])
    return state.trials[name]


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


def copy_imported(folder, settings, events):
    """Copies, for runs that events say are imported from campaigns beside this one, what their trainer reported."""
    trainer = trainers.trainer_of(settings)
    for event in (event for event in events if isinstance(event, RunImported)):
        campaign, _, trial = event.source.partition("/")
        theirs = trial_folder(Path(folder).parent / campaign, trial)
        mine = trial_folder(folder, event.trial)
        with writing(folder):
            (mine / "out").mkdir(parents=True, exist_ok=True)
            for path in trainer.reports(settings, theirs):
                if (theirs / path).is_file():
                    (mine / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(theirs / path, mine / path)


def earlier_seconds(runs, spec):
    """The seconds from start to end of each finished run, in all campaigns, that should take as long as those of a
    Spec. Where people start the runs, nobody knows.
    """
    trainer, seconds = trainers.find(spec.trainer), []
    for name in names(runs):
        records = [trainers.upgraded(record) for record in eventlog.read(Path(runs) / name / LOG).events]
        settings = fold(records).settings
        timed = settings and not launchers.find(settings.launcher).by_hand
        alike = timed and settings.spec.trainer == spec.trainer  # another trainer's options are not this one's to read
        if alike and trainer.duration_key(settings.spec) == trainer.duration_key(spec):
            seconds += _durations(records)
    return seconds


def _durations(records):
    """The seconds of each run that finished in its first attempt."""
    first = [record for record in records if record.get("attempt") == 1]
    started = {record["trial"]: record["time"] for record in first if record["kind"] == Started.kind}
    for record in first:
        finished = record["kind"] == Ended.kind and record["outcome"] == FINISHED
        if finished and record["trial"] in started:
            ran = record.get("ran")  # it is known where a run may have waited before it began
            yield record["time"] - started[record["trial"]] if ran is None else ran
