"""The map from a metric as it is reported to the scale of the judge: 0 is the worst, 1 the best.

The judge and the curves know one scale. A loss, a perplexity and a BLEU of 0 to 100 all get there by an affine map, so
the same runs written in other units give the same verdicts.
"""

from typing import NamedTuple


class Unit(NamedTuple):
    """origin: the metric's value at 0. width: what 1 is worth in the metric's own unit; negative where lower is better.

    The map cuts nothing off: a run far worse than the origin is below 0, and the judge takes it for the worst. So what
    is compared with a target, and the slope of a curve that starts far below the origin, stay as they are.
    """

    origin: float = 0.0
    width: float = 1.0

    def normalized(self, value):
        """A value of the metric on the judge's scale; NaN, of a run that diverged, stays NaN."""
        return (value - self.origin) / self.width

    def value(self, normalized):
        """The metric's value at a place on the judge's scale."""
        return self.origin + normalized * self.width

    def amount(self, normalized):
        """A size, such as that of noise or of a drop, in the metric's own unit; never negative."""
        return abs(normalized * self.width)

    def difference(self, normalized):
        """A difference of two places on the judge's scale as the metric shows it: above 0 where its value is larger."""
        return normalized * self.width
