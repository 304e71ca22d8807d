"""Campaigns whose runs people start: each is held only for the moment that `start`, `ask` or `tell` take."""

import contextlib
import json
import os
import re
import socket
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bisect_cli.analysis import check_metrics
from bisect_cli.campaign import fingerprint
from bisect_cli.campaign.events import Fingerprint, Opened
from bisect_cli.campaign.state import DIVERGED, FINISHED, Trial
from bisect_cli.errors import UserError
from bisect_cli.launchers import Job
from bisect_cli.launchers.manual import Manual
from bisect_cli.run import ask_tell, session, whose
from bisect_cli.run.attempts import make_job
from bisect_cli.run.recheck import Recheck
from bisect_cli.run.recorder import Recorder
from bisect_cli.run.schedule import is_over
from bisect_cli.storage import lease, store
from bisect_cli.trainers import trainer_of
from bisect_cli.trainers.check import check

PATIENCE = 60  # seconds to wait for whoever holds the campaign for a moment, too
POLL = 0.1


class HandedOut(NamedTuple):
    """A Trial that is out, and the Job that somebody is to start."""

    trial: Trial
    job: Job


@contextlib.contextmanager
def hold(folder, listen, note, settings=None):
    """The Recorder of a campaign, held for a moment; whoever else holds it for a moment is waited for. Raises UserError
    for a campaign that starts its runs itself.
    """
    known = settings or store.load(folder)[0].settings
    if known:
        session.check_launcher(folder, known, by_hand=True)
    with contextlib.ExitStack() as held:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                log, state = held.enter_context(session.hold(folder, settings))
                break
            except lease.Held:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL)
        for sentence in log.notes:
            note(sentence)
        yield Recorder(folder, log, state, listen)


def begin(folder, listener, note, *, slots=None, max_runs=None, settings=None, changes=None, **_):
    """Makes a campaign ready to be asked, or brings one up to date that is there; returns the session.Outcome at once.
    Takes what session.run takes; there is no parity, and nothing to detach from.
    """
    with listener as listen, hold(folder, listen, note, settings) as recorder:
        first = changes(recorder.state) if changes else []
        if first or not is_over(recorder.state, recorder.analysis):
            store.copy_imported(folder, recorder.settings, first)
            session.changed_settings(folder, recorder.state, first)
            for event in first:
                recorder.record(event)
            _open(recorder, slots, max_runs)
            for trial in recorder.state.current:
                check_metrics(recorder.settings, trial)
            ask_tell.settle(recorder)
        return session.Outcome(recorder.state, recorder.analysis, ())


def _open(recorder, slots=None, max_runs=None):
    """Opens a campaign, or opens it again; what is None stays as it was."""
    state = recorder.state
    slots = state.slots if slots is None else slots
    max_runs = state.max_runs if max_runs is None else max_runs
    recorder.record(Opened(os.getpid(), socket.gethostname(), slots, max_runs))


def ask(recorder, count=1, node="", max_runs=None):
    """Hands out up to `count` runs, as HandedOuts. node: where they will run. max_runs: the budget from now on, None if
    it stays as it is.
    """
    state, over = recorder.state, is_over(recorder.state, recorder.analysis)
    if max_runs is not None or state.state == "new" or (state.state == "finished" and not over):
        _open(recorder, max_runs=max_runs)
    Recheck(recorder).at_once()
    ask_tell.settle(recorder)
    launcher, jobs = Manual(node=node), {}

    def prepare(run, name, attempt):
        home = store.trial_folder(recorder.folder, name).resolve()
        with store.writing(recorder.folder):
            jobs[name] = make_job(recorder.settings, run, home, attempt)
            return launcher.prepare(jobs[name]).ticket, jobs[name].argv

    return [HandedOut(trial, jobs[trial.id]) for trial in ask_tell.hand_out(recorder, count, prepare)]


