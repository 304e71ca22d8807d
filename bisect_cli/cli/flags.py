"""`maskrcnn-bisect flags`"""

from pathlib import Path

import click

from bisect_cli import trainers
from bisect_cli.cli import screen


@click.command("flags")
@click.option(
    "--trainer",
    "path",
    metavar="FILE.toml",
    type=click.Path(path_type=Path),
    help="Those of the training that this file describes. Default: the built-in Mask R-CNN.",
)
def command(path):
    """The flags, the groups they belong to, and what each does."""
    if path:
        from bisect_cli.trainers import trainerfile

        spec = trainerfile.read(path)
    else:
        spec = trainers.find(trainers.DEFAULT).spec({})
    whole = [group.name for group in spec.groups if len(group.flags) == len(spec.flags)]
    levels = sorted({group.level for group in spec.groups if group.name not in whole})
    rows = [(flag.name, *(_groups(spec, flag.name, level) for level in levels), flag.help) for flag in spec.flags]
    if screen.is_terminal():
        from bisect_cli.report.table import flag_table

        screen.console().print(flag_table(levels, rows))
    else:
        for flag, *groups, summary in rows:
            screen.say(f"{flag}  [{' '.join(filter(None, groups))}]  {summary}".rstrip())
    every = " or ".join(f"`{name}`" for name in ("all", *whole))
    screen.say(f"A group's name stands for all its flags; {every} for every flag.")


def _groups(spec, flag, level):
    return " ".join(group.name for group in spec.groups if group.level == level and flag in group.flags)
