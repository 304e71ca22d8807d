"""Whose is what lies in a trial's folder? A log can be older than the folders, as after a restored backup, and folders
are copied by hand. What says that it is of other flags, of another seed, trial, attempt or campaign is never taken for
this trial's, and never overwritten. What does not say whose it is counts.
"""

import itertools
import os
import re
from pathlib import Path

from bisect_cli import launchers
from bisect_cli.campaign.state import WAITING
from bisect_cli.errors import UserError
from bisect_cli.storage import store, untrusted
from bisect_cli.trainers import trainer_of

ASIDE = ".other-"  # in the name of a trial's folder that was set aside
ATTEMPT = re.compile(r"attempt-(\d{1,9})")


def owner(settings, trial, flags, seed):
    """Whose the run of a trial's id is, as plain JSON. With the attempt's number it stands in job.json, and from there
    in what the agent notes of its end.
    """
    return {"campaign": settings.uid, "trial": trial, "flags": list(flags), "seed": seed}


def explain_other(settings, own, home):
    """Why what is in a trial's folder is not of the run that `own` says, as `owner` or a part of it; a sentence without
    a full stop, "" if nothing there says so.
    """
    home = Path(home)
    notes = [(name, said, own) for name, said in trainer_of(settings).whose(settings, home)]
    for number, folder in attempts_in(home):
        expected = {**own, "attempt": number} if "trial" in own else own
        ended = launchers.read_exit(folder) or {}
        notes += [(f"{folder.name}/job.json", job_of(folder), expected)]
        notes += [(f"{folder.name}/exit.json", ended.get("of", {}), expected)]
    differences = ((name, _difference(settings, said, expected)) for name, said, expected in notes)
    return next((f"{name} is of {other}" for name, other in differences if other), "")


def result(settings, trial, home, code):
    """What the latest attempt of a Trial ended with, as Trainer.result. One that was refused has no result, whatever
    lies in its folder; nor has one whose folder says that it is another's. code: of its exit, None if nobody saw that.
    """
    trainer, noted = trainer_of(settings), launchers.read_exit(Path(home) / f"attempt-{trial.attempts}")
    if (noted["code"] if code is None and noted else code) in trainer.refusals(settings):
        return ""
    other = explain_other(settings, owner(settings, trial.id, trial.flags, trial.seed), home)
    return other or trainer.result(settings, home, trial.attempts)


def set_aside_all(folder, state):
    """As set_aside, for all trials of a campaign that wait to be resumed. Raises UserError where the disk does not let
    us.
    """
    with store.writing(folder):
        for trial in (trial for trial in state.in_flight if trial.state == WAITING):
            own = owner(state.settings, trial.id, trial.flags, trial.seed)
            set_aside(state.settings, own, store.trial_folder(folder, trial.id))


def set_aside(settings, own, home):
    """Renames a trial's folder if something has run there that was not the run of `owner`. Raises OSError."""
    home = Path(home)
    if has_run(home) and explain_other(settings, own, home):
        rename_aside(home)


def rename_aside(home):
    """Renames a trial's folder to one that no trial has. Raises OSError."""
    kept = (home.with_name(f"{home.name}{ASIDE}{number}") for number in itertools.count(1))
    home.rename(next(path for path in kept if not os.path.lexists(path)))


def attempts_in(home):
    """(number, folder) of each attempt."""
    if not home.is_dir():
        return []
    found = ((ATTEMPT.fullmatch(path.name), path) for path in home.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)


def has_run(home):
    """Whether something has run in a trial's folder."""
    out = home / "out"
    if out.is_dir() and any(out.iterdir()):
        return True
    return any((folder / "exit.json").exists() for _, folder in attempts_in(home))


def job_of(folder):
    """Whose the run of an attempt's folder is, as its job.json says it; {} if that is not known."""
    try:
        of = (untrusted.read_object(folder / "job.json") or {}).get("of")
    except OSError:
        return {}
    return of if isinstance(of, dict) else {}


def _difference(settings, said, expected):
    """What is said and not as expected, in words."""
    flags = flags_of(settings, said.get("flags"))
    if flags is not None and set(flags) != set(expected["flags"]):
        return f"other flags ({', '.join(flags) or 'none'})"
    for part in ("seed", "trial", "attempt", "campaign"):
        value, own = said.get(part), expected.get(part)  # a campaign from before there were uids has ""
        if type(value) is type(own) and value != own and "" not in (value, own):
            return f"another {part} ({str(value)[:40]})"
    return ""


def flags_of(settings, said):
    """Flags as they are named here, None for what is no list of them."""
    if not isinstance(said, list) or not all(isinstance(flag, str) for flag in said):
        return None
    try:
        return [settings.spec.parse_flag(flag) for flag in said]
    except UserError:
        return None
