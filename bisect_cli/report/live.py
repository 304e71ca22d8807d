"""Progress on a terminal: the status table, redrawn as runs go on."""

import time

from rich.live import Live

from bisect_cli.campaign import events
from bisect_cli.report.lines import describe
from bisect_cli.report.printable import printable
from bisect_cli.report.summary import summarize
from bisect_cli.report.table import render

SECONDS = 0.5  # between redraws without an event
SAID = (
    *(
        events.Comparing,
        events.Stopping,
        events.Stuck,
        events.Trouble,
        events.Fingerprint,
        events.FlagsAdded,
        events.PriorEvidence,
    ),
    events.LauncherChanged,
)


class LiveTable:
    """A listener of the recorder, and the context manager of its display, which is gone when it ends."""

    def __init__(self, console, folder):
        self.folder = folder
        self.live = Live(console=console, auto_refresh=False, transient=True)
        self.drawn = 0.0

    def __enter__(self):
        self.live.__enter__()
        return self

    def __exit__(self, *error):
        self.live.__exit__(*error)

    def __call__(self, event, state, analysis):
        if event is None and time.monotonic() - self.drawn < SECONDS:
            return
        if isinstance(event, SAID):
            line = describe(event, state, analysis)
            if line:
                self.live.console.print(printable(line))
        self.drawn = time.monotonic()
        self.live.update(render(summarize(self.folder, state, analysis)), refresh=True)
