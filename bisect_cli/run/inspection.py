"""What is wrong with a campaign on disk: its log, the folders of its trials and what they say, its lease, and what
processes that were killed have left behind. Nothing is written here (`repair` does that).
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from bisect_cli.analysis import analyse
from bisect_cli.campaign import events, fingerprint
from bisect_cli.campaign.state import DIVERGED, FINISHED, RUNNING, State
from bisect_cli.errors import UserError
from bisect_cli.launchers import find as launcher_named
from bisect_cli.launchers import process, read_exit
from bisect_cli.report import kept
from bisect_cli.report.lines import plain
from bisect_cli.report.summary import summarize
from bisect_cli.run import lost, whose
from bisect_cli.storage import eventlog, lease, store
from bisect_cli.trainers import runfiles, upgraded

LEFTOVERS = ("*.new", ".*.new", "*.mended")  # of files that are written whole or not at all
ANEW = "write the log anew from what makes sense in it"
SHOWN = 5  # of many trials


class Finding(NamedTuple):
    """Something that is wrong. what: a sentence without a full stop. mend: what a repair would do about it, "" if that
    is nothing; remedy: what to do then. about: what a repair needs to know, by its kind.
    """

    kind: str
    what: str
    mend: str = ""
    remedy: str = ""
    about: object = None


class Sound(NamedTuple):
    """What of a log makes sense: the records, and the State that they fold to."""

    records: tuple
    state: State


class _Trouble(NamedTuple):
    """Why a log cannot be shown. foreseen: this version of the program does not know what it names."""

    words: str
    foreseen: bool


class Inspection(NamedTuple):
    """running: whether somebody runs the campaign now, so that what is on disk may change. sound: the Sound of its log.
    findings: a tuple.
    """

    running: bool
    sound: Sound
    findings: tuple


def inspect(folder, held):
    """The Inspection of the campaign in a folder. held: the lease.Holder. Raises UserError if its log is of a newer
    version.
    """
    folder = Path(folder)
    running = bool(held and held.alive is not False)
    sound, findings = _look_at_log(folder, running)
    if sound.state.settings is None and not any(one.kind in ("settings", "unreadable") for one in findings):
        findings += [] if running else list(_without_settings(folder, sound))
    elif sound.state.settings:
        findings += list(_of_trials(folder, sound.state, running))
        findings += [] if running else list(_of_folders(folder, sound.state))
    findings += list(_of_lease(folder, held, running))
    findings += [] if running else list(_of_leftovers(folder, sound.state))
    return Inspection(running, sound, tuple(findings))


# --- the log


def _look_at_log(folder, running):
    """(the Sound of a log, Findings)."""
    try:
        log = store.open_log(folder)
        records = tuple(log)
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        remedy = "put a copy of it there, or mend what keeps it from being read"
        return Sound((), State()), [Finding("unreadable", f"{store.LOG} cannot be read ({words})", remedy=remedy)]
    findings = [Finding("log", problem.text, ANEW) for problem in log.problems]
    if not running and log.tail and eventlog.event_of(log.tail) is None:
        findings.append(Finding("log", f"the last line of {store.LOG} was cut short, as by a crash", ANEW))
    aside = folder / f"{store.LOG}.corrupt"
    if os.path.lexists(aside):
        what = f"damaged lines were moved to {aside.name} by an older version: what they said is lost"
        findings.append(Finding("leftover", what, f"move {aside.name} away", about=aside))
    while True:
        records, further = _without_contradictions(records)
        findings += further
        number = _first_senseless(records, folder)
        if number is None:
            return Sound(records, _fold(records)), findings
        trouble = _trouble(records[: number + 1], folder)
        what = f"{_name(records[number])}, event {number + 1} of the log, makes no sense ({trouble.words})"
        if trouble.foreseen or records[number].get("kind") == events.Created.kind:
            remedy = "use the version of maskrcnn-bisect that wrote it, or put an older copy of the log there"
            return Sound(records, State()), [*findings, Finding("settings", what, remedy=remedy)]
        findings.append(Finding("log", what, ANEW))
        records = (*records[:number], *records[number + 1 :])


def _without_contradictions(records):
    """(the records that fit to those before them, Findings of the others)."""
    good, findings, draft = [], [], events.Draft()
    for record in records:
        sentences = ()
        with contextlib.suppress(Exception):  # `_first_senseless` says it
            sentences = draft.add_if_it_fits(upgraded(record))
        findings += [Finding("log", sentence, ANEW) for sentence in sentences]
        good += [] if sentences else [record]
    return tuple(good), findings


def _first_senseless(records, folder):
    """The index of the first record with which a log cannot be shown, None if there is none."""
    if not _trouble(records, folder):
        return None
    low, high = 0, len(records)  # of the records before `high` there is trouble, of those before `low` none
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _trouble(records[:middle], folder) else (middle, high)
    return high - 1


def _trouble(records, folder):
    """The _Trouble of a log of these records, None if it can be shown."""
    try:
        state = _fold(records)
        for trial in state.trials.values():
            _check_trial(state, trial)
        if state.settings:
            list(map(str, plain(summarize(folder, state, analyse(state, kept.Keeper(folder).memory)))))
        return None
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {str(error)[:100]}".split())
        return _Trouble(words, isinstance(error, UserError))


def _check_trial(state, trial):
    """Raises ValueError for a trial that no campaign has."""
    if not isinstance(trial.id, str) or not store.TRIAL.fullmatch(trial.id):
        raise ValueError(f"no trial is called {trial.id!r}")
    if type(trial.seed) is not int:
        raise ValueError(f"{trial.seed!r} is no seed")
    others = set(trial.flags) - set(state.settings.spec.flag_names) if state.settings else ()
    if others:
        raise ValueError(f"no flag is called {', '.join(map(str, others))}")


def _fold(records):
    return events.fold(map(upgraded, records))


def _name(record):
    """An event in a few words."""
    kind, trial = record.get("kind"), record.get("trial")
    return f"`{str(kind)[:40]}`{f' of {trial[:40]}' if isinstance(trial, str) else ''}"


def _without_settings(folder, sound):
    if sound.records or lost.homes(folder):
        yield Finding(
            "settings",
            f"{store.LOG} does not say what is bisected: its first line is lost",
            remedy=f"call the same `maskrcnn-bisect start ...` again with --name {folder.name}: it takes over runs of "
            "the same commands that say what they were computed with; else begin another campaign under a new name",
        )


# --- the trials that the log knows


def _of_trials(folder, state, running):
    own = [one for one in state.trials.values() if not one.source and not (running and one.state == RUNNING)]
    homes = {trial.id: store.trial_folder(folder, trial.id) for trial in own}
    missing = [trial.id for trial in own if not homes[trial.id].is_dir()]
    if missing:
        names = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
        what = f"the folder of {names} is missing"
        yield Finding("missing", what, remedy="nothing, or put it back: what the log says of it counts")
    for trial in own:
        if trial.id not in missing:
            with contextlib.suppress(OSError):
                yield from _of_trial(state, trial, homes[trial.id], running)


def _of_trial(state, trial, home, running):
    other = whose.explain_other(state.settings, whose.owner(state.settings, trial.id, trial.flags, trial.seed), home)
    alive = trial.state == RUNNING and not _is_over(trial, home)
    if other:
        mend = "" if alive else f"rename it to {trial.id}{whose.ASIDE}N"
        what = f"the folder of {trial.id} is not its own: {other}"
        yield Finding("foreign", what, mend, "stop the campaign first", about=trial)
    elif trial.state in (FINISHED, DIVERGED) and not launcher_named(state.settings.launcher).by_hand:
        yield from _of_result(state, trial, home)
    elif trial.state == RUNNING and not running and not alive:
        what = f"{trial.id} is under way by the log, and its process is gone"
        yield Finding("ended", what, "log its end, with its result if it has one", about=trial)


def _of_result(state, trial, home):
    """Where a run's result is another than the log has it."""
    found = whose.result(state.settings, trial, home, None)
    if not isinstance(found, runfiles.Result):
        remedy = "nothing: what the log says of it counts"
        yield Finding("result", f"{trial.id} has a result by the log, and none in its folder", remedy=remedy)
        return
    mine, its = (
        _result_words(state, one, metrics)
        for one, metrics in ((trial.state == DIVERGED, trial.metrics), (found.diverged, found.metrics))
    )
    changed = fingerprint.differences(trial.fingerprint, found.fingerprint)
    remedy = "nothing, if the folder was changed: what the log says counts; else make the run again in a new campaign"
    if mine != its:
        yield Finding("result", f"{trial.id} came to {mine} by the log, and to {its} by its folder", remedy=remedy)
    elif changed:
        what = f"{trial.id} was computed with another {' and '.join(changed)} by its folder than by the log"
        yield Finding("result", what, remedy=remedy)


