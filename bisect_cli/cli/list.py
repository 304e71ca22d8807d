"""`maskrcnn-bisect list`"""

import click

from bisect_cli.cli import options, screen


@click.command("list")
@options.runs_dir
def command(runs_dir):
    """All campaigns, the most recently active first."""
    from bisect_cli.report.words import state_words, verdict_words
    from bisect_cli.storage import store

    headlines = [one for one in (_headline(runs_dir / name) for name in store.names(runs_dir)) if one]
    if not headlines:
        click.echo(f"No campaigns in {runs_dir}: begin one with `maskrcnn-bisect start`.")
    elif screen.is_terminal():
        from bisect_cli.report.table import campaign_table

        screen.console().print(campaign_table(headlines))
    else:
        for one in headlines:
            flags = ", ".join(one["flags"])
            click.echo(f"{one['name']}  {state_words(one)}  {one['runs']} runs  {verdict_words(one)}  ({flags})")


def _headline(folder):
    """What is shown of a campaign, as kept.headline; None if it has none."""
    from bisect_cli.report import kept
    from bisect_cli.report.summary import summarize_folder

    found = kept.headline(folder)
    if found is None:
        summary = summarize_folder(folder)
        found = summary and kept.headline_of(summary)
    return found
