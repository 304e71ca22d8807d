"""JSON that any program can read: without the NaN and Infinity that Python's own writes."""

import json
import math


def dumps(value, **options):
    """As json.dumps, with null in the place of a number that is not finite. Printable ASCII and newlines alone."""
    try:
        text = json.dumps(value, allow_nan=False, **options)
    except ValueError:
        text = json.dumps(_finite(value), allow_nan=False, **options)
    return text.replace("\x7f", "\\u007f")  # the one control character that JSON takes as it is


def _finite(value):
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return value
