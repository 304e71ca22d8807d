"""The one writer of a campaign's events: logged first, then folded, analysed and shown."""

import time

from bisect_cli.analysis import analyse
from bisect_cli.campaign import events
from bisect_cli.storage import store

# What these say changes no verdict.
_WITHOUT_ANALYSIS = (events.Started, events.Reattached, events.Closed)


class Recorder:
    """Holds the State and the Analysis of a campaign whose lease is held.

    folder: the campaign's. log: an eventlog.Writer. state: the State that the log folds to. listen(event, state,
    analysis): called for every event logged, for notices, and with None at every look of the controller.
    """

    def __init__(self, folder, log, state, listen=lambda event, state, analysis: None):
        self.folder, self.state = folder, state
        self.analysis = analyse(state)
        self._log, self._listen = log, listen

    @property
    def settings(self):
        return self.state.settings

    def record(self, event):
        """Logs an event, which is on disk when this returns, and tells the listener. Raises UserError for a disk that
        cannot be written.
        """
        record = events.record_of(event, time.time())
        with store.writing(self.folder):
            self._log.append(record)
        self.state = events.apply(self.state, events.parse(record))
        if not isinstance(event, _WITHOUT_ANALYSIS):
            self.analysis = analyse(self.state)
        self.notify(event)

    def notify(self, notice=None):
        """Shows how the campaign stands, without logging anything."""
        self._listen(notice, self.state, self.analysis)

    def silence(self):
        """No listener any more: it may be what failed."""
        self._listen = lambda event, state, analysis: None