def finish_from(recorder, name, folder=None, node=None):
    """Notes the end of a run by what it wrote. folder: where that is, as its `out` or with an `out` in it; its own
    folder by default. Raises UserError if there is no result, or if it is another run's.
    """
    trial = ask_tell.find_out(recorder.state, name)
    home = store.trial_folder(recorder.folder, name).resolve()
    place = home if folder is None else Path(folder).resolve()
    _check_whose(recorder, trial, place)
    found = _result(recorder.settings, trial, place)
    if isinstance(found, str):
        raise UserError(f"{name}: there is no result in {place}{f': {found}.' if found else '; did it crash?'}")
    if not found.diverged:
        declared = [recorder.settings.metric(metric) for metric in recorder.settings.metrics]
        values = {metric.name: found.metrics[metric.key] for metric in declared if metric.key in found.metrics}
        ask_tell.check_values(recorder.settings, name, values)
    _reconcile(recorder, trial, found.fingerprint)
    outcome, wall = (DIVERGED if found.diverged else FINISHED), found.wall or None
    more = {"metrics": found.metrics, "wall": wall, "fingerprint": found.fingerprint}
    ask_tell.end(recorder, trial, outcome, node=node, **more)


def release(recorder, name):
    """Removes what no further attempt of a run will need."""
    if recorder.state.trials[name].ended:
        home = store.trial_folder(recorder.folder, name)
        trainer_of(recorder.settings).release(recorder.settings, home)


def _check_whose(recorder, trial, place):
    """Raises UserError if this folder is that of another trial of the campaign, or none."""
    if not place.is_dir():
        raise UserError(f"{trial.id}: {place} is no folder: name the one that the run wrote into.")
    for other in recorder.state.trials:
        home = store.trial_folder(recorder.folder, other).resolve()
        if other != trial.id and (home == place or home in place.parents):
            raise UserError(f"{trial.id}: {place} is the folder of {other}: name that of {trial.id}.")


def _result(settings, trial, place):
    """What the run in a folder ended with, as Trainer.result. No agent has seen its end, so that it ended well is the
    word of whoever asks for the result.

    The trainer reads from a copy of the folder, made of links: nothing is written into anybody's folder.
    """
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary) / trial.id
        home.mkdir()
        (home / "out").symlink_to(place / "out" if (place / "out").is_dir() else place)
        attempts = [one for one in place.iterdir() if re.fullmatch(r"attempt-\d+", one.name) and one.is_dir()]
        for folder in attempts or [place]:
            number = int(folder.name.partition("-")[2]) if attempts else 1
            copy = home / f"attempt-{number}"
            copy.mkdir()
            for name in ("stdout.txt", "stderr.txt", "exit.json"):
                if (folder / name).is_file():
                    (copy / name).symlink_to(folder / name)
        last = max(int(one.name.partition("-")[2]) for one in home.glob("attempt-*"))
        end = home / f"attempt-{last}" / "exit.json"
        if not end.exists():
            end.write_text(json.dumps({"code": 0, "asked_to_stop": False, "seconds": 0.0}))
        other = whose.explain_other(settings, {"flags": trial.flags, "seed": trial.seed}, home)
        return other or trainer_of(settings).result(settings, home, last)


def _reconcile(recorder, trial, made_with):
    """Notes what has changed, if a result was computed with something else than its run was begun with. Raises
    UserError if nothing has changed here: it comes from an unlike machine.
    """
    state = recorder.state
    different = fingerprint.differences(made_with, fingerprint.for_flags(state.fingerprint, trial.flags))
    if not different or state.stale(trial):
        return
    found = check(recorder.settings, recorder.folder.resolve())
    changed = fingerprint.differences(state.fingerprint, found)
    if not changed:
        raise UserError(
            f"{trial.id} was trained with another {' and '.join(different)} than is found here: make the machine that "
            "it ran on like this one, and run it again."
        )
    recorder.record(Fingerprint(found, changed))
