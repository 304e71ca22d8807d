"""What a damaged log has lost, as far as the folders of the trials still say it: which ids are taken, and which runs of
this campaign have ended.
"""

import re
from typing import NamedTuple

from bisect_cli import launchers
from bisect_cli.campaign.events import Started, Unaccounted
from bisect_cli.campaign.state import id_of, number_of
from bisect_cli.campaign.subsets import ordered
from bisect_cli.errors import UserError
from bisect_cli.run import whose
from bisect_cli.storage import store
from bisect_cli.trainers import runfiles, trainer_of

_ID_IN_LINE = re.compile(rb'"trial":\s*"(t\d{1,9})"')


class Found(NamedTuple):
    """A run of the campaign that has ended, of which the log says nothing. attempt: the number of its last one."""

    trial: str
    flags: tuple
    seed: int
    attempt: int


def highest_number(folder, problems):
    """The highest number of a trial's id that a folder has, also of one that was set aside, or that can still be read
    in a damaged line. problems: eventlog.Problems.
    """
    names = {home.name.partition(".")[0] for home in homes(folder)}
    names.update(name.decode() for problem in problems for name in _ID_IN_LINE.findall(problem.data))
    return max(map(number_of, names), default=0)


def recover(recorder, attempts):
    """Notes the runs that have ended by their folders, and of which a damaged log says nothing. attempts: Attempts."""
    found, others = find_lost(recorder.folder, recorder.state)
    with recorder.together():
        for run in found:
            recorder.record(Started(run.trial, run.flags, run.seed, run.attempt, why="found in its folder"))
            attempts.record_end(recorder.state.trials[run.trial], launchers.LOST, reason="the log has lost its end")
        if others:
            recorder.record(Unaccounted(others))


def find_lost(folder, state):
    """-> (Founds, ids of trials that have run, of which too little is known to count them)."""
    settings, known = state.settings, {(trial.flags, trial.seed) for trial in state.current}
    founds, others = [], []
    for home in sorted(homes(folder), key=lambda home: (number_of(home.name), home.name)):
        if not number_of(home.name) or home.name in state.trials or not settings.uid:
            continue
        found = _found(settings, home)
        if isinstance(found, Found) and (found.flags, found.seed) not in known:
            known.add((found.flags, found.seed))
            founds.append(found)
        elif found and home.name not in state.unaccounted:
            others.append(home.name)
    return founds, others


def uid_of(folder, settings):
    """The uid of the campaign that has run in a folder whose log is lost: where all runs there were of the commands
    that these Settings make, and say what they were computed with. "" where that is not so.
    """
    own = [home for home in homes(folder) if number_of(home.name) and whose.has_run(home)]
    uids = {_uid_in(settings, home) for home in own}
    return uids.pop() if len(uids) == 1 else ""


def _uid_in(settings, home):
    trainer, attempts = trainer_of(settings), whose.attempts_in(home)
    number, attempt = attempts[-1] if attempts else (0, home)
    of, argv = whose.job_of(attempt), launchers.read_argv(attempt)
    flags, seed, uid = whose.flags_of(settings, of.get("flags")), of.get("seed"), of.get("campaign")
    if flags is None or type(seed) is not int or not isinstance(uid, str):
        return ""
    try:
        command = trainer.command(settings, ordered(flags, settings.spec.flag_names), seed, home.resolve(), number)
    except UserError:
        return ""
    found = trainer.result(settings, home, number)
    known = found.fingerprint if isinstance(found, runfiles.Result) else isinstance(found, str)
    return uid if argv == list(map(str, command.argv)) and known else ""


def _found(settings, home):
    """The Found of a trial's folder; True if there was a run of this campaign, of which that is not known."""
    attempts = whose.attempts_in(home)
    last, attempt = attempts[-1] if attempts else (0, home)
    of = whose.job_of(attempt)
    if (of.get("campaign"), of.get("trial")) != (settings.uid, home.name) or not whose.has_run(home):
        return None
    flags, seed = whose.flags_of(settings, of.get("flags")), of.get("seed")
    if flags is None or not set(flags) <= set(settings.flags) or type(seed) is not int:
        return True
    flags = ordered(flags, settings.spec.flag_names)
    other = whose.explain_other(settings, whose.owner(settings, home.name, flags, seed), home)
    ended = launchers.read_exit(attempt) is not None  # else it may be alive, and nobody could find it
    return Found(home.name, flags, seed, last) if ended and not other else True


def homes(folder):
    """The folders of trials, those set aside included."""
    place = store.trial_folder(folder, id_of(0)).parent
    try:
        return [home for home in place.iterdir() if not home.is_symlink() and home.is_dir()]
    except OSError:
        return []
