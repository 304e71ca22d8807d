"""The one writer of a campaign's events: logged first, then folded, analysed and shown."""

import contextlib
from pathlib import Path

from bisect_cli.analysis import analyse
from bisect_cli.campaign import events
from bisect_cli.report import kept
from bisect_cli.run.clock import Clock
from bisect_cli.storage import store


class Recorder:
    """Holds the State and the Analysis of a campaign whose lease is held.

    folder: the campaign's. log: an eventlog.Writer. state: the State that the log folds to. listen(event, state,
    analysis): called for every event logged, for notices, and with None at every look of the controller. clock: a
    Clock, of the campaign.
    """

    def __init__(self, folder, log, state, listen=lambda event, state, analysis: None, clock=Clock()):  # noqa: B008
        self.folder = folder and Path(folder).resolve()  # runs are started in folders of their own
        self.state, self.clock = state, clock
        self._keeper = kept.Keeper(self.folder)
        self.analysis, self._analysed = analyse(state, self._keeper.memory), False
        self._log, self._listen = log, listen
        self._together = None  # the events logged since their analysis was put off

    @property
    def settings(self):
        return self.state.settings

    def record(self, event):
        """Logs an event, which is on disk when this returns, and tells the listener. Raises UserError for a disk that
        cannot be written.
        """
        record = events.record_of(event, self.clock.now())
        with store.writing(self.folder):
            self._log.append(record)
        self.state = events.apply(self.state, events.parse(record))
        if self._together is None:
            self._analyse([event])
        else:
            self._together.append(event)

    def check(self):
        """Raises UserError if the log is not there any more as it was written."""
        self._log.check()

    @contextlib.contextmanager
    def together(self):
        """A context for several events that are analysed, and told to the listener, once all are logged."""
        self._together = []
        try:
            yield
        finally:
            together, self._together = self._together, None
            self._analyse(together)

    def _analyse(self, logged):
        if not logged:
            return
        if not all(event.kind in events.WITHOUT_VERDICTS for event in logged):
            self.analysis = analyse(self.state, self._keeper.memory)
            self._analysed = logged[-1].kind not in events.WITHOUT_VERDICTS  # just then, as who reads the log does
        for event in logged:
            self.notify(event)
        if self.folder and self._analysed:
            damaged = bool(self._log.notes or self.state.contradictions or self.state.repairs)
            self._keeper.keep(self._log.mark, self.state, self.analysis, isinstance(logged[-1], events.Closed), damaged)

    def notify(self, notice=None):
        """Shows how the campaign stands, without logging anything."""
        self._listen(notice, self.state, self.analysis)

    def silence(self):
        """No listener any more: it may be what failed."""
        self._listen = lambda event, state, analysis: None
