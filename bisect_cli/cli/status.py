"""`maskrcnn-bisect status`"""

import time

import click

from bisect_cli.cli import options, screen

SECONDS = 1.0  # between two looks


@click.command("status")
@click.argument("name", required=False)
@click.option("--watch", is_flag=True, help="Keep showing it until the campaign ends.")
@click.option("--json", "as_json", is_flag=True, help="As JSON (docs/status-json.md).")
@options.runs_dir
def command(name, watch, as_json, runs_dir):
    """How a campaign stands; by default the most recent one."""
    from bisect_cli.report.summary import summarize_folder
    from bisect_cli.storage import store

    folder = store.find(runs_dir, name)
    with screen.viewer(as_json, watch) as show:
        while True:
            summary = summarize_folder(folder)
            show(summary)
            if not watch or summary["state"] not in ("running", "waiting"):
                return
            time.sleep(SECONDS)
