"""`maskrcnn-bisect stop`"""

import click

from bisect_cli.cli import options, permission, screen


@click.command("stop")
@click.argument("name")
@permission.yes
@options.runs_dir
def command(name, yes, runs_dir):
    """Ask a running campaign to save its runs and stop, and wait until it has."""
    from bisect_cli.run import session
    from bisect_cli.storage import store

    folder = store.find(runs_dir, name)
    if session.left_running(folder):
        permission.ask(folder, yes)
    if session.stop(folder, screen.say):
        screen.say(f"Stopped. Resume it with: {store.resume_command(folder)}")
    else:
        screen.say(f"Campaign {name} is not running.")
