"""Options that several commands share, and those that a trainer declares."""

from pathlib import Path

import click

from bisect_cli import launchers
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
    help="Runs at once. Default: one a GPU or, without any, one a core, at most 8; with --np one. With --launcher "
    "slurm or ray 8, manual any number.",
)
detach = click.option(
    "--detach", is_flag=True, help="Ctrl-C leaves the runs under way going; `resume` takes them over, `stop` ends them."
)
max_runs = click.option("--max-runs", type=int, help="Stop, inconclusive, after this many runs. Retries do not count.")


_OF_LAUNCHER = (
    click.option(
        "--launcher",
        type=click.Choice(launchers.NAMES),
        help="What starts the runs: this machine (local, the default), Slurm or Ray (docs/clusters.md), or, with "
        "manual, you (docs/ask-and-tell.md).",
    ),
    click.option(
        "--launcher-option",
        "launcher_options",
        multiple=True,
        metavar="KEY=VALUE",
        help="An option of the launcher, as partition=gpu (docs/clusters.md). Repeatable.",
    ),
    click.option("--gpus", metavar="A,B,...", help="GPUs of this machine for the runs: a list, all or none."),
    click.option("--gpus-per-run", metavar="N", help="GPUs of each run. Default 1; with --np all."),
    click.option("--runs-per-gpu", metavar="N", help="Runs that share a GPU. Default 1."),
)
_SHORTHANDS = {"gpus": "--gpus", "gpus_per_run": "--gpus-per-run", "runs_per_gpu": "--runs-per-gpu"}


def of_launcher(command):
    """A decorator that adds the options that say what starts the runs, for `launcher_said`."""
    for option in reversed(_OF_LAUNCHER):
        command = option(command)
    return command


def launcher_said(given, in_file=None, kept=None):
    """The launcher's name and {name: value}, its options.

    given: what a command was given, which wins over in_file, the {"name", "options"} of a trainer's file, and that over
    kept, the Settings of a campaign that is there. Raises UserError where an option is none of that launcher's.
    """
    in_file = in_file or {}
    name = given["launcher"] or in_file.get("name") or (kept.launcher if kept else launchers.DEFAULT)
    texts = [one.partition("=") for one in given["launcher_options"]]
    for key, equals, _ in texts:
        if not equals:
            raise UserError(f"--launcher-option {key}: write KEY=VALUE, as partition=gpu.")
    said = launchers.parse_options(name, [(key, value) for key, _, value in texts])
    for key, switch in _SHORTHANDS.items():
        if given[key] is not None:
            said.update(launchers.parse_options(name, [(key, given[key])], switch))
    before = kept.launcher_options if kept and name == kept.launcher else {}
    return name, {**before, **(in_file["options"] if name == in_file.get("name") else {}), **said}


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
