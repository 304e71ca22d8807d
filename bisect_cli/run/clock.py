"""The time that a controller goes by: this machine's, or that of a simulation, in which a day takes no time."""

import time

SLICE = 0.2  # seconds until it is asked again whether a wait is over


class Clock:
    """This machine's time."""

    def now(self):
        """Seconds since 1970."""
        return time.time()

    def monotonic(self):
        """Seconds that only ever grow."""
        return time.monotonic()

    def wait(self, seconds, over=lambda: False):
        """Waits for so long, or until `over()` holds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not over():
            time.sleep(min(SLICE, max(0.0, until - time.monotonic())))
