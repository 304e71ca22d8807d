"""`maskrcnn-bisect logs`"""

import codecs
import time

import click

from bisect_cli.cli import options, screen
from bisect_cli.errors import UserError

SECONDS = 0.3  # between two looks
CHUNK = 1 << 20  # bytes at a time
MOST_LINE = 1 << 20  # characters that are kept until their line ends


@click.command("logs")
@click.argument("words", nargs=-1, required=True, metavar="[NAME] TRIAL")
@click.option("--name", help="The campaign, too. Default: the most recent one.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@options.runs_dir
def command(words, name, follow, runs_dir):
    """What a run wrote: its standard output and error, of the latest attempt.

    Colours and what else a terminal would obey are left out; of a progress bar the last state is shown.
    """
    from bisect_cli.storage import lease, store

    *before, trial = words
    if len(before) > (name is None):
        raise UserError(f"{' '.join(words)}: name one campaign and one run of it, as `maskrcnn-bisect logs mine t01`.")
    folder = store.find(runs_dir, before[0] if before else name)
    screen.note_damage(folder)
    outputs = [_Output("stdout.txt"), _Output("stderr.txt", err=True)]
    while True:
        state = store.load_begun(folder)
        own = store.find_trial(state, trial)
        alive = own.state == "running" and lease.live_state(folder, state) == "running"
        for output in outputs:
            output.show(store.trial_folder(folder, trial) / f"attempt-{own.attempts}")
        if not follow or not alive:
            break
        time.sleep(SECONDS)
    for output in outputs:
        output.end()


class _Output:
    """One of the files that a run writes its output into, shown line by line as it grows."""

    def __init__(self, name, err=False):
        self.name, self.err = name, err
        self._offset, self._line = 0, ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def show(self, folder):
        """Prints the whole lines that have been added to the file in this folder."""
        for data in iter(lambda: _read(folder / self.name, self._offset), b""):
            self._offset += len(data)
            lines, end, self._line = (self._line + self._decoder.decode(data)).rpartition("\n")
            screen.say(lines + end, self.err, newline=False)
            if len(self._line) > MOST_LINE:
                self.end()

    def end(self):
        """Prints what there is of the last line."""
        screen.say(self._line, self.err, newline=False)
        self._line = ""


def _read(path, offset):
    from bisect_cli.storage import untrusted

    try:
        return untrusted.read(path, CHUNK, offset)
    except OSError:
        return b""
