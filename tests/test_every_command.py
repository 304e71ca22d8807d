"""No command that looks at a campaign ends in a traceback, whatever its folder holds: one line says what is wrong, and
campaigns beside it are shown as ever.
"""

import contextlib
import io
import itertools
import json
import os
import resource
import shutil
import zlib
from pathlib import Path

import pytest

from bisect_cli.campaign.settings import Settings
from bisect_cli.cli import DEBUG, main
from bisect_cli.storage import eventlog, store
from bisect_cli.trainers.maskrcnn import SPEC

SOUND = Path(__file__).with_name("campaigns") / "before-specs"
LOOKS = {
    "status": ["status", "c"],
    "json": ["status", "c", "--json"],
    "explain": ["explain", "c"],
    "explain a run": ["explain", "c", "t01"],
    "logs": ["logs", "t01", "--name", "c"],
    "nodes": ["nodes", "c"],
    "check": ["check", "c"],
    "list": ["list"],
}
VALUES = [None, True, -1, 10**30, 1.5e308, "x", "", [], ["x", 3], {}, {"x": 1}, [[]], [{}]]
MISSING = object()
EVERY = 11  # one in so many of the changes is tried: all of them are well
DEPTH = 3


@pytest.fixture
def runs(tmp_path):
    """A folder of campaigns "c" and "d"."""
    for name in ("c", "d"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        shutil.copy(SOUND / store.LOG, tmp_path / "runs" / name)
    return tmp_path / "runs"


@pytest.fixture
def log(runs):
    return runs / "c" / store.LOG


def call(runs, words):
    """Exit code, output and error output of a command. Fails at an exception that it lets through."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        main([*words, "--runs-dir", str(runs)])
    return end.value.code, out.getvalue(), err.getvalue()


def check_all(runs, where=""):
    """All that look at "c" answer, or say in one line what is wrong; {name: (code, output, error output)}."""
    found = {}
    for name, words in LOOKS.items():
        (runs / "c" / "kept.jsonl").unlink(missing_ok=True)
        code, out, err = found[name] = call(runs, words)
        errors = [line for line in err.splitlines() if not line.startswith("note: ")]  # of damage that was found
        assert code in (0, 1, 2) and len(errors) <= 1, (where, name, err)
        assert "Traceback" not in out + err, (where, name, err)
    code, out, err = found["list"]
    assert code == 0 and "\nd  " in f"\n{out}", where
    assert "\nc  " in f"\n{out}" or err.startswith("note: c is left out: "), where
    return found


def check_refused(runs, words):
    """All say what is wrong with the log of "c"."""
    found = check_all(runs)
    for name, (code, out, err) in found.items():
        assert words in out + err, (name, out, err)
        assert code == {"list": 0, "check": 1}.get(name, 2), name
    assert "note: c is left out: " in found["list"][2]


# --- the log is none


def test_a_sound_campaign(runs):
    assert all(code == (name == "check") and not err for name, (code, _, err) in check_all(runs).items())


@pytest.mark.parametrize("content", [b"", b"\n", b"{", bytes(range(256)) * 50, b"\0" * 5000, b"[" * 100000])
def test_a_log_without_its_first_event(runs, log, content):
    """As in the first moments of a start."""
    log.write_bytes(content)
    for name, (code, out, err) in check_all(runs).items():
        if name == "check":
            assert code == bool(content) and ("wrong: " if content else "has not begun") in out
        else:
            assert code == (0 if name == "list" else 2) and "campaign 'c' does not say what it bisects" in err


def test_a_folder_as_the_log(runs, log):
    log.unlink()
    log.mkdir()
    check_refused(runs, "cannot be read (it is no regular file)")


def test_a_pipe_as_the_log(runs, log):
    log.unlink()
    os.mkfifo(log)
    check_refused(runs, "cannot be read (it is no regular file)")


def test_links_as_the_log(runs, log):
    for target in ("/dev/zero", "nowhere", log.name):
        log.unlink()
        log.symlink_to(target)
        check_all(runs)


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="Linux alone has it")
def test_a_log_that_the_disk_does_not_give(runs, log):
    log.unlink()
    log.symlink_to("/proc/self/mem")  # nothing is at address 0: EIO
    check_refused(runs, "cannot be read (input/output error)")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_log_that_others_own(runs, log):
    log.chmod(0)
    check_refused(runs, "cannot be read (permission denied)")


def test_too_many_open_files(runs):
    check_all(runs)  # imports all
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.dup(0))
        found = [call(runs, words) for words in LOOKS.values()]
    finally:
        for handle in opened:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for code, _, err in found:
        assert code in (0, 1, 2) and "Traceback" not in err
    check_all(runs)


def test_no_room_to_keep_what_was_found(runs):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        found = [call(runs, words) for words in LOOKS.values()]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert all(not err for _, _, err in found)


def test_a_trials_folder_that_is_none(runs):
    for make in (lambda path: path.write_text("x"), lambda path: path.symlink_to("/dev/zero"), os.mkfifo):
        (runs / "c" / "trials").unlink(missing_ok=True)
        make(runs / "c" / "trials")
        check_all(runs)


# --- the checksum is right and the content is not


def places(value, depth=DEPTH):
    """The ways to all values in a JSON value, of each list to its first one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, one in inner if depth else ():
        yield (key,)
        yield from ((key, *rest) for rest in places(one, depth - 1))


def changed(value, place, new):
    copy, (key, *rest) = dict(value) if isinstance(value, dict) else list(value), place
    if rest:
        copy[key] = changed(copy[key], rest, new)
    elif new is MISSING:
        del copy[key]
    else:
        copy[key] = new
    return copy


def changes(records):
    """(index of a record, place in it, new value): one for each field of each kind of event, and for each value."""
    seen = set()
    for number, record in enumerate(records):
        for place in places(record):
            if (record["kind"], place) not in seen:
                seen.add((record["kind"], place))
                yield from ((number, place, new) for new in (*VALUES, MISSING))


def test_wrong_content(runs, log):
    records = eventlog.read(log).events
    every = list(changes(records))
    assert len(every) > 1000
    refused = 0
    for number, place, new in itertools.islice(every, 0, None, EVERY):
        mutated = [*records[:number], changed(records[number], place, new), *records[number + 1 :]]
        log.write_bytes(b"".join(map(eventlog.line, mutated)))
        found = check_all(runs, (records[number]["kind"], place, new))
        refused += found["status"][0] == 2
    assert refused > 10


def test_a_number_that_no_one_can_count(runs, log):
    records = list(eventlog.read(log).events)
    for text in (b"9" * 5000, b"1e999", b"[" * 2000 + b"]" * 2000):
        body = json.dumps({**records[-1], "wall": "@"}).encode().replace(b'"@"', text)
        last = b'{"crc":"%08x","event":%s}\n' % (zlib.crc32(body), body)
        log.write_bytes(b"".join(map(eventlog.line, records[:-1])) + last)
        check_all(runs, text[:10])


def test_one_bad_campaign_does_not_break_those_beside_it(runs, log):
    (first, *rest) = eventlog.read(log).events
    log.write_bytes(b"".join(map(eventlog.line, [{**first, "settings": 3}, *rest])))
    settings = Settings("new", SPEC, SPEC.flag_names[:2], SPEC.default_metrics)
    assert store.earlier_seconds(runs, settings.spec) == store.earlier_seconds(runs, settings.spec) != []
    assert call(runs, ["status", "d"])[0] == 0
    assert store.find(runs, "d") == runs / "d"


def test_who_mends_the_program_sees_where_it_comes_from(runs, log, monkeypatch):
    log.write_bytes(eventlog.line({"kind": "created", "settings": 3, "spec": 3}))
    monkeypatch.setenv(DEBUG, "1")
    code, _, err = call(runs, LOOKS["status"])
    assert code == 2 and "Traceback" in err and err.splitlines()[-1].startswith("maskrcnn-bisect: what ")
