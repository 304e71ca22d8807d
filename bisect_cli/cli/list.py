"""`maskrcnn-bisect list`"""

import click

from bisect_cli.cli import options, screen


@click.command("list")
@options.runs_dir
def command(runs_dir):
    """All campaigns, the most recently active first."""
    from bisect_cli.storage import store

    found = list(filter(None, (_headline(runs_dir / name) for name in store.names(runs_dir))))
    if not found:
        screen.say(f"No campaigns in {runs_dir}: begin one with `maskrcnn-bisect start`.")
    elif screen.is_terminal():
        from bisect_cli.report.table import campaign_table

        screen.console().print(campaign_table([headline for headline, _ in found]))
    else:
        for _, line in found:
            screen.say(line)


def _headline(folder):
    """What is shown of a campaign, as kept.headline, and that as a line; None, and a note, if it cannot be shown."""
    from bisect_cli.errors import UserError
    from bisect_cli.report import kept
    from bisect_cli.report.summary import summarize_folder
    from bisect_cli.report.words import headline_words, verdict_words
    from bisect_cli.storage import store

    try:
        with store.reading(folder):
            one = kept.headline(folder) or kept.headline_of(summarize_folder(folder))
            flags = ", ".join(one["flags"])
            return one, f"{one['name']}  {headline_words(one)}  {one['runs']} runs  {verdict_words(one)}  ({flags})"
    except UserError as error:
        screen.note(f"{folder.name} is left out: {error}")
        return None
