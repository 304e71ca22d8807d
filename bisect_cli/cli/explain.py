"""`maskrcnn-bisect explain`"""

import click

from bisect_cli.cli import options


@click.command("explain")
@click.argument("name")
@click.argument("trial", required=False)
@options.runs_dir
def command(name, trial, runs_dir):
    """Why a culprit, or the verdict on a run, was named, in words and numbers, and what would change it."""
    from bisect_cli.analysis import analyse
    from bisect_cli.report import kept
    from bisect_cli.report.explain import explain_campaign, explain_trial
    from bisect_cli.storage import store

    folder = store.find(runs_dir, name)
    state, _ = store.load(folder)
    analysis = analyse(state, kept.Keeper(folder).memory)
    lines = (
        explain_trial(state, analysis, store.find_trial(state, trial)) if trial else explain_campaign(state, analysis)
    )
    for line in lines:
        click.echo(line)
