"""`maskrcnn-bisect stop`"""

import click

from bisect_cli.cli import options


@click.command("stop")
@click.argument("name")
@options.runs_dir
def command(name, runs_dir):
    """Ask a running campaign to save its runs and stop, and wait until it has."""
    from bisect_cli.run import session
    from bisect_cli.storage import store

    folder = store.find(runs_dir, name)
    if session.stop(folder, click.echo):
        click.echo(f"Stopped. Resume it with: {store.resume_command(folder)}")
    else:
        click.echo(f"Campaign {name} is not running.")
