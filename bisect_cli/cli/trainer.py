"""`maskrcnn-bisect trainer`"""

import os
import shlex
from pathlib import Path

import click

from bisect_cli.cli import screen
from bisect_cli.errors import UserError

DEFAULT_FILE = "bisect.toml"
DEFAULT_COMMAND = "python train.py --seed {seed} --out {out} {flags}"


@click.group("trainer")
def command():
    """A training of your own: describe it in a file, and try the file.

    \b
    maskrcnn-bisect trainer init --command 'python train.py --seed {seed} --out {out} {flags}' --flags A,B
    maskrcnn-bisect trainer check bisect.toml
    """


@command.command("init")
@click.argument("path", default=DEFAULT_FILE, type=click.Path(path_type=Path))
@click.option("--command", "words", metavar="'COMMAND ...'", help=f"What trains one run. Default: {DEFAULT_COMMAND}")
@click.option("--flags", "flag_text", metavar="A,B,...", help="The flags that are bisected.")
@click.option("--switch", metavar="WAY", help="How flags are switched: args, env, constant or template. Default: args.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME:higher|lower", help="What may get worse. Repeatable.")
@click.option("--source", help="Where metrics are read: jsonl, csv, json, stdout or tensorboard. Default: jsonl.")
def init(path, words, flag_text, switch, metrics, source):
    """Write a trainer file with comments, from these options or, on a terminal, from your answers."""
    from bisect_cli.trainers.template import SOURCES, WAYS, template

    if path.exists():
        raise UserError(f"{path} is there already: name another file, or edit that one.")
    words = _answer(words, "What trains one run", DEFAULT_COMMAND)
    flag_text = _answer(flag_text, "The flags, separated by commas", "FLAG_A,FLAG_B")
    switch = _answer(switch, f"How they are switched ({', '.join(WAYS)})", "args")
    if not metrics:
        metrics = (_answer(None, "What may get worse, as NAME:higher or NAME:lower (which is better)", "acc:higher"),)
    source = _answer(source, f"Where it is read ({', '.join(SOURCES)})", "jsonl")
    flags = [flag.strip() for flag in flag_text.split(",") if flag.strip()]
    name = path.resolve().parent.name
    try:
        argv = shlex.split(words)
    except ValueError as error:
        raise UserError(f"--command {words}: {error}; quote it as in a shell.") from None
    text = template(path, name, argv, flags, switch, metrics, source)
    try:
        path.write_text(text)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another place.") from None
    screen.say(f"Wrote {path}: read it through, then try it: maskrcnn-bisect trainer check {path}")


@command.command("check")
@click.argument("path", default=DEFAULT_FILE, type=click.Path(path_type=Path))
@click.option(
    "--on",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Read the metrics in the folder of a run that there is.",
)
@click.option(
    "--run", "train", is_flag=True, help="Make one run with all flags off, a short one where [length] says how."
)
@click.option("--seconds", default=600, show_default=True, help="How long --run may take.")
def check(path, folder, train, seconds):
    """Show what a trainer file does: each flag in both states, the command's own check, what metrics are found."""
    from bisect_cli.trainers import trainerfile
    from bisect_cli.trainers.trial_run import describe, read_folder, train_once

    spec = trainerfile.read(path)
    for line in describe(spec):
        screen.say(line)
    if folder:
        found, missing = read_folder(spec, folder.resolve())
        for name, words in found.items():
            screen.say(f"{name}: {words}")
        if missing:
            return 1
    if train:
        for line in train_once(spec, seconds):
            screen.say(line)
    if not folder and not train:
        screen.say("Metrics were not tried: add --on FOLDER of an old run, or --run to make one.")
    return 0


def _answer(given, question, default):
    """What an option says, else what the user answers, else the default."""
    if given is not None or not (screen.is_terminal() and os.isatty(0)):
        return default if given is None else given
    return click.prompt(question, default=default)
