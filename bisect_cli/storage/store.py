"""The folder of all campaigns: `<runs>/<name>/` with `events.jsonl`, `lease.json` and `trials/<id>/`."""

import contextlib
import dataclasses
import errno
import os
import re
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
from bisect_cli.storage import eventlog, untrusted

LOG = "events.jsonl"
CONTRADICTION, REPAIRED = "contradiction", "repaired"  # kinds of Problem: an event that cannot be; damage mended
MOST_ASIDE = 1 << 26  # bytes
STOP = "stop"  # a file that asks the controller to stop
TRIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")  # an id
DEFAULT_RUNS = "runs"
# What a run may have taken by the time of day, beside what its training says: more tells of a clock that was set
MOST_TIMES, LONG_START = 10, 3600  # times as long, and seconds more


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
        raise UserError(
            f"cannot write in {folder} ({_words(error)}): mend that, then resume; nothing that was logged is lost."
        ) from error


def names(runs):
    """The campaigns in a runs folder, the most recently active first."""
    found = [(_changed(folder / LOG), folder.name) for folder in Path(runs).glob("*") if os.path.lexists(folder / LOG)]
    return [name for _, name in sorted(found, reverse=True)]


def _changed(path):
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


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


@contextlib.contextmanager
def reading(folder):
    """Turns what can be wrong with a campaign's log into a UserError that names it and the remedy: it cannot be read,
    or what it says makes no sense.
    """
    path, look = Path(folder) / LOG, command_line("check", folder)
    try:
        yield
    except (BrokenPipeError, UserError):
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read ({_words(error)}): look with `{look}`.") from error
    except Exception as error:  # whatever the arithmetic makes of it
        words = " ".join(f"{type(error).__name__}: {str(error)[:100]}".split())
        raise UserError(f"what {path} says makes no sense ({words}): look with `{look}`.") from error


def _words(error):
    return (error.strerror or str(error)).lower()


class Contents(NamedTuple):
    """What a campaign's log holds. state: the State. judged: the State after the last event that can change a verdict,
    which is the one to analyse. mark, judged_mark: the log up to either. problems: the eventlog.Problems of the log,
    and one for each event that cannot be and for each repair. notes: a sentence for each of them.
    """

    state: State
    judged: State
    mark: eventlog.Mark
    judged_mark: eventlog.Mark
    problems: tuple
    log: eventlog.Reading

    @property
    def notes(self):
        return tuple(problem.text for problem in self.problems)


_last_read = {}  # path of a log: its Contents; of one log alone. A command reads the same log several times


def read(folder):
    """The Contents of a campaign's log."""
    path, name = Path(folder).resolve() / LOG, Path(folder).name
    with reading(folder):
        log, known = open_log(folder), _last_read.get((path, name))
        if known is None or known.mark != log.whole:
            known = _contents(log, name)
            _last_read.clear()
            _last_read[path, name] = known._replace(log=None)  # its bytes need not stay in memory
    return known._replace(log=log)


def open_log(folder):
    """The log of a campaign, as an eventlog.Reading. Raises OSError."""
    path = Path(folder).resolve() / LOG
    if os.path.lexists(path) and not path.is_file():  # to read a pipe would never end
        raise OSError(errno.EINVAL, "it is no regular file")
    return eventlog.Reading(path)


def _contents(log, name):
    draft, waiting, judged_mark = Draft(), [], eventlog.Mark()
    for record in log:
        waiting.append(trainers.upgraded(record))
        if record.get("kind") not in WITHOUT_VERDICTS:
            draft.add_all(waiting)
            waiting, judged_mark = [], log.mark
    judged = draft.state()
    state = draft.add_all(waiting).state() if waiting else judged
    state, judged = (_named(one, name) for one in (state, judged))
    return Contents(state, judged, log.mark, judged_mark, (*log.problems, *_further(log.path, state)), log)


