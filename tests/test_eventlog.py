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


def test_lines_are_plain_json_in_a_chain(path):
    write(path, EVENTS)
    last = None
    for number, (line, event) in enumerate(zip(path.read_bytes().splitlines(), EVENTS), 1):
        record = json.loads(line)
        chain = {"seq": 1, "format": 2, "all": "00000000"} if number == 1 else {"seq": number, "prev": last}
        assert record["event"] == {**chain, **event}
        body = line[line.index(b'"event":') + len(b'"event":') : -1]
        assert int(record["crc"], 16) == zlib.crc32(body)
        last = record["crc"]


def test_a_reader_works_while_a_writer_is_live(path):
    writer = eventlog.Writer(path)
    for count, event in enumerate(EVENTS, 1):
        writer.append(event)
        assert len(eventlog.read(path).events) == count
    os.write(writer._file, b'{"crc":"0000')  # an append under way is neither an event nor damage
    assert eventlog.read(path) == (tuple(EVENTS), ())
    writer.close()


@pytest.mark.parametrize("cut", range(2, 60, 7))
def test_a_torn_tail_is_skipped_and_said(path, cut):
    write(path, EVENTS)
    torn = path.read_bytes()[:-cut]
    path.write_bytes(torn)
    assert eventlog.read(path) == (tuple(EVENTS[:2]), ())  # it may be an append in progress
    for _ in range(2):  # and every writer and reader after says so
        writer = eventlog.Writer(path)
        assert writer.notes == ("line 3 of events.jsonl is cut short, as by a crash, and was skipped",)
        writer.append({"kind": "after"})
        writer.close()
        assert eventlog.read(path).notes == writer.notes
    assert path.read_bytes().startswith(torn)
    assert eventlog.read(path).events == (*EVENTS[:2], {"kind": "after"}, {"kind": "after"})


def test_a_last_line_that_lacks_only_its_newline_is_kept(path):
    write(path, EVENTS)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert eventlog.read(path) == (tuple(EVENTS), ())
    mark = eventlog.Reading(path).whole
    assert mark.size == len(whole) - 1
    write(path, [{"kind": "after"}])
    assert eventlog.read(path) == ((*EVENTS, {"kind": "after"}), ())
    assert eventlog.Reading(path).begins_with(mark)


def test_a_corrupt_line_is_skipped_stays_and_is_said(path):
    write(path, EVENTS)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = lines[1].replace(b"break", b"brxak")
    path.write_bytes(lines[0] + damaged + b"\0\0 no line at all\n" + lines[2])
    notes = tuple(f"line {n} of events.jsonl is corrupt and was skipped" for n in (2, 3))
    assert eventlog.read(path) == ((EVENTS[0], EVENTS[2]), notes)

    writer = eventlog.Writer(path)
    assert writer.notes == notes
    writer.append({"kind": "after"})
    writer.close()
    assert eventlog.read(path) == ((EVENTS[0], EVENTS[2], {"kind": "after"}), notes)
    reading = eventlog.Reading(path)
    assert list(reading) and [problem.data for problem in reading.problems] == [damaged[:-1], b"\0\0 no line at all"]


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
