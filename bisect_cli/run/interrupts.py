"""Requests to stop: signals to this process, and a file in the campaign's folder that anybody may put there.

The file may name who is to stop, by the token of the lease: one that was meant for a process before this one says
nothing, and one for this process counts however early it comes. An empty file is for whoever runs the campaign as it
comes.
"""

import contextlib
import secrets
import signal

from bisect_cli.storage import lease, store, untrusted

MOST_TOKEN = 1024  # bytes of a request
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def request(folder, held):
    """Asks the lease.Holder of a campaign to stop."""
    fresh = folder / f"{store.STOP}.{secrets.token_hex(4)}.new"
    with open(fresh, "x") as file:  # of a name that nobody has made a link of
        file.write(held.token)
    fresh.replace(folder / store.STOP)


class Interrupts:
    """A context in which the signals that ask this process, which holds the campaign of a folder, to end are counted,
    instead of ending it at once.
    """

    def __init__(self, folder):
        self.count = 0
        self._request = folder / store.STOP
        held = lease.holder(folder)
        self._token = held.token if held else ""
        self._before = {}

    @property
    def requested(self):
        """Whether the campaign is to be stopped."""
        return self.count > 0 or self.asked_by_file

    @property
    def asked_by_file(self):
        return self._named() in ("", self._token)

    def clear_earlier(self):
        """Takes back what was asked of others."""
        if self._named() != self._token:
            self.clear_request()

    def clear_request(self):
        """Takes back what was asked by the file."""
        with contextlib.suppress(OSError):
            self._request.unlink()

    def _named(self):
        """The token in the file, None if there is no file."""
        try:
            return untrusted.read(self._request, MOST_TOKEN).decode(errors="replace").strip()
        except OSError:
            return None

    def __enter__(self):
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, *_):
        self.count += 1
