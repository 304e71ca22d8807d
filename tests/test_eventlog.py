import errno
import json
import os
import zlib

import pytest

from bisect_cli.storage import eventlog

EVENTS = [
    {"kind": "created", "n": 1},
    {"kind": "text", "é": "line\nbreak"},
    {"kind": "numbers", "x": [0.1, None, True]},
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def write(path, events):
    writer = eventlog.Writer(path)
    for event in events:
        writer.append(event)
    writer.close()


def test_what_is_appended_is_read(path):
    write(path, EVENTS[:2])
    write(path, EVENTS[2:])
    assert eventlog.read(path) == (tuple(EVENTS), ())


def test_no_file_is_an_empty_log(path):
    assert eventlog.read(path) == ((), ())


def test_lines_are_plain_json_with_their_checksum(path):
    write(path, EVENTS)
    for line, event in zip(path.read_bytes().splitlines(), EVENTS):
        record = json.loads(line)
        assert record["event"] == event
        body = line[line.index(b'"event":') + len(b'"event":') : -1]
        assert int(record["crc"], 16) == zlib.crc32(body)


def test_a_reader_works_while_a_writer_is_live(path):
    writer = eventlog.Writer(path)
    for count, event in enumerate(EVENTS, 1):
        writer.append(event)
        assert len(eventlog.read(path).events) == count
    os.write(writer._file, b'{"crc":"0000')  # an append under way is neither an event nor damage
    assert eventlog.read(path) == (tuple(EVENTS), ())
    writer.close()


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_tail_is_cut_off_and_said(path, cut):
    write(path, EVENTS)
    path.write_bytes(path.read_bytes()[:-cut])
    writer = eventlog.Writer(path)
    assert len(writer.notes) == 1 and "cut short by a crash" in writer.notes[0]
    writer.append({"kind": "after"})
    writer.close()
    events = eventlog.read(path).events
    assert events[-1] == {"kind": "after"}
    assert list(events[:-1]) == EVENTS[: len(events) - 1]
    assert len(events) - 1 >= 1
    assert eventlog.Writer(path).notes == ()


def test_a_corrupt_line_is_skipped_and_moved_aside(path):
    write(path, EVENTS)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = lines[1].replace(b"break", b"brxak")
    path.write_bytes(lines[0] + damaged + b"\0\0 no line at all\n" + lines[2])

    log = eventlog.read(path)
    assert list(log.events) == [EVENTS[0], EVENTS[2]]
    assert log.notes == tuple(f"line {n} of events.jsonl is corrupt and was skipped" for n in (2, 3))

    writer = eventlog.Writer(path)
    assert len(writer.notes) == 2 and all("moved to events.jsonl.corrupt" in note for note in writer.notes)
    writer.append({"kind": "after"})
    writer.close()
    assert (path.parent / "events.jsonl.corrupt").read_bytes() == damaged + b"\0\0 no line at all\n"
    assert eventlog.read(path) == ((EVENTS[0], EVENTS[2], {"kind": "after"}), ())


@pytest.mark.parametrize("position", [0, 5, 12, 30, 40])
def test_any_flipped_byte_is_noticed(path, position):
    write(path, EVENTS)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    assert list(eventlog.read(path).events) == EVENTS[1:]


def test_a_full_disk_leaves_no_half_line(path, monkeypatch):
    writer = eventlog.Writer(path)
    writer.append(EVENTS[0])
    real = os.write

    def full(file, data):
        if data.startswith(b"{"):
            return real(file, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        writer.append({"kind": "half of this line is written before the disk is full"})
    monkeypatch.undo()
    writer.append(EVENTS[1])
    writer.close()
    assert eventlog.read(path) == (tuple(EVENTS[:2]), ())


def test_not_a_number_cannot_be_logged(path):
    writer = eventlog.Writer(path)
    with pytest.raises(ValueError):
        writer.append({"ap": float("nan")})
    writer.close()
    assert path.read_bytes() == b""
