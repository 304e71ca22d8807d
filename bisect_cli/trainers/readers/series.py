"""A metric of one run, as far as it has been written."""

import math
from typing import NamedTuple


class Series(NamedTuple):
    """points: (step or None, value) in the order they were written; NaN and infinities are among the values, as they
    say that a run has diverged. looked_at: the paths that were read or looked for. damaged: a sentence for each file
    that could not be read whole.
    """

    points: tuple = ()
    looked_at: tuple = ()
    damaged: tuple = ()

    def curve(self):
        """{step: value} in the order of the steps. A step that was trained again after a crash has its last value;
        where that is not finite it has none.
        """
        latest = {step: value for step, value in self.points if step is not None}
        return {step: latest[step] for step in sorted(latest) if math.isfinite(latest[step])}

    @property
    def last_step(self):
        """The step that was written last; after a crash it may lie below those before. None if there is none."""
        return next((step for step, _ in reversed(self.points) if step is not None), None)