def _result_words(state, diverged, metrics):
    keys = [(name, state.settings.metric(name).key) for name in state.settings.metrics]
    known = [f"{name} {metrics[key]!r}" for name, key in keys if key in metrics]
    return "a divergence" if diverged else " ".join(known) or "no metric"


def _is_over(trial, home):
    """Whether nothing of an attempt is left that was under way."""
    if read_exit(home / f"attempt-{trial.attempts}"):
        return True
    ticket = trial.ticket if isinstance(trial.ticket, dict) else {}
    if "pid" not in ticket or process.place(ticket) == process.ELSEWHERE:
        return False
    return process.identity(ticket["pid"]) != ticket.get("identity")


# --- what else there is


def _of_folders(folder, state):
    """Folders of trials that the log does not know."""
    found, others = lost.find_lost(folder, state)
    for run in found:
        flags = state.settings.label(run.flags)
        what = f"{run.trial} has ended ({flags}, seed {run.seed}), and the log does not know it"
        yield Finding("lost", what, "log it", about=run)
    known = {*state.trials, *(run.trial for run in found)}
    for home in sorted(lost.homes(folder)):
        if home.name not in known and whose.ASIDE not in home.name:
            why = "of which too little is known to count it" if home.name in others else "which the log does not know"
            what = f"trials/{home.name} is of a run {why}"
            if _may_live(home):
                remedy = f"make sure that nothing runs there any more, then rename it to {home.name}{whose.ASIDE}1"
                yield Finding("stray", what, remedy=remedy)
            else:
                yield Finding("stray", what, f"rename it to {home.name}{whose.ASIDE}N", about=home)


