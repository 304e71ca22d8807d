"""Options that several commands share, and those that a trainer declares."""

from pathlib import Path

import click

from bisect_cli.errors import UserError
from bisect_cli.storage.store import DEFAULT_RUNS

runs_dir = click.option(
    "--runs-dir",
    default=DEFAULT_RUNS,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of all campaigns.",
)
slots = click.option(
    "--slots",
    type=int,
    help="Runs at once. Default: one a core, at most 8; with --np one. With --launcher slurm 8, manual any number.",
)
detach = click.option(
    "--detach", is_flag=True, help="Ctrl-C leaves the runs under way going; `resume` takes them over, `stop` ends them."
)
max_runs = click.option("--max-runs", type=int, help="Stop, inconclusive, after this many runs. Retries do not count.")


def of_trainer(trainer, parity=False):
    """A decorator that adds a trainer's options, all or those for parity."""

    def add(command):
        for option in reversed([option for option in trainer.options if option.switch]):
            if option.parity or not parity:
                command = _click_option(option)(command)
        return command

    return add


def _click_option(option):
    types = {"text": None, "number": int, "path": click.Path(resolve_path=True)}
    more = {"metavar": option.metavar} if option.metavar else {}
    return click.option(
        option.switch,
        option.name,
        type=types[option.type],
        multiple=option.multiple,
        default=() if option.multiple else option.default or None,
        show_default=option.show_default,
        help=option.help,
        **more,
    )


def trainer_options(trainer, given, command):
    """The values of a trainer's options among what a command was given. command: of the trainer, if it is another than
    its own.
    """
    values = {option.name: given[option.name] for option in trainer.options if given.get(option.name) is not None}
    return {**values, "trainer": list(command)} if command else values


def positive(option, value, why):
    """Raises UserError for a number below 1."""
    if value is not None and value < 1:
        raise UserError(f"{option} {value}: {why}; give 1 or more.")


def check_numbers(slots, max_runs):
    """Raises UserError for --slots or --max-runs below 1."""
    positive("--slots", slots, "at least one run must be able to go at a time")
    positive("--max-runs", max_runs, "there is nothing to learn without a run")
