"""`maskrcnn-bisect explain`"""

import click

from bisect_cli.cli import options, screen


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
    state = store.load_begun(folder)
    screen.note_damage(folder)
    with store.reading(folder):
        analysis = analyse(state, kept.Keeper(folder).memory)
        chosen = trial and store.find_trial(state, trial)
        lines = list(explain_trial(state, analysis, chosen) if chosen else explain_campaign(state, analysis))
    for line in lines:
        screen.say(line)
