"""Asking before the commands of a campaign are run that this user has not begun here."""

import os
import sys

import click

from bisect_cli.errors import UserError

yes = click.option(
    "--yes", is_flag=True, help="Run the commands of a campaign that was not begun here by you, without being asked."
)


def ask(folder, yes):
    """Raises UserError unless the commands of the campaign in a folder are the user's own, as far as is known, or the
    user has said that they may run.
    """
    from bisect_cli.cli import screen
    from bisect_cli.report.executed import executed_lines, strange_trials
    from bisect_cli.storage import ownership, store

    state = store.load(folder)[0]
    if state.settings is None:
        return
    with store.reading(folder):
        strange = strange_trials(state)
        if not strange and ownership.is_own(folder, state.settings):
            return
        lines = list(executed_lines(folder, state))
    if not yes:
        for line in [*lines, *(f"  {trial} has flags or a seed that are none of this campaign's" for trial in strange)]:
            screen.say(line, err=True)
        _confirm(folder)
    with store.writing(folder):
        ownership.sign(folder, state.settings)
    note_trouble()


def note_trouble():
    """Says so where campaigns cannot be known to be the user's own."""
    from bisect_cli.cli import screen
    from bisect_cli.storage import ownership

    if ownership.trouble():
        screen.note(
            f"your home folder cannot keep a key ({ownership.trouble()}): resume will ask before it runs anything."
        )


def _confirm(folder):
    why = f"campaign '{folder.name}' was not begun here by you, or what it executes was changed since"
    if not (os.isatty(0) and sys.stderr.isatty()):
        raise UserError(f"{why}: read what that is, above, then say --yes if it may run.")
    if not click.confirm(f"{why}. Run it?", err=True):
        raise UserError("nothing was run.")
