"""From what stands in a file to a number: whatever is none is None, and nothing raises."""

import math

from bisect_cli.storage.untrusted import number

MOST_STEP = 10**15  # what is larger is no step


def step(value):
    """A step: an int, or a float where it is a fraction (of an epoch, say); None for what is none."""
    found = number(value)
    if found is None or not math.isfinite(found) or abs(found) > MOST_STEP:
        return None
    return int(found) if found.is_integer() else found


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
