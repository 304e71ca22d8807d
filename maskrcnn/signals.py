"""SIGTERM and SIGINT: asked to stop, a run saves first. Free of TensorFlow."""

import contextlib
import signal


class StopSignals:
    """A context in which the two signals end the process with code 128 + signal, but never between saves.

    Outside `deferred` they raise SystemExit at once, since nothing would be lost. Inside it they only set
    `exit_code`, which the training loop looks at after every step. A second signal always ends the process.
    """

    def __init__(self):
        self.exit_code = None
        self._deferred = False

    def __enter__(self):
        self._before = {s: signal.signal(s, self._handle) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _handle(self, signum, _):
        again = self.exit_code is not None
        self.exit_code = 128 + signum
        if again or not self._deferred:
            raise SystemExit(self.exit_code)

    @contextlib.contextmanager
    def deferred(self):
        """Inside, a signal waits for somebody to look at `exit_code`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @contextlib.contextmanager
    def at_once(self):
        """Inside, a signal ends the process at once, one that has been waiting too."""
        if self.exit_code is not None:
            raise SystemExit(self.exit_code)
        before, self._deferred = self._deferred, False
        try:
            yield
        finally:
            self._deferred = before
