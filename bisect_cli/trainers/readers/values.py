"""From what stands in a file to a number: whatever is none is None, and nothing raises."""

import json
import math

MOST_DIGITS = 18  # of a whole number; Python turns longer ones into numbers in quadratic time, or refuses to


def number(value):
    """A float. NaN and the infinities are numbers if they stand there as such; what is too large for a float is not."""
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    overflown = math.isinf(found) and isinstance(value, str) and "inf" not in value.lower()
    return None if overflown else found


def step(value):
    """A step: an int, or a float where it is a fraction (of an epoch, say)."""
    found = number(value)
    if found is None or not math.isfinite(found):
        return None
    return int(found) if found.is_integer() else found


def whole(digits):
    return int(digits) if len(digits) <= MOST_DIGITS else number(digits)


def parse_json(text):
    """What a JSON text holds, however deep it nests and however long its numbers are; None if it is not JSON."""
    try:
        return json.loads(text, parse_int=whole, parse_float=number)
    except (ValueError, RecursionError):
        return None


def look_up(record, key):
    """The value of a key in JSON objects, into which its dots go down; at each of them the whole rest of it is tried
    first. None if there is none.
    """
    if not isinstance(record, dict):
        return None
    if key in record:
        return record[key]
    for end, sign in enumerate(key):
        if sign == "." and key[:end] in record:
            found = look_up(record[key[:end]], key[end + 1 :])
            if found is not None:
                return found
    return None


def flat(record, prefix="", depth=8):
    """{key with dots: value} of what is no object in JSON objects."""
    found = {}
    for key, value in record.items() if isinstance(record, dict) else ():
        if isinstance(value, dict):
            found.update(flat(value, f"{prefix}{key}.", depth - 1) if depth else {})
        else:
            found[f"{prefix}{key}"] = value
    return found
