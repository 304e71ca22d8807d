"""A metric of one run, as far as it has been written."""

import math
from operator import itemgetter
from typing import NamedTuple

MOST_POINTS = 1 << 18  # of a file, which are some 30 MiB


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


def thinned(points):
    """Points of a file without every second one of the first half, if they are too many: those that a rule may ask for,
    the last ones, the lowest and the highest, stay.
    """
    while len(points) > MOST_POINTS:
        half = len(points) // 2
        finite = [point for point in enumerate(value for _, value in points[:half]) if math.isfinite(point[1])]
        kept = {*range(0, half, 2)}
        for choose in (min, max):
            kept.update([choose(finite, key=itemgetter(1))[0]] if finite else [])
        points = [points[i] for i in sorted(kept)] + points[half:]
    return points
