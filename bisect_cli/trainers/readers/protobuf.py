"""Protocol buffers as they are on the wire, as much as event files need of them.

A message is a row of fields, each a number (its name, as it were), the kind of what follows, and that: a varint, 4 or 8
bytes, or a length and as many bytes, which may be text, numbers or another message. Nothing of it is trusted: whatever
is not as it should be raises ValueError. (https://protobuf.dev/programming-guides/encoding)
"""

import struct

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
SIZES = {FIXED64: 8, FIXED32: 4}
LONGEST_NUMBER = 10  # bytes


def fields(data):
    """(number, value) for each field of a message, in their order: an int for a varint, else bytes."""
    data, place = raw(data), 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, place = _varint(data, place)
        else:
            if kind == BYTES:
                size, place = _varint(data, place)
            elif kind in SIZES:
                size = SIZES[kind]
            else:
                raise ValueError(f"no kind of field: {kind}")
            value, place = data[place : place + size], place + size
            if place > len(data):
                raise ValueError("a field is cut off")
        yield number, value


def _varint(data, place):
    result = 0
    for i in range(LONGEST_NUMBER):
        if place + i >= len(data):
            raise ValueError("a number is cut off")
        byte = data[place + i]
        result |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return result, place + i + 1
    raise ValueError("a number has no end")


def raw(value):
    if not isinstance(value, bytes):
        raise ValueError("a number where a text or a message should be")
    return value


def text(value):
    return raw(value).decode("utf-8", "replace")


def whole(value):
    if not isinstance(value, int):
        raise ValueError("no number where one should be")
    return value


def int64(value):
    """A varint is unsigned."""
    return whole(value) - (1 << 64 if value >> 63 else 0)


def varints(value):
    """The numbers of a repeated field: packed, or one of them."""
    if isinstance(value, int):
        return [value]
    found, place = [], 0
    while place < len(value):
        one, place = _varint(value, place)
        found.append(one)
    return found


def floats(value, form):
    """The numbers of a repeated field: packed, or one of them. form: of one, as `struct` has it."""
    if len(raw(value)) % struct.calcsize(form):
        raise ValueError("no such numbers")
    return [one for (one,) in struct.iter_unpack(form, value)]
