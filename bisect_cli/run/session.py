"""A campaign opened, held and closed: what `start`, `resume` and `stop` do with one, whatever shows it."""

import contextlib
import dataclasses
import functools
import secrets
import time
from typing import NamedTuple

from bisect_cli import launchers
from bisect_cli.analysis import Analysis, analyse
from bisect_cli.campaign import events
from bisect_cli.campaign.state import State
from bisect_cli.campaign.subsets import union
from bisect_cli.errors import UserError
from bisect_cli.run import interrupts, lost, reconcile
from bisect_cli.run.controller import Controller
from bisect_cli.run.elsewhere import check_elsewhere
from bisect_cli.run.recorder import Recorder
from bisect_cli.run.schedule import is_over
from bisect_cli.storage import eventlog, lease, ownership, store
from bisect_cli.trainers import trainer_of
from bisect_cli.trainers.check import check

STOP_SECONDS = 120  # to wait for a controller, which gives its runs a minute to save


class Outcome(NamedTuple):
    """How a session ended. notes: what was mended in the log, in sentences."""

    state: State
    analysis: Analysis
    notes: tuple


@contextlib.contextmanager
def hold(folder, settings=None, elsewhere_ended=False):
    """Holds a campaign: its log, open for writing, and its State. A new one is given its settings, an old one must have
    them. elsewhere_ended: whoever may hold it on another machine does no more. Raises UserError if another process
    holds it, or if it asks another question.
    """
    with contextlib.ExitStack() as held:
        with store.writing(folder):
            held.enter_context(lease.Lease(folder, elsewhere_ended))
            log = eventlog.Writer(folder / store.LOG)
            held.callback(log.close)
        contents = store.read(folder)
        state, log.notes = contents.state, contents.notes
        seen = lost.highest_number(folder, contents.problems)
        if state.settings is None:
            uid = lost.uid_of(folder, settings) if settings else ""
            something = state != State() or seen or any(one.lost for one in contents.problems)
            if settings is None or (something and not uid):
                raise UserError(
                    f"campaign '{folder.name}' has lost its settings: see what is left of it with "
                    f"`{store.command_line('check', folder)}`, or start another under a new name."
                )
            state = _create(folder, log, settings, uid)
        elif settings is not None:
            check_same(state.settings, settings, folder)
        yield log, dataclasses.replace(state, seen=seen)


def _create(folder, log, settings, uid):
    """Logs what a campaign is about; returns its State. uid: "" for a new one."""
    settings = dataclasses.replace(settings, name=folder.name, uid=uid or secrets.token_hex(5))
    event = events.Created(settings.to_json(), settings.spec.to_json())
    with store.writing(folder):
        ownership.sign(folder, settings)  # first: a controller that dies in between leaves nothing to be asked about
        log.append(events.record_of(event, time.time()))
    return store.load(folder)[0]


def changed_settings(folder, state, changes):
    """The Settings after these events, which are the user's own, as those before are; to be called before they are
    logged.
    """
    settings = functools.reduce(events.apply, changes, state).settings
    if ownership.is_own(folder, state.settings):
        with store.writing(folder):
            ownership.sign(folder, settings)
    return settings


def check_same(existing, settings, folder):
    """Raises UserError if a campaign of this name asks another question."""
    if existing is None:
        return
    different = existing.differences(dataclasses.replace(settings, name=existing.name))
    if different:
        raise UserError(
            f"name '{existing.name}' is already in use, with other {', '.join(different)}: choose another --name, "
            f"or resume that one with `{store.resume_command(folder)}`."
        )


def check_launcher(folder, settings, by_hand=False):
    """Raises UserError if people start the runs of a campaign, or if, with by_hand, they do not."""
    if launchers.find(settings.launcher).by_hand != by_hand:
        if by_hand:
            raise UserError(
                f"campaign '{folder.name}' starts its runs itself: resume it with `{store.resume_command(folder)}`; "
                "to start them yourself, begin one with --launcher manual."
            )
        raise UserError(
            f"you start the runs of campaign '{folder.name}' yourself: go on with "
            f"`{store.command_line('ask', folder)}` and `{store.command_line('tell', folder)}`."
        )


def launcher_changes(state, settings, folder):
    """The event, if any is needed, after which the runs of a campaign are started as these Settings say. Raises
    UserError while runs are under way, which another launcher could not find.
    """
    before = state.settings.launcher
    if (before, state.settings.launcher_options) == (settings.launcher, settings.launcher_options):
        return []
    if before != settings.launcher and state.running:
        by_hand = launchers.find(before).by_hand
        how = "say how they ended, with" if by_hand else "stop it first, with"
        raise UserError(
            f"--launcher {settings.launcher}: campaign '{folder.name}' has runs under way that only launcher {before} "
            f"can find ({' '.join(trial.id for trial in state.running)}); {how} "
            f"`{store.command_line('tell' if by_hand else 'stop', folder)}`."
        )
    return [events.LauncherChanged(settings.launcher, settings.launcher_options)]


