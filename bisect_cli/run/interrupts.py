"""Requests to stop: signals to this process, and a file in the campaign's folder that anybody may put there."""

import contextlib
import signal

from bisect_cli.storage import store

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """A context in which the signals that ask this process to end are counted, instead of ending it at once."""

    def __init__(self, folder):
        self.count = 0
        self._request = folder / store.STOP
        self._before = {}

    @property
    def requested(self):
        """Whether the campaign is to be stopped."""
        return self.count > 0 or self.asked_by_file

    @property
    def asked_by_file(self):
        return self._request.exists()

    def clear_request(self):
        """Takes back what was asked by the file."""
        with contextlib.suppress(FileNotFoundError):
            self._request.unlink()

    def __enter__(self):
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, *_):
        self.count += 1
