"""`maskrcnn-bisect nodes`"""

import time

import click

from bisect_cli.cli import options, screen


@click.command("nodes")
@click.argument("name", required=False)
@options.runs_dir
def command(name, runs_dir):
    """The nodes that a campaign's runs were on, and which are left out; by default of the most recent one."""
    from bisect_cli.report.nodes import node_rows
    from bisect_cli.storage import store

    folder = store.find(runs_dir, name)
    state = store.load_begun(folder)
    screen.note_damage(folder)
    with store.reading(folder):
        rows = list(node_rows(state, time.time(), folder))
    if not rows:
        screen.say(f"No run of campaign {folder.name} has ended on a node that is known.")
    elif screen.is_terminal():
        from bisect_cli.report.table import node_table

        screen.console().print(node_table(rows))
    else:
        for node, runs, crashes, speed, words in rows:
            fast = f", {speed:.3g} steps a second" if speed else ""
            screen.say(f"{node}: {runs} ended, {crashes} crashed{fast}{', ' + words if words else ''}")
