"""Metrics read out of what any training writes: each format, while files grow, are replaced and are poisoned."""

import importlib
import json
import math
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bisect_cli.errors import UserError
from bisect_cli.trainers.readers import Places, Series, check_source, explain_nothing, final, json_file, make_reader
from bisect_cli.trainers.readers import files as files_module
from bisect_cli.trainers.readers.lines import MOST_LINE
from bisect_cli.trainers.readers.tfrecord import masked_crc

EVENT_FILES = Path(__file__).parent / "event_files"  # written by `write_events` below, with TensorFlow 2.15
ACC = {"source": "jsonl", "file": "{out}/m.jsonl", "key": "acc", "step": "step", "better": "higher"}
OF_FORMAT = {
    "jsonl": ACC,
    "csv": {"source": "csv", "file": "{out}/m.csv", "key": "acc", "step": "step", "better": "higher"},
    "text": {"source": "text", "file": "{out}/m.log", "pattern": r"step (?P<step>\d+) acc (?P<value>\S+)"},
}
LINE_OF = {"jsonl": '{{"step": {}, "acc": {}}}\n', "csv": "{},{}\n", "text": "step {} acc {}\n"}
HEADER_OF = {"jsonl": "", "csv": "step,acc\n", "text": "hello\n"}


@pytest.fixture
def run(tmp_path):
    """The Places of a run; its folders are there."""
    (tmp_path / "t01" / "out").mkdir(parents=True)
    attempts = tuple(tmp_path / "t01" / f"attempt-{n}" for n in (1, 2))
    return Places(tmp_path / "t01" / "out", attempts, {"seed": 3, "trial": "t01"})


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def append(path, text):
    with open(path, "ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def points(source, places, **how):
    return list(make_reader(source).read(places, **how).points)


def same(found, expected):
    """NaN is like NaN, and -0.0 like 0.0: TensorFlow leaves out zeros of either sign."""
    return json.dumps([(step, value + 0.0) for step, value in found]) == json.dumps(
        [(step, value + 0.0) for step, value in expected]
    )


# --- places


def test_placeholders_and_braces(run):
    assert run.fill("{out}/s{seed}/{trial}.csv") == f"{run.out}/s3/t01.csv"
    assert run.fill("{{out}} {{{seed}}} {") == "{out} {3} {"
    with pytest.raises(UserError, match="unknown placeholder '{sed}': did you mean {seed}"):
        run.fill("{sed}")


def test_stars_of_the_text_mean_files_and_those_of_a_folder_mean_themselves(tmp_path):
    out = tmp_path / "a[*]?b"
    names = ["version_10/m.csv", "version_2/m.csv", "version_2/deep/er/m.csv", ".hidden/m.csv", "version_2/m.txt"]
    for name in names:
        write(out / name, "")
    write(tmp_path / "aXb" / "version_1" / "m.csv", "")
    (out / "circle").symlink_to(out)
    places = Places(out)
    assert places.paths("{out}/version_*/m.csv") == (out / names[1], out / names[0])
    assert places.paths("{out}/**/m.csv") == (out / names[2], out / names[1], out / names[0])
    assert set(places.paths("{out}/version_2/**")) >= {out / names[1], out / names[2], out / names[4]}
    assert places.paths("{out}/*/nothing") == () and places.paths("{out}/n") == (out / "n",)


def test_relative_paths_begin_at_the_base(tmp_path):
    write(tmp_path / "t01" / "m.csv", "")
    places = Places(tmp_path, (), {"trial": "t01"}, tmp_path)
    assert places.paths("{trial}/m.csv") == places.paths("{trial}/*.csv") == (tmp_path / "t01" / "m.csv",)


def test_relative_stars_without_a_base(tmp_path, monkeypatch):
    write(tmp_path / "t01" / "m.csv", "")
    monkeypatch.chdir(tmp_path)
    assert Places(Path("t01")).paths("{out}/*.csv") == (Path("t01/m.csv"),)


# --- formats of lines


def test_json_lines(run):
    lines = [
        '{"step": 1, "acc": 0.5, "val.loss": 3}',
        "",
        "no json",
        "[1, 2]",
        '{"step": 2, "acc": "0.75", "val": {"loss": 2}}',
        '{"step": 2.5, "acc": 1}',
        '{"acc": true, "step": 3}',
        '{"acc": null, "step": 3}',
        '{"acc": NaN, "step": 4}',
        '{"acc": -Infinity, "step": "5"}',
        '{"acc": 0.9}',
    ]
    write(run.out / "m.jsonl", "\ufeff" + "\r\n".join(lines) + "\n")
    expected = [(1, 0.5), (2, 0.75), (2.5, 1.0), (4, math.nan), (5, -math.inf), (None, 0.9)]
    assert same(points(ACC, run), expected)
    assert points({**ACC, "key": "val.loss"}, run) == [(1, 3.0), (2, 2.0)]


def test_lines_count_where_there_is_no_step(run):
    source = {key: value for key, value in ACC.items() if key != "step"}
    write(run.out / "m.jsonl", '{"acc": 1}\n\n{"other": 1}\n{"acc": 2}\n')
    assert points(source, run) == [(1, 1.0), (3, 2.0)]
    write(run.out / "n.jsonl", '{"acc": 3}\n')
    assert points({**source, "file": "{out}/*.jsonl"}, run) == [(None, 1.0), (None, 2.0), (None, 3.0)]


@pytest.mark.parametrize("key", ["a/b", "a.b", 'q"', "ä", "a.b.c"])
def test_any_key_in_any_spelling(run, key):
    record = {key: 1} if key != "a.b.c" else {"a": {"b.c": 1}}
    write(run.out / "m.jsonl", json.dumps(record).replace("/", r"\/") + "\n")
    write(run.out / "n.jsonl", json.dumps(record, ensure_ascii=False) + "\n")
    for file in ("m.jsonl", "n.jsonl"):
        assert points({"source": "jsonl", "key": key, "file": f"{{out}}/{file}"}, run) == [(1, 1.0)]


def test_csv(run):
    rows = ["# of a run", "epoch, val acc ,note", "0,0.5,x", '1,"0.75","a, b"', "2,NA,", "3", "4,nan,"]
    write(run.out / "m.csv", "\r\n".join(rows) + "\r\n")
    source = {"source": "csv", "file": "{out}/m.csv", "key": "val acc"}
    assert same(points({**source, "step": "epoch"}, run), [(0, 0.5), (1, 0.75), (4, math.nan)])
    assert same(points(source, run), [(1, 0.5), (2, 0.75), (5, math.nan)])


@pytest.mark.parametrize("sign", [";", "\t"])
def test_csv_with_another_delimiter(run, sign):
    write(run.out / "m.csv", f"step{sign}acc\n5{sign}0.5\n")
    assert points(OF_FORMAT["csv"], run) == [(5, 0.5)]


def test_a_header_that_comes_again_may_have_other_columns(run):
    write(run.out / "m.csv", "step,acc\n1,0.1\nstep,acc\n2,0.2\nstep,loss,acc\n3,9,0.3\n")
    assert points(OF_FORMAT["csv"], run) == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_output_of_all_attempts_in_their_order(run):
    write(run.attempts[0] / "stdout.txt", "acc 0.1 at 1\nnoise\nacc 0.2 at 2\nacc 0.")
    write(run.attempts[1] / "stdout.txt", "acc 0.3, at 2\n\x1b[32macc 0.4\x1b[0m at 3\nacc nan at 4\n")
    write(run.attempts[1] / "stderr.txt", "10%\racc 0.5 at 5\r 99%")
    source = {"source": "stdout", "pattern": r"acc (?P<value>\S+) at (?P<step>\d+)"}
    assert same(points(source, run), [(1, 0.1), (2, 0.2), (3, 0.4), (4, math.nan)])
    assert points({**source, "source": "stderr"}, run) == [(5, 0.5)]
    assert points({"source": "stdout", "pattern": r"acc (0\.\d)"}, run) == [(None, v) for v in (0.1, 0.2, 0.3, 0.4)]


def test_text_of_several_files(run):
    write(run.out / "log_10.txt", "val acc: 0.2\n")
    write(run.out / "log_9.txt", "val acc: 0.1\nval acc: -\n")
    source = {"source": "text", "file": "{out}/log_*.txt", "pattern": r"acc: (\S+)"}
    assert points(source, run) == [(None, 0.1), (None, 0.2)]


def test_a_last_line_without_an_end_counts_once_the_run_has_ended(run):
    path = write(run.out / "m.csv", "step,acc\n1,0.1\n2,0.2")
    reader = make_reader(OF_FORMAT["csv"])
    assert reader.read(run).points == ((1, 0.1),)
    for _ in range(2):
        assert reader.read(run, ended=True).points == ((1, 0.1), (2, 0.2))
    append(path, "5\n")
    assert reader.read(run, ended=True).points == ((1, 0.1), (2, 0.25))


def test_a_last_line_that_counts_for_now_is_counted_once(run):
    path = write(run.out / "m.csv", "acc\n0.1\n0.2")
    reader = make_reader({"source": "csv", "file": "{out}/m.csv", "key": "acc"})
    for _ in range(3):
        assert reader.read(run, ended=True).points == ((1, 0.1), (2, 0.2))
    append(path, "\n0.3\n")
    assert reader.read(run, ended=True).points == ((1, 0.1), (2, 0.2), (3, 0.3))


def test_only_the_last_attempt_ends_by_itself(run):
    for attempt, text in zip(run.attempts, ("acc 0.1", "acc 0.2")):
        write(attempt / "stdout.txt", text)
    assert points({"source": "stdout", "pattern": r"acc (\S+)"}, run, ended=True) == [(None, 0.2)]


# --- json


def test_json_is_whole_or_nothing(run):
    path = write(run.out / "r.json", '{"status": "finished", "metrics": {"acc": 0.5')
    reader = make_reader({"source": "json", "file": "{out}/r.json", "key": "metrics.acc"})
    assert reader.read(run).points == ()
    append(path, "}}")
    assert reader.read(run).points == ((None, 0.5),)
    write(path, '{"metrics": {"acc": NaN}}')
    assert math.isnan(reader.read(run).points[0][1])
    write(path, "{")
    assert reader.read(run).points == ()


def test_a_history_in_json_is_a_curve(run):
    write(run.out / "r.json", '{"val_acc": [0.1, null, 0.3]}')
    assert points({"source": "json", "file": "{out}/r.json", "key": "val_acc"}, run) == [(1, 0.1), (3, 0.3)]


def test_json_that_has_not_changed_is_not_read_again(run, read_bytes):
    write(run.out / "r.json", json.dumps({"acc": 1, "more": "x" * 10000}))
    reader = make_reader({"source": "json", "file": "{out}/r.json", "key": "acc"})
    reader.read(run)
    before = read_bytes()
    assert reader.read(run).points == ((None, 1.0),) and read_bytes() == before


# --- while a file grows


@pytest.mark.parametrize("format_", OF_FORMAT)
def test_a_file_that_grows_in_any_pieces(run, format_):
    expected = [(step, step / 7) for step in range(40)]
    text = HEADER_OF[format_] + "".join(LINE_OF[format_].format(*point) for point in expected)
    luck = random.Random(format_)
    reader = make_reader(OF_FORMAT[format_])
    path = reader.paths(run)[0]
    assert reader.read(run).points == ()
    path.touch()
    written = 0
    while written < len(text):
        piece = text[written : written + luck.choice((1, 2, 3, 17, 60, 200))]
        append(path, piece)
        written += len(piece)
        whole = text[:written].count("\n") - HEADER_OF[format_].count("\n")
        assert reader.read(run).points == tuple(expected[: max(whole, 0)])
    assert written == len(text) and len(reader.read(run).points) == 40


def test_chunks_of_any_size(run, monkeypatch):
    lines = [f'{{"step": {step}, "acc": {step}, "pad": "{"é" * (step % 9)}"}}\r\n' for step in range(60)]
    write(run.out / "m.jsonl", "".join(lines))
    for size in (1, 2, 7, 64):
        monkeypatch.setattr(files_module, "CHUNK", size)
        assert points(ACC, run) == [(step, float(step)) for step in range(60)]


def test_many_lines_are_read_once(run, read_bytes):
    path, reader = run.out / "m.jsonl", make_reader(ACC)
    for part in range(10):
        append(path, "".join(f'{{"step": {part * 10000 + i}, "acc": 0.5, "loss": 1.25}}\n' for i in range(10000)))
        series = reader.read(run)
    assert len(series.points) == 100_000 and series.last_step == 99_999
    assert read_bytes() <= path.stat().st_size + 10 * 2 * files_module.PROOF
    before = read_bytes()
    for _ in range(5):
        reader.read(run)
    assert read_bytes() == before
    append(path, '{"step": 100000, "acc": 0.5}\n')
    assert len(reader.read(run).points) == 100_001 and read_bytes() - before <= 1000


def test_a_reader_of_several_runs_keeps_them_apart(tmp_path):
    runs = [Places(tmp_path / name) for name in "ab"]
    reader = make_reader(ACC)
    for n in (1, 2):
        for value, places in enumerate(runs):
            places.out.mkdir(exist_ok=True)
            append(places.out / "m.jsonl", f'{{"step": {n}, "acc": {value}}}\n')
            assert reader.read(places).points == tuple((step, float(value)) for step in range(1, n + 1))


# --- while files come, go and are replaced


@pytest.mark.parametrize("format_", OF_FORMAT)
def test_a_file_that_is_cut_short_begins_anew(run, format_):
    reader = make_reader(OF_FORMAT[format_])
    path = reader.paths(run)[0]
    write(path, HEADER_OF[format_] + "".join(LINE_OF[format_].format(step, 1) for step in range(100)))
    assert len(reader.read(run).points) == 100
    write(path, HEADER_OF[format_] + LINE_OF[format_].format(7, 2))
    assert reader.read(run).points == ((7, 2.0),)


@pytest.mark.parametrize("how", ["in place", "removed", "renamed over"])
def test_a_file_that_is_replaced_by_a_longer_one_begins_anew(run, how):
    reader, path = make_reader(ACC), run.out / "m.jsonl"
    write(path, "".join(f'{{"step": {step}, "acc": 1}}\n' for step in range(50)))
    assert len(reader.read(run).points) == 50
    text = "".join(f'{{"step": {step}, "acc": 2}}\n' for step in range(500))
    if how == "removed":
        path.unlink()  # the next file often gets its inode
    if how == "renamed over":
        os.replace(write(run.out / "new", text), path)
    else:
        write(path, text)
    assert reader.read(run).points == tuple((step, 2.0) for step in range(500))


def test_a_file_that_is_replaced_by_one_with_the_same_end(run):
    reader, path = make_reader(ACC), run.out / "m.jsonl"
    end = "".join(f'{{"step": {step}, "acc": 1}}\n' for step in range(2, 50))
    for value in (1, 2):
        os.replace(write(run.out / "new", f'{{"step": 1, "acc": {value}}}\n{end}'), path)
        assert reader.read(run).points[0] == (1, float(value))


def test_a_file_of_the_same_length_that_is_written_anew(run):
    reader, path = make_reader(ACC), run.out / "m.jsonl"
    write(path, '{"step": 1, "acc": 1}\n')
    os.utime(path, ns=(1, 1))
    assert reader.read(run).points == ((1, 1.0),)
    write(path, '{"step": 1, "acc": 2}\n')
    assert reader.read(run).points == ((1, 2.0),)


def test_a_file_that_is_removed_has_no_points(run):
    reader, path = make_reader(ACC), run.out / "m.jsonl"
    for value in (1, 2):
        write(path, f'{{"step": 1, "acc": {value}}}\n')
        assert reader.read(run).points == ((1, float(value)),)
        shutil.rmtree(run.out)
        assert reader.read(run) == Series((), (path,))


def test_a_file_that_cannot_be_read_for_once_stays_as_it_was(run, monkeypatch):
    reader, path = make_reader(ACC), run.out / "m.jsonl"
    write(path, '{"step": 1, "acc": 1}\n')
    assert reader.read(run).points == ((1, 1.0),)
    append(path, '{"step": 2, "acc": 1}\n')
    with monkeypatch.context() as failing:
        failing.setattr(files_module.os, "open", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
        assert reader.read(run).points == ((1, 1.0),)
    assert reader.read(run).points == ((1, 1.0), (2, 1.0))


# --- poison


def poison_pipe(path):
    os.mkfifo(path)


def poison_link_to_pipe(path):
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


POISONS = {
    "pipe": poison_pipe,
    "link to a pipe": poison_link_to_pipe,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "folder": lambda path: path.mkdir(),
    "link to itself": lambda path: path.symlink_to(path),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "nested": lambda path: write(path, b'{"acc":' * 100_000 + b"\n" + b"[" * 900_000 + b"\n"),
    "no text": lambda path: write(path, bytes(range(256)) * 100),
    "no line": lambda path: write(path, b"x" * (3 * MOST_LINE)),
}


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("format_", ["jsonl", "csv", "json", "text", "tensorboard", "stdout"])
def test_poison_is_passed_over(run, format_, poison):
    file = run.attempts[0] / "stdout.txt" if format_ == "stdout" else run.out / "m.tfevents"
    file.parent.mkdir(exist_ok=True)
    source = {"source": format_, "file": "{out}/m.tfevents", "key": "acc", "tag": "acc", "pattern": r"acc\W+(\S+)"}
    POISONS[poison](file)
    begin = time.monotonic()
    reader = make_reader(source)
    for _ in range(2):
        series = reader.read(run)
        assert series.points == ()
        assert "\n" not in explain_nothing(source, series)
    assert time.monotonic() - begin < 20


def test_devices_and_pipes_are_not_even_opened(run, monkeypatch):
    monkeypatch.setattr(files_module.os, "open", lambda *_: pytest.fail("opened"))
    for number, name in enumerate(("/dev/zero", "/dev/tty", "pipe", ".")):
        (run.out / f"{number}.jsonl").symlink_to(name)
    os.mkfifo(run.out / "pipe")
    for number in range(4):
        assert points({**ACC, "file": f"{{out}}/{number}.jsonl"}, run) == []


def test_a_file_that_becomes_a_pipe_between_two_looks(run, monkeypatch):
    write(run.out / "m.jsonl", '{"step": 1, "acc": 1}\n')
    reader, opens = make_reader(ACC), os.open
    assert len(reader.read(run).points) == 1
    append(run.out / "m.jsonl", '{"step": 2, "acc": 1}\n')

    def replaced(path, flags):
        path.unlink()
        os.mkfifo(path)
        return opens(path, flags)

    monkeypatch.setattr(files_module.os, "open", replaced)
    assert reader.read(run).points == ()


@pytest.mark.parametrize("format_", OF_FORMAT)
def test_numbers_that_are_none(run, format_):
    digits = ["9" * 400, "9" * 5000, "1e999", "-1e999", "1_0", "0x10", '""']
    lines = [LINE_OF[format_].format(1, value) for value in digits] + [LINE_OF[format_].format(2, 0.5)]
    lines.append(LINE_OF[format_].format("9" * 400, 0.5))
    reader = make_reader(OF_FORMAT[format_])
    write(reader.paths(run)[0], HEADER_OF[format_] + "".join(lines))
    assert list(reader.read(run).points) == [(2, 0.5), (None, 0.5)]


def test_long_numbers_do_not_hide_others(run):
    write(run.out / "m.jsonl", f'{{"step": 1, "acc": 0.5, "more": {"9" * 900_000}}}\n')
    assert points(ACC, run) == [(1, 0.5)]


def test_json_that_is_too_large_is_not_read(run, monkeypatch):
    monkeypatch.setattr(json_file, "MOST_FILE", 20)
    for text, expected in (('{"acc": 1}', [(None, 1.0)]), ('{"acc": 1, "more": 2}', [])):
        write(run.out / "r.json", text)
        assert points({"source": "json", "file": "{out}/r.json", "key": "acc"}, run) == expected


@pytest.mark.parametrize("more", [0, 1])
def test_the_longest_line(run, more):
    begin, end = '{"step": 1, "acc": 1, "pad": "', '"}'
    write(run.out / "m.jsonl", begin + "x" * (MOST_LINE - len(begin + end) + more) + end + "\n")
    assert len(points(ACC, run)) == 1 - more


def test_a_line_that_is_too_long_is_passed_over_in_pieces_as_well(run):
    path, reader = run.out / "m.jsonl", make_reader(ACC)
    first, last = '{"step": 1, "acc": 1}\n', '{"step": 2, "acc": 1}\n'
    long = '{"step": 9, "acc": 9, "pad": "' + "x" * (2 * MOST_LINE) + '"}\n'
    write(path, first + long + last)
    assert reader.read(run).points == ((1, 1.0), (2, 1.0))
    write(path, first)
    for start in range(0, len(long), MOST_LINE // 2):
        append(path, long[start : start + MOST_LINE // 2])
        assert reader.read(run).points == ((1, 1.0),)
        assert len(reader._followed[path].parser.rest) <= MOST_LINE
    append(path, last)
    assert reader.read(run).points == ((1, 1.0), (2, 1.0))


def test_a_file_that_never_stops_growing_does_not_hold_the_reader(run, monkeypatch):
    path, pread = write(run.out / "m.jsonl", '{"step": 1, "acc": 1}\n'), os.pread

    def growing(*place):
        append(path, '{"step": 2, "acc": 1}\n')
        return pread(*place)

    monkeypatch.setattr(files_module.os, "pread", growing)
    assert points(ACC, run) == [(1, 1.0)]


# --- TensorBoard

TAGS = ("val/acc", "loss")
VALUES = [(0, 0.0), (5, 0.5), (10, 0.75), (15, math.inf), (20, math.nan), (25, -1.5e-7)]


def write_events(folder, version):
    """Real event files: those under tests/event_files were made with this, and have been renamed."""
    tf = importlib.import_module("tensorflow")
    if version == "v2":
        with tf.summary.create_file_writer(str(folder)).as_default():
            for step, value in VALUES:
                tf.summary.scalar("val/acc", value, step=step)
                tf.summary.scalar("loss", -value, step=step)
                tf.summary.histogram("weights", [1.0, 2.0, value if math.isfinite(value) else 0.0], step=step)
                tf.summary.text("note", "val/acc", step=step)
            tf.summary.write("double", tf.constant(0.1, tf.float64), step=30)
            tf.summary.write("half", tf.constant(0.5, tf.float16), step=30)
            tf.summary.write("bfloat16", tf.constant(-0.5, tf.bfloat16), step=30)
            tf.summary.write("two", tf.constant([0.5, 0.5]), step=30)
        return
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        value = v1.placeholder(tf.float32, [])
        v1.summary.scalar("val/acc", value)
        v1.summary.scalar("loss", -value)
        merged = v1.summary.merge_all()
        writer = v1.summary.FileWriter(str(folder), graph=session.graph)
        for step, number in VALUES:
            writer.add_summary(session.run(merged, {value: number}), step)
        writer.close()


def tensorboard(tag, folder="{out}"):
    return {"source": "tensorboard", "file": folder, "tag": tag}


def as_float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def field(number, value):
    """A field of a message: an int as a varint, bytes with their length."""
    head = varint(number << 3 | (0 if isinstance(value, int) else 2))
    return head + (varint(value) if isinstance(value, int) else varint(len(value)) + value)


def varint(value):
    low = bytes([value & 127 | (128 if value > 127 else 0)])
    return low + varint(value >> 7) if value > 127 else low


def record(data):
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def event(step, tag, value=None, tensor=None, metadata=b""):
    number = b"" if value is None else b"\x15" + struct.pack("<f", value)
    message = field(1, tag.encode()) + number
    message += b"" if tensor is None else field(8, tensor)
    message += field(9, metadata) if metadata else b""
    return record(b"\x09" + struct.pack("<d", 1e9) + field(2, step) + field(5, field(1, message)))


def test_checksums_are_those_of_the_standard():
    crc = (0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8 & 0xFFFFFFFF  # CRC-32C of 123456789 (RFC 3720)
    assert masked_crc(b"123456789") == crc


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_real_event_files(version):
    places = Places(EVENT_FILES / version)
    for tag, sign in zip(TAGS, (1, -1)):
        expected = [(step, as_float32(sign * value)) for step, value in VALUES]
        assert same(points(tensorboard(tag), places), expected)
    assert points(tensorboard("weights"), places) == points(tensorboard("note"), places) == []


def test_real_tensors_of_other_types():
    places = Places(EVENT_FILES / "v2")
    found = {tag: points(tensorboard(tag), places) for tag in ("double", "half", "bfloat16", "two")}
    assert found == {"double": [(30, 0.1)], "half": [(30, 0.5)], "bfloat16": [(30, -0.5)], "two": []}


@pytest.mark.training
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_event_files_are_read_as_tensorflow_reads_them(tmp_path, version):
    # In a process of its own: tests of the training switch eager execution off for all that follow.
    code = f"import test_readers; test_readers.write_events({str(tmp_path)!r}, {version!r})"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)
    tf = importlib.import_module("tensorflow")
    (path,) = tmp_path.iterdir()
    for tag in TAGS:
        expected = []
        for one in tf.compat.v1.train.summary_iterator(str(path)):
            for value in one.summary.value:
                if value.tag == tag:
                    number = float(tf.make_ndarray(value.tensor)) if value.HasField("tensor") else value.simple_value
                    expected.append((one.step, number))
        assert len(expected) == len(VALUES)
        assert same(points(tensorboard(tag), Places(tmp_path)), expected)


def packed(form, *numbers):
    return b"".join(struct.pack(form, number) for number in numbers)


@pytest.mark.parametrize(
    "tensor, value",
    [
        (field(1, 1) + field(4, packed("<f", 0.5)), 0.5),
        (field(1, 1) + field(5, packed("<f", 0.5)), 0.5),
        (field(1, 1) + b"\x2d" + packed("<f", 0.5), 0.5),  # not packed
        (field(1, 2) + field(4, packed("<d", 0.1)), 0.1),
        (field(1, 2) + field(6, packed("<d", 0.1)), 0.1),
        (field(1, 19) + field(4, packed("<e", 0.5)), 0.5),
        (field(1, 19) + field(13, varint(0x3800)), 0.5),
        (field(1, 19) + field(13, 0x3800), 0.5),
        (field(1, 14) + field(13, varint(0x3F00)), 0.5),
        (field(1, 1) + field(2, b"") + field(5, packed("<f", 0.5)), 0.5),
        (field(1, 1) + field(2, field(2, field(1, 1))) + field(5, packed("<f", 0.5)), 0.5),
        (field(1, 1) + field(2, b""), 0.0),  # all zeros
        (field(1, 1) + field(2, field(2, field(1, 2))) + field(5, packed("<f", 0.5)), None),  # two of them
        (field(1, 1) + field(5, packed("<f", 0.5, 0.5, 0.5)), None),
        (field(1, 1) + b"\x2d" + packed("<f", 0.5) + b"\x2d" + packed("<f", 0.5), None),
        (field(1, 3) + field(7, varint(1)), None),  # an int
        (field(1, 7) + field(8, b"text"), None),
        (field(1, b"x") + field(5, packed("<f", 0.5)), None),
        (b"", None),
    ],
)
def test_scalars_in_tensors(run, tensor, value):
    write(run.out / "events.tfevents.1", event(3, "acc", tensor=tensor) + event(4, "acc", 1.0))
    expected = [] if value is None else [(3, value)]
    assert points(tensorboard("acc"), run) == [*expected, (4, 1.0)]


@pytest.mark.parametrize("plugin, count", [(b"scalars", 1), (b"", 1), (b"histograms", 0)])
def test_only_tensors_of_scalars_are_scalars(run, plugin, count):
    tensor = field(1, 1) + field(5, packed("<f", 0.5))
    write(run.out / "e.tfevents", event(1, "acc", tensor=tensor, metadata=field(1, field(1, plugin))))
    assert len(points(tensorboard("acc"), run)) == count


def test_event_files_of_a_folder_in_the_order_of_their_names(run):
    for step, name in enumerate(["v_2/events.tfevents.9", "v_2/events.tfevents.10", "v_10/a.tfevents", "z.tfevents"]):
        write(run.out / name, event(step, "acc", float(step)) + event(step, "accuracy", 7.0))
    write(run.out / "v_2" / "x.tfevents.profile-empty", event(9, "acc", 9.0))
    write(run.out / "v_2" / "other", event(9, "acc", 9.0))
    os.mkfifo(run.out / "pipe.tfevents")
    assert points({"source": "tensorboard", "tag": "acc"}, run) == [(n, float(n)) for n in range(4)]
    assert points(tensorboard("acc", "{out}/v_*"), run) == [(n, float(n)) for n in range(3)]
    assert points(tensorboard("acc", "{out}/z.tfevents"), run) == [(3, 3.0)]


def test_event_files_that_grow_in_any_pieces(run, read_bytes):
    data = [event(step, tag, float(step)) for step in range(50) for tag in ("loss", "acc")]
    path, reader, luck, written = (
        write(run.out / "e.tfevents", b""),
        make_reader(tensorboard("acc")),
        random.Random(1),
        0,
    )
    text = b"".join(data)
    while written < len(text):
        piece = text[written : written + luck.choice((1, 5, 30, 400))]
        append(path, piece)
        written += len(piece)
        whole = len([n for n in range(1, 101) if sum(map(len, data[:n])) <= written])
        series = reader.read(run)
        assert series.points == tuple((step, float(step)) for step in range(whole // 2)) and not series.damaged
    before = read_bytes()
    assert len(reader.read(run).points) == 50 and read_bytes() == before


def test_a_negative_step(run):
    write(run.out / "e.tfevents", event((1 << 64) - 1, "acc", 0.5))
    assert points(tensorboard("acc"), run) == [(-1, 0.5)]


def test_damaged_records_are_passed_over_and_said(run):
    good, bad = event(1, "acc", 1.0), bytearray(event(2, "acc", 2.0))
    bad[-6] ^= 1
    path = write(run.out / "e.tfevents", good + bytes(bad) + event(3, "acc", 3.0))
    series = make_reader(tensorboard("acc")).read(run)
    assert series.points == ((1, 1.0), (3, 3.0))
    assert series.damaged == (f"{path}: damaged at byte {len(good)}",)


def test_nothing_is_read_after_a_damaged_length_until_it_is_whole(run):
    good, late = event(1, "acc", 1.0), event(2, "acc", 2.0)
    path = write(run.out / "e.tfevents", good + bytes(len(late)))  # what a network's file system may show for a while
    reader = make_reader(tensorboard("acc"))
    for _ in range(2):
        series = reader.read(run)
        assert series.points == ((1, 1.0),)
        assert series.damaged == (f"{path}: damaged at byte {len(good)}, nothing after it was read",)
    stamp = path.stat().st_mtime_ns
    write(path, good + late)
    os.utime(path, ns=(stamp, stamp))
    series = reader.read(run)
    assert series.points == ((1, 1.0), (2, 2.0)) and series.damaged == ()


def test_a_last_record_that_is_damaged_may_still_become_whole(run):
    good, late = event(1, "acc", 1.0), event(2, "acc", 2.0)
    path, reader = write(run.out / "e.tfevents", good + late[:-4] + bytes(4)), make_reader(tensorboard("acc"))
    assert len(reader.read(run).points) == len(reader.read(run).damaged) == 1
    write(path, good + late)
    assert reader.read(run) == Series(((1, 1.0), (2, 2.0)), (path,))


def test_a_length_without_end_is_waited_for(run):
    length = struct.pack("<Q", 1 << 62)
    write(run.out / "e.tfevents", event(1, "acc", 1.0) + length + struct.pack("<I", masked_crc(length)) + b"acc" * 99)
    assert points(tensorboard("acc"), run) == [(1, 1.0)]


def test_messages_of_any_bytes_raise_nothing(run):
    luck = random.Random(0)
    sound = event(1, "acc", tensor=field(1, 1) + field(2, field(2, field(1, 1))) + field(5, packed("<f", 0.5)))[12:-4]
    broken = []
    for _ in range(3000):
        data = bytearray(sound)
        for _ in range(luck.randint(1, 3)):
            data[luck.randrange(len(data))] = luck.randrange(256)
        broken.append(record(bytes(data)))
    write(run.out / "e.tfevents", b"".join(broken) + event(7, "acc", 7.0))
    assert points(tensorboard("acc"), run)[-1] == (7, 7.0)
    explain_nothing(tensorboard("no"), make_reader(tensorboard("no")).read(run))


# --- series and the number at the end


def test_a_curve_has_the_last_value_of_each_step_where_it_is_finite():
    series = Series(((1, 0.1), (3, 0.3), (2, 0.2), (3, math.nan), (2, 0.25), (None, 0.9)))
    assert list(series.curve().items()) == [(1, 0.1), (2, 0.25)]
    assert series.last_step == 2
    assert Series().last_step is None and Series(((None, 1.0),)).last_step is None and Series().curve() == {}


@pytest.mark.parametrize(
    "rule, values, higher, expected",
    [
        ("last", [0.1, 0.3, 0.2], True, 0.2),
        ("best", [0.1, 0.3, 0.2], True, 0.3),
        ("best", [0.1, 0.3, 0.2], False, 0.1),
        ("best", [0.1, math.inf, math.nan], True, 0.1),
        ("best", [math.inf, math.nan], True, math.nan),
        ("mean of the last 2", [0.1, 0.3, 0.2], True, 0.25),
        ("mean of the last 9", [0.1, 0.3], True, 0.2),
        ("mean of the last 2", [0.1, math.nan], True, math.nan),
        ("mean of the last 2", [math.inf, -math.inf], True, math.nan),
        ("last", [0.1, math.nan], True, math.nan),
    ],
)
def test_the_number_at_the_end(rule, values, higher, expected):
    found = final(Series(tuple((None, value) for value in values)), rule, higher)
    assert found == pytest.approx(expected, nan_ok=True)
    assert final(Series(), rule, higher) is None


def test_a_mean_counts_a_step_that_was_trained_again_once():
    series = Series(((1, 6.0), (2, 9.0), (3, 9.0), (2, 1.0), (3, 2.0)))
    assert final(series, "mean of the last 2", True) == 1.5
    assert final(series, "mean of the last 3", True) == 3.0


# --- what is wrong with a table


@pytest.mark.parametrize("source", [*OF_FORMAT.values(), {"source": "tensorboard", "tag": "acc"}])
def test_sound_tables_pass(source):
    check_source("acc", {**source, "better": "higher", "final": "mean of the last 3", "range": [0, 1], "noise": 0.1})


@pytest.mark.parametrize(
    "change, said",
    [
        ({"source": "jsnl"}, "metrics.acc.source: unknown source 'jsnl': did you mean jsonl"),
        ({"source": 3}, "metrics.acc.source: unknown source '3'"),
        ({"source": None}, "metrics.acc.source: is missing; one of jsonl, csv,"),
        ({"key": None}, "metrics.acc.key: is missing; the source jsonl needs file and key."),
        ({"file": None}, "metrics.acc.file: is missing"),
        ({"key": " "}, "metrics.acc.key: must be a text that is not empty, not ' '."),
        ({"step": 3}, "metrics.acc.step: must be a text"),
        ({"filee": "x"}, "metrics.acc.filee: unknown key 'filee': did you mean file"),
        ({"pattern": "(x)"}, "metrics.acc.pattern: the source jsonl takes none, only file, key and step."),
        ({"source": "json"}, "metrics.acc.step: the source json takes none, only file and key."),
        ({"file": "{oot}/m"}, "metrics.acc.file: unknown placeholder '{oot}': did you mean {out}"),
        ({"file": "m.jsonl"}, "metrics.acc.file: m.jsonl is the same file for all runs; begin it with {out}/"),
        ({"file": "{{out}}/m.jsonl"}, "is the same file for all runs"),
        ({"final": "mean"}, 'metrics.acc.final: \'mean\' is no rule; it is "last", "best" or'),
        ({"final": "mean of the last 0"}, "is no rule"),
        ({"final": 3}, "is no rule"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_in_a_line(change, said):
    source = {key: value for key, value in {**ACC, **change}.items() if value is not None}
    with pytest.raises(UserError) as error:
        check_source("acc", source)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "pattern, said",
    [
        (r"acc (\S+", "is no regular expression: missing ), unterminated subpattern at position 4. One would be '"),
        (r"acc \S+", "has no group; put one around the number, as in 'val loss (?P<value>"),
        (r"(acc) (\S+)", "which group is the number? Name it (?P<value>...)"),
        (r"(?P<step>\d+)", "which group is the number?"),
        (r"(?P<step>\d+) acc (\S+)", ""),
        (r"(?P<step>\d+) (acc) (?P<value>\S+)", ""),
    ],
)
def test_what_is_wrong_with_a_pattern(pattern, said):
    source = {"source": "stdout", "pattern": pattern}
    if not said:
        check_source("acc", source)
        return
    with pytest.raises(UserError) as error:
        check_source("acc", source)
    assert str(error.value).startswith("metrics.acc.pattern: ") and said in str(error.value)


def test_a_table_must_be_a_table():
    with pytest.raises(UserError, match=r"metrics.acc: must be a table with source and better, not 'jsonl'"):
        check_source("acc", "jsonl")


# --- why nothing was found


def explained(source, places):
    series = make_reader(source).read(places)
    assert series.points == ()
    return explain_nothing(source, series)


def test_a_key_that_is_not_there(run):
    write(run.out / "m.jsonl", '{"step": 1, "acc": 0.5, "val": {"loss": 2}, "note": "x"}\n')
    assert explained({**ACC, "key": "val_acc"}, run) == (
        "no `val_acc` in t01/out/m.jsonl; it has acc, step, val.loss: did you mean acc?"
    )
    assert explained({**ACC, "key": "note"}, run) == ("no `note` in t01/out/m.jsonl; it is there, but 'x' is no number")


def test_a_column_that_is_not_there(run):
    write(run.out / "m.csv", "epoch;val_loss\n1;0.5\n")
    assert explained(OF_FORMAT["csv"], run) == "no `acc` in t01/out/m.csv; it has epoch, val_loss"
    write(run.out / "m.csv", "epoch;acc\n1;NA\n")
    assert "it is there, but 'NA' is no number" in explained(OF_FORMAT["csv"], run)


def test_a_key_of_json_that_is_not_there(run):
    source = {"source": "json", "file": "{out}/r.json", "key": "metrics.accuracy"}
    write(run.out / "r.json", '{"metrics": {"acc": 0.5}, "history": [1]}')
    assert "it has history, metrics.acc: did you mean metrics.acc?" in explained(source, run)
    write(run.out / "r.json", "{")
    assert explained(source, run).endswith("in t01/out/r.json; nothing was found there that has a name")


def test_a_tag_that_is_not_there():
    source = tensorboard("val_accuracy")
    assert explained(source, Places(EVENT_FILES / "v1")) == (
        "no tag `val_accuracy` in event_files/v1/events.out.tfevents.1700000000.host; "
        "it has loss, val/acc: did you mean val/acc?"
    )


def test_a_pattern_that_matches_nothing(run):
    write(run.attempts[0] / "stdout.txt", "step 1 val_loss=0.5\nval_acc: 0.25, fine\nbye\n")
    source = {"source": "stdout", "pattern": r"val_acc = (?P<value>\S+)"}
    said = explained(source, run)
    assert said.startswith(r"no match of the pattern `val_acc = (?P<value>\S+)` in t01/attempt-1/stdout.txt; ")
    assert said.endswith("the nearest line is `val_acc: 0.25, fine`")
    assert explained({**source, "pattern": r"val_acc: (\S+)"}, run).endswith("it matches, but `0.25,` is no number")
    assert "in" not in explained({**source, "pattern": r"(x)"}, run._replace(attempts=())).split(":")[0].split("`")[2]


def test_files_that_are_not_there(run):
    assert (
        explained(ACC, run) == "no `acc`: t01/out/m.jsonl is not there; " + f"{'/'.join(run.out.parts[-3:])} is empty"
    )
    write(run.out / "metrics.jsonl", "")
    assert explained(ACC, run).endswith("has metrics.jsonl: did you mean metrics.jsonl?")
    assert explained({**ACC, "file": "{out}/log/*.jsonl"}, run).startswith("no `acc`: out/log/*.jsonl is not there; ")
    assert explained(tensorboard("acc"), run).startswith("no tag `acc`: t01/out/*tfevents* is not there; ")
    assert "no attempt" in explained({"source": "stdout", "pattern": "(x)"}, run._replace(attempts=()))
    write(run.out / "m.jsonl", "")
    assert explained(ACC, run) == "no `acc`: t01/out/m.jsonl is empty"


def test_many_names_are_cut_short(run):
    write(run.out / "m.jsonl", json.dumps({f"loss_{n}": n for n in range(200)} | {"accuracy": 1}) + "\n")
    said = explained(ACC, run)
    assert "it has accuracy, loss_0" in said and said.endswith("and 189 more: did you mean accuracy?")