def _further(path, state):
    """Problems that are not of the log's lines."""
    for sentence in state.contradictions:
        yield eventlog.Problem(CONTRADICTION, 0, sentence)
    for sentence in state.repairs:
        yield eventlog.Problem(REPAIRED, 0, sentence)
    aside = path.with_name(path.name + ".corrupt")
    if aside.exists():  # an older version took them out of the log
        text = f"damaged lines of {path.name} were moved to {aside.name}: what they said is lost"
        yield eventlog.Problem(eventlog.DAMAGED, 0, text, untrusted.read_end(aside, MOST_ASIDE))


def _named(state, name):
    """A State under the name of its folder, which people may have renamed or copied."""
    return dataclasses.replace(state, settings=state.settings and dataclasses.replace(state.settings, name=name))


def load(folder):
    """The State of a campaign, and notes about damage to its log."""
    contents = read(folder)
    return contents.state, contents.notes


def load_begun(folder):
    """The State of a campaign. Raises UserError if its log does not say what is bisected."""
    state, _ = load(folder)
    check_begun(folder, state)
    return state


def check_begun(folder, state):
    """Raises UserError if the State of a campaign lacks its settings."""
    if state.settings is None:
        raise UserError(
            f"campaign '{Path(folder).name}' does not say what it bisects: it has not begun yet, or has lost the first "
            f"line of its log; look with `{command_line('check', folder)}`."
        )


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
    launcher's. Raises UserError for an id that this program gives to none, as it may lead out of the campaign's folder.
    """
    if not isinstance(trial, str) or not TRIAL.fullmatch(trial):
        raise UserError(
            f"campaign '{Path(folder).name}': a trial is called {trial!r:.80}, which no trial is: its log was damaged "
            f"or made up; look with `{command_line('check', folder)}`."
        )
    return Path(folder) / "trials" / trial


def copy_imported(folder, settings, events):
    """Copies, for runs that events say are imported from campaigns beside this one, what their trainer reported. Raises
    UserError where a link leads out of their folder.
    """
    trainer = trainers.trainer_of(settings)
    for event in (event for event in events if isinstance(event, RunImported)):
        campaign, _, trial = event.source.partition("/")
        theirs = trial_folder(Path(folder).parent / campaign, trial)
        mine = trial_folder(folder, event.trial)
        with writing(folder):
            (mine / "out").mkdir(parents=True, exist_ok=True)
            for path in trainer.reports(settings, theirs):
                if (theirs / path).is_file():
                    _check_inside(theirs / path, Path(folder).parent / campaign)
                    (mine / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(theirs / path, mine / path)


def _check_inside(path, folder):
    if Path(folder).resolve() not in Path(path).resolve().parents:
        raise UserError(
            f"--from {Path(folder).name}: {path} leads out of that campaign by a link: put there what it leads to, or "
            "leave that campaign out."
        )


def earlier_seconds(runs, spec):
    """The seconds from start to end of each finished run, in all campaigns, that should take as long as those of a
    Spec. Where people start the runs, nobody knows.
    """
    trainer, seconds = trainers.find(spec.trainer), []
    for name in names(runs):
        with contextlib.suppress(UserError), reading(Path(runs) / name):  # one that makes no sense says nothing
            records = [trainers.upgraded(record) for record in open_log(Path(runs) / name)]
            settings = fold(records).settings
            timed = settings and not launchers.find(settings.launcher).by_hand
            alike = timed and settings.spec.trainer == spec.trainer  # another one's options are not this one's to read
            if alike and trainer.duration_key(settings.spec) == trainer.duration_key(spec):
                seconds += list(_durations(records))
    return seconds


def _durations(records):
    """The seconds of each run that finished in its first attempt."""
    first = [record for record in records if record.get("attempt") == 1]
    started = {record["trial"]: record["time"] for record in first if record["kind"] == Started.kind}
    for record in first:
        finished = record["kind"] == Ended.kind and record["outcome"] == FINISHED
        if finished and record["trial"] in started:
            seconds = _seconds(record, started[record["trial"]])
            if seconds is not None:
                yield seconds


def _seconds(ended, began):
    """How long a run took whose record of the end this is, None where the clock was set meanwhile."""
    if ended.get("ran") is not None:
        return ended["ran"]
    passed, trained = ended["time"] - began, ended.get("wall")
    credible = passed >= 0 and (trained is None or passed <= MOST_TIMES * trained + LONG_START)
    return passed if credible else None
