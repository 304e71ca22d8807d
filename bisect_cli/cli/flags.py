"""`maskrcnn-bisect flags`"""

import click

from bisect_cli import trainers
from bisect_cli.cli import screen


@click.command("flags")
def command():
    """The flags, the groups they belong to, and what each does."""
    spec = trainers.find(trainers.DEFAULT).spec({})
    levels = sorted({group.level for group in spec.groups if len(group.flags) < len(spec.flags)})
    rows = [(flag.name, *(_groups(spec, flag.name, level) for level in levels), flag.help) for flag in spec.flags]
    if screen.is_terminal():
        from bisect_cli.report.table import flag_table

        screen.console().print(flag_table(levels, rows))
    else:
        for flag, *groups, summary in rows:
            click.echo(f"{flag}  [{' '.join(filter(None, groups))}]  {summary}")
    whole = [group.name for group in spec.groups if len(group.flags) == len(spec.flags)]
    click.echo(
        f"A group's name stands for all its flags; {' or '.join(f'`{name}`' for name in ('all', *whole))} for "
        "every flag."
    )


def _groups(spec, flag, level):
    return " ".join(group.name for group in spec.groups if group.level == level and flag in group.flags)
