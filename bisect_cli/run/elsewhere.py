"""Runs that may go on where they cannot be seen from here: on another machine, or in another container. They are
neither lost nor started twice, until a person says what has become of them.
"""

from bisect_cli.errors import UserError
from bisect_cli.run.compare import HOME
from bisect_cli.storage import store

OPTION = "--elsewhere-ended"


def check_elsewhere(folder, state, launcher):
    """Raises UserError if there are any among the runs under way of a campaign, a State."""
    tickets = {
        trial.id: (trial.ticket or {}, store.trial_folder(folder, trial.id) / f"attempt-{trial.attempts}")
        for trial in state.running
    }
    if state.parity_ticket:
        tickets["parity"] = state.parity_ticket, folder / HOME
    places = {name: launcher.elsewhere(*where) for name, where in tickets.items()}
    there = {name: place for name, place in places.items() if place}
    if there:
        raise UserError(
            f"campaign '{folder.name}' has runs under way {' and '.join(sorted(set(there.values())))}, where they may "
            f"still go on ({' '.join(there)}): stop them there, with `{store.command_line('stop', folder)}`, or, if "
            f"nothing of them is left, go on here with `{store.command_line('resume', folder, OPTION)}`."
        )
