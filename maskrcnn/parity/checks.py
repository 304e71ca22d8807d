"""What one comparison found, and what counts as equal. Free of TensorFlow."""

from typing import NamedTuple, Optional

import numpy as np

from maskrcnn.parity.statistics import ALPHA

# float32 rounds to 6e-8 of a number. The longest sums here have some 10^4 terms of either sign, whose rounding adds up
# to about a hundred times that; coordinates in a pyramid, differences of numbers some tens of times as large, lose as
# much again. docs/parity.md has what was measured: correct pieces stay below a quarter of it, faults far above.
TOLERANCE = 1e-4


class Check(NamedTuple):
    """One comparison: its error as a share of the numbers' magnitude, or how improbable it is if all were right."""

    name: str
    case: str
    error: Optional[float] = None
    p_value: Optional[float] = None
    worst: str = ""  # where the error is
    beyond: bool = False  # on inputs that the piece is never given: reported, but not counted

    @property
    def agrees(self):
        good = self.error is None or self.error <= TOLERANCE
        return good and (self.p_value is None or self.p_value >= ALPHA)


def relative_error(value, expected):
    """The largest difference over the largest magnitude, at most 1; NaN in `expected` accepts anything.

    1, as if nothing were in common, where shapes differ, whole numbers differ or a value is not finite.
    """
    value, expected = np.asarray(value), np.asarray(expected)
    if value.shape != expected.shape:
        return 1.0
    if not value.size:
        return 0.0
    if value.dtype.kind in "iub":
        return float(not np.array_equal(value, expected))
    known = ~np.isnan(expected)
    value, expected = value[known].astype(float), expected[known].astype(float)
    if not np.isfinite(value).all():
        return 1.0
    scale = max(np.abs(value).max(initial=0), np.abs(expected).max(initial=0))
    return min(1.0, float(np.abs(value - expected).max() / scale)) if scale else 0.0


def with_correction(checks):
    """The same checks with p-values multiplied by how many there are (Bonferroni), so that one limit does for all."""
    n = sum(c.p_value is not None for c in checks)
    return [c if c.p_value is None else c._replace(p_value=min(1.0, n * c.p_value)) for c in checks]