def run(
    folder,
    listener,
    note,
    *,
    slots=None,
    max_runs=None,
    settings=None,
    parity=True,
    detach=False,
    changes=None,
    elsewhere_ended=False,
):
    """Runs a campaign until it ends or is interrupted; returns the Outcome.

    listener: a context manager that gives the listener of the Recorder. note: shows a sentence about the log. slots:
    runs at once, None for as many as suit the machine. settings: of a new campaign. detach: as of a Controller.
    changes: a function of the State that says what is to be logged first. elsewhere_ended: what was started on other
    machines has ended. Raises UserError if that is not sure.
    """
    with hold(folder, settings, elsewhere_ended) as (log, state):
        for sentence in log.notes:
            note(sentence)
        if not elsewhere_ended:
            check_elsewhere(folder, state, launcher_of(state.settings))
        first = changes(state) if changes else []
        if not first and state.state == "finished":
            analysis = analyse(state)
            if is_over(state, analysis):
                return Outcome(state, analysis, log.notes)
        store.copy_imported(folder, state.settings, first)
        settings = changed_settings(folder, state, first)
        launcher = launcher_of(settings, slots)
        for sentence in launcher.notes:
            note(sentence)
        with listener as listen:
            recorder = Recorder(folder, log, state, listen)
            Controller(recorder, launcher, max_runs, parity=parity, detach=detach).run(first)
        return Outcome(recorder.state, recorder.analysis, log.notes)


def resume(folder, listener, note, *, slots=None, add_flags=None, launcher=None, begin=None, **more):
    """Runs an old campaign on, as `run`, with what that takes. add_flags: further ones to bisect, as people write them.
    launcher: its name and its options from now on, None if they stay as they are. begin: in the place of `run` where
    people start the runs from now on. Raises UserError if the trainer refuses, or if its launcher can start no run.
    """
    state = store.load(folder)[0]
    if state.settings is None:  # `hold` says so
        return run(folder, listener, note)
    settings = state.settings
    if launcher:
        settings = dataclasses.replace(settings, launcher=launcher[0], launcher_options=launcher[1])
    moved = functools.partial(launcher_changes, settings=settings, folder=folder)
    moved(state)  # may refuse
    check_launcher(folder, settings, by_hand=begin is not None)
    spec = settings.spec
    flags = spec.parse_flags(add_flags) if add_flags is not None else ()
    if flags and set(flags) <= set(settings.flags):
        raise UserError(f"--add-flags {add_flags}: campaign '{folder.name}' has them already.")
    launcher_of(settings, slots).check()
    whole = dataclasses.replace(settings, flags=union(settings.flags, flags, order=spec.flag_names))
    found = check(whole, folder.resolve())
    return (begin or run)(
        folder,
        listener,
        note,
        slots=slots,
        settings=settings,
        **more,
        changes=lambda state: [*moved(state), *reconcile.changes(state, found, flags)],
    )


def launcher_of(settings, slots=None):
    """The Launcher of a campaign. slots: what the user says of runs at once."""
    fills_machine = trainer_of(settings).fills_machine(settings)
    return launchers.find(settings.launcher)(slots, settings.launcher_options, fills_machine)


def left_running(folder):
    """Whether a controller that is no more may have left something running."""
    held, (state, _) = lease.holder(folder), store.load(folder)
    return not (held and held.alive is not False) and bool(state.running or state.parity_ticket)


def stop(folder, note):
    """Asks a running campaign to save its runs and stop, and waits until it has; what a dead controller has left
    running is stopped from here. Returns whether there was anything to stop. Raises UserError if people start its runs,
    or if some were started on another machine, and RuntimeError if it does not stop.
    """
    held = lease.holder(folder)
    state, _ = store.load(folder)
    if state.settings:
        check_launcher(folder, state.settings)
    if held and held.alive is not False:
        with store.writing(folder):
            interrupts.request(folder, held)
        note(f"Asked process {held.pid} on {held.host} to stop; its runs are saving.")
        _wait_for(folder, held, STOP_SECONDS + launcher_of(state.settings).lag if state.settings else STOP_SECONDS)
    elif left_running(folder):
        with hold(folder) as (log, state):
            check_elsewhere(folder, state, launcher_of(state.settings))
            Controller(Recorder(folder, log, state), launcher_of(state.settings, state.slots)).stop()
    else:
        return False
    return True


def _wait_for(folder, held, seconds):
    deadline = time.monotonic() + seconds
    while lease.holder(folder) == held:
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {held.pid} on {held.host} has not stopped within {seconds:.0f} s: look there.")
        time.sleep(0.2)
