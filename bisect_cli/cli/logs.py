"""`maskrcnn-bisect logs`"""

import time

import click

from bisect_cli.cli import options

SECONDS = 0.3  # between two looks
CHUNK = 1 << 20  # bytes at a time


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
        for file in read:
            path = store.trial_folder(folder, trial) / f"attempt-{own.attempts}" / file
            for text in iter(lambda path=path, file=file: _text(path, read[file]), b""):
                read[file] += len(text)
                click.echo(text, nl=False, err=file == "stderr.txt")
        if not follow or not alive:
            return
        time.sleep(SECONDS)


def _text(path, offset):
    from bisect_cli.storage import untrusted

    try:
        return untrusted.read(path, CHUNK, offset)
    except OSError:
        return b""
