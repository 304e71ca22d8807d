"""`maskrcnn-bisect logs`"""

import time

import click

from bisect_cli.cli import options

SECONDS = 0.3  # between two looks


@click.command("logs")
@click.argument("trial")
@click.option("--name", help="The campaign. Default: the most recent one.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@options.runs_dir
def command(trial, name, follow, runs_dir):
    """What a run wrote: its standard output and error, of the latest attempt."""
    from bisect_cli.storage import lease, store

    folder = store.find(runs_dir, name)
    read = {"stdout.txt": 0, "stderr.txt": 0}
    while True:
        state = store.load(folder)[0]
        own = store.find_trial(state, trial)
        alive = own.state == "running" and lease.live_state(folder, state) == "running"
        for file, offset in read.items():
            text = _text(store.trial_folder(folder, trial) / f"attempt-{own.attempts}" / file, offset)
            read[file] += len(text)
            click.echo(text, nl=False, err=file == "stderr.txt")
        if not follow or not alive:
            return
        time.sleep(SECONDS)


def _text(path, offset):
    if not path.exists():
        return b""
    with open(path, "rb") as stream:
        stream.seek(offset)
        return stream.read()
