"""`maskrcnn-bisect list`"""

import click

from bisect_cli.cli import options, screen


@click.command("list")
@options.runs_dir
def command(runs_dir):
    """All campaigns, the most recently active first."""
    from bisect_cli.report.summary import summarize_folder
    from bisect_cli.report.words import verdict_words
    from bisect_cli.storage import store

    summaries = [
        summary for summary in (summarize_folder(runs_dir / name) for name in store.names(runs_dir)) if summary
    ]
    if not summaries:
        click.echo(f"No campaigns in {runs_dir}: begin one with `maskrcnn-bisect start`.")
    elif screen.is_terminal():
        from bisect_cli.report.table import campaign_table

        screen.console().print(campaign_table(summaries))
    else:
        for one in summaries:
            runs, flags = len(one["trials"]), ", ".join(one["flags"])
            click.echo(f"{one['name']}  {one['state']}  {runs} runs  {verdict_words(one)}  ({flags})")
