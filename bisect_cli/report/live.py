"""Progress on a terminal: the status table, redrawn as runs go on."""

import time

from rich.live import Live

from bisect_cli.report.lines import describe
from bisect_cli.report.summary import summarize
from bisect_cli.report.table import render

SECONDS = 0.5  # between redraws without an event


class LiveTable:
    """A listener of the controller, and the context manager of its display, which is gone when it ends."""

    def __init__(self, console):
        self.live = Live(console=console, auto_refresh=False, transient=True)
        self.drawn = 0.0

    def __enter__(self):
        self.live.__enter__()
        return self

    def __exit__(self, *error):
        self.live.__exit__(*error)

    def __call__(self, event, controller):
        if event is None and time.monotonic() - self.drawn < SECONDS:
            return
        if event and event["kind"] in ("comparing", "stopping", "keyed", "widened", "heard"):
            told = describe(event, controller.state, controller.analysis)
            if told:
                self.live.console.print(told)
        self.drawn = time.monotonic()
        self.live.update(render(summarize(controller.folder, controller.state, controller.analysis)), refresh=True)
