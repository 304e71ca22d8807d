"""TensorBoard's event files: the scalars of a tag, as tf.summary of TensorFlow 1 (simple_value) and 2 (a tensor) write
them, and with them PyTorch and all others.

The numbers of the fields are those of event.proto, summary.proto, tensor.proto and types.proto of TensorFlow:
Event{step, summary{value{tag, simple_value, tensor, metadata{plugin_data{plugin_name}}}}}.
"""

import os
import struct
from pathlib import Path

from bisect_cli.trainers.readers.files import Followed, is_regular
from bisect_cli.trainers.readers.keyed import KeyedReader
from bisect_cli.trainers.readers.places import natural
from bisect_cli.trainers.readers.protobuf import LONGEST_NUMBER, fields, floats, int64, raw, text, varints
from bisect_cli.trainers.readers.tfrecord import RecordParser

MARK, NO_EVENTS = "tfevents", ".profile-empty"  # in the name of an event file; at the end of one without events
MOST_SHOWN = 1 << 23  # bytes of a file that are looked through for a message
SCALARS = ("", "scalars")  # plugins whose tensors are scalars: none is named by those who write them by hand
EVENT_STEP, EVENT_SUMMARY, SUMMARY_VALUE = 2, 5, 1
TAG, SIMPLE_VALUE, TENSOR, METADATA = 1, 2, 8, 9
PLUGIN_DATA, PLUGIN_NAME = 1, 1
DTYPE, SHAPE, CONTENT, DIM, DIM_SIZE = 1, 2, 4, 2, 1
FLOAT, DOUBLE, BFLOAT16, HALF = 1, 2, 14, 19
FORMS = {FLOAT: "<f", DOUBLE: "<d", HALF: "<e"}  # of tensor_content
LISTS = {FLOAT: 5, DOUBLE: 6, BFLOAT16: 13, HALF: 13}  # the fields of the numbers one by one


def scalars(event):
    """(tag, step, value) of all scalars of an Event. Raises ValueError if it is none."""
    step, found = 0, []
    for number, value in fields(event):
        if number == EVENT_STEP:
            step = int64(value)
        elif number == EVENT_SUMMARY:
            found += [_scalar(one) for part, one in fields(value) if part == SUMMARY_VALUE]
    return [(tag, step, value) for tag, value in found if value is not None]


def _scalar(message):
    """(tag, value or None) of a Summary.Value."""
    parts = dict(fields(message))
    tag = text(parts.get(TAG, b""))
    if SIMPLE_VALUE in parts:
        return tag, _only(floats(parts[SIMPLE_VALUE], "<f"))
    is_scalar = TENSOR in parts and _plugin(parts.get(METADATA, b"")) in SCALARS
    return tag, _number(parts[TENSOR]) if is_scalar else None


def _plugin(metadata):
    return text(dict(fields(dict(fields(metadata)).get(PLUGIN_DATA, b""))).get(PLUGIN_NAME, b""))


def _number(tensor):
    """That of a tensor of floats that has one; None of any other."""
    kind, content, listed = 0, b"", []
    for number, value in fields(tensor):
        if number == DTYPE:
            kind = value
        elif number == SHAPE and any(_size(one) != 1 for part, one in fields(value) if part == DIM):
            return None
        elif number == CONTENT:
            content = raw(value)
        elif number == LISTS.get(kind):  # the type stands before them, as fields do in the order of their numbers
            if len(listed) > 1 or (isinstance(value, bytes) and len(value) > LONGEST_NUMBER):
                return None
            listed += varints(value) if number == LISTS[HALF] else floats(value, FORMS[kind])
    if kind not in LISTS or len(content) > LONGEST_NUMBER:
        return None
    if kind in (HALF, BFLOAT16):
        content = content or b"".join(struct.pack("<H", bits & 0xFFFF) for bits in listed)
    if kind == BFLOAT16 and content:  # the upper half of a float
        kind, content = FLOAT, b"\0\0" + content
    numbers = floats(content, FORMS[kind]) if content else listed
    return _only(numbers or [0.0])  # TensorFlow leaves out zeros


def _size(dim):
    return int64(dict(fields(dim)).get(DIM_SIZE, 0))


def _only(numbers):
    return numbers[0] if len(numbers) == 1 else None


class Scalars(RecordParser):
    """Those of one tag."""

    def __init__(self, tag):
        super().__init__(tag.encode())
        self.tag = tag

    def points_of(self, data):
        return [(step, value) for tag, step, value in scalars(data) if tag == self.tag]


class AllScalars(RecordParser):
    """The last value of each tag, for messages."""

    def __init__(self):
        super().__init__(b"")
        self.values = {}

    def read(self, descriptor, end):
        super().read(descriptor, min(end, MOST_SHOWN))

    def points_of(self, data):
        self.values.update((tag, value) for tag, _, value in scalars(data))
        return ()


class TensorBoardReader(KeyedReader):
    """Of all event files in a folder and in those within it, in the order of their names."""

    needs, takes, name = ("tag",), ("file",), "tag"

    def paths(self, places):
        found = {file for folder in places.paths(self._folder) for file in event_files(folder)}
        return tuple(sorted(found, key=natural))

    def sought_at(self, places):
        return (places.shown(self._folder) / f"*{MARK}*",)

    @property
    def _folder(self):
        return self.source.get("file", "{out}")

    @property
    def sought(self):
        return f"tag `{self.source['tag']}`"

    def make_parser(self):
        return Scalars(self.source["tag"])

    def named(self, paths):
        found = {}
        for path in paths:
            followed = Followed(path, AllScalars)
            followed.update()
            found.update(followed.parser.values)
        return found


def event_files(folder):
    """Those in a folder and in the ones within it; or the one file, if it is one."""
    if is_regular(folder):
        return [folder]
    paths = (Path(inner) / name for inner, _, names in os.walk(folder) for name in names if MARK in name)
    return [path for path in paths if not path.name.endswith(NO_EVENTS) and is_regular(path)]