def _may_live(home):
    """Whether something has begun in a folder, and nobody has noted its end."""
    attempts = whose.attempts_in(home)
    return bool(attempts) and whose.has_run(home) and read_exit(attempts[-1][1]) is None


def _of_lease(folder, held, running):
    path = folder / lease.FILE
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        yield Finding("lease", f"{path.name} is no regular file", remedy=f"delete {path}")
    elif held and held.alive is False:
        what = f"{path.name} names process {held.pid} as the one that runs the campaign, which is gone"
        yield Finding("lease", what, "empty it")


def _of_leftovers(folder, state):
    found = {path for pattern in LEFTOVERS for path in folder.glob(pattern)}
    for trial in state.trials.values():
        if trial.state != RUNNING:  # else its agent may be writing just now
            found.update(store.trial_folder(folder, trial.id).glob("attempt-*/*.new"))
    for path in sorted(found):
        what = f"{path.relative_to(folder)} was left by a process that was killed while it wrote"
        yield Finding("leftover", what, "move it away", about=path)
    path = folder / kept.FILE
    if os.path.lexists(path) and not _fits(folder):
        yield Finding("leftover", f"{path.name} was not made of this log", "move it away", about=path)


def _fits(folder):
    """Whether what was worked out of a log is of this one."""
    with contextlib.suppress(OSError, UserError):
        log = store.open_log(folder)
        return all(log.begins_with(mark) for mark in kept.marks(folder))
    return True
