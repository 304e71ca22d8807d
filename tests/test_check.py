"""`maskrcnn-bisect check` says what is wrong with a campaign on disk, and `--repair` mends it, and loses nothing."""

import json
import shutil

import pytest
from bisecting import BLOCK, Bench, results, wait_for

from bisect_cli.analysis import analyse
from bisect_cli.errors import UserError
from bisect_cli.run.inspection import inspect
from bisect_cli.run.repair import repair
from bisect_cli.storage import eventlog, lease, store

TABLE = {"breaks": {"segm": [["ROI_ALIGN_MASK"]]}, "seconds": 0.0, "key": {"code": "1"}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A campaign that has finished."""
    bench = Bench(tmp_path_factory.mktemp("made"), **TABLE)
    assert bench.run(slots=1).state == "finished"
    return bench


@pytest.fixture
def bench(made, tmp_path):
    """A copy of it, under the same path in what it says."""
    shutil.copytree(made.folder, tmp_path, dirs_exist_ok=True)
    return Bench(tmp_path, **TABLE)


@pytest.fixture
def folder(bench):
    return bench.runs / "c"


def found_in(folder):
    return [(one.kind, one.what) for one in inspect(folder, lease.holder(folder)).findings]


def lines_of(folder):
    return (folder / store.LOG).read_bytes().splitlines(keepends=True)


def write(folder, lines):
    (folder / store.LOG).write_bytes(b"".join(lines))


def index_of(folder, kind, trial):
    records = eventlog.read(folder / store.LOG).events
    return next(i for i, one in enumerate(records) if (one["kind"], one.get("trial")) == (kind, trial))


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def check_mended(bench, folder, before):
    """After a repair nothing is wrong, all results are there as before, and no run is made again."""
    assert found_in(folder) == []
    starts = len(bench.starts())
    state = bench.run()
    assert state.state == "finished" and results(state) == before
    assert [one.flags for one in analyse(state).plans["segm"].culprits] == [("ROI_ALIGN_MASK",)]
    assert len(bench.starts()) == starts
    assert found_in(folder) == []


def test_a_sound_campaign(bench, folder):
    assert found_in(folder) == []
    log = (folder / store.LOG).read_bytes()
    code, out, err = bench.call("check", "c")
    assert (code, out, err) == (0, "Nothing is wrong with campaign c.\n", "")
    code, out, _ = bench.call("check", "c", "--repair", "--json")
    expected = {"version": 1, "name": "c", "running": False, "wrong": [], "mended": [], "backup": None}
    assert code == 0 and json.loads(out) == expected
    assert (folder / store.LOG).read_bytes() == log and not list(folder.glob("before-repair*"))


@pytest.mark.parametrize("kind, trial", [("ended", "t02"), ("started", "t04")])
def test_a_damaged_line(bench, folder, kind, trial):
    before = results(store.load(folder)[0])
    lines = lines_of(folder)
    number = index_of(folder, kind, trial)
    lines[number] = lines[number].replace(b'"kind"', b'"kinb"')
    write(folder, lines)
    damaged = (folder / store.LOG).read_bytes()
    code, out, err = bench.call("check", "c")
    assert code == 1 and err == ""
    assert f"wrong: line {number + 1} of events.jsonl is corrupt and was skipped; --repair would " in out
    assert (folder / store.LOG).read_bytes() == damaged
    code, out, err = bench.call("check", "c", "--repair")
    assert code == 0, out + err
    assert "Nothing is wrong with campaign c." in out and "before-repair-1" in out
    assert (folder / "before-repair-1" / store.LOG).read_bytes() == damaged
    for command in ("status", "explain", "resume"):
        code, out, err = bench.call(command, "c")
        assert (
            f"damage was taken out of the log, which lies in before-repair-1 as it was: line {number + 1}" in out + err
        )
    check_mended(bench, folder, before)


@pytest.mark.parametrize("left", [3, 6, 10])
def test_a_log_from_a_backup(bench, folder, left):
    """It is older than the folders: their runs are logged again."""
    before = results(store.load(folder)[0])
    write(folder, lines_of(folder)[:left])
    assert any(kind == "lost" for kind, _ in found_in(folder))
    repair(folder)
    check_mended(bench, folder, before)


def test_a_missing_line(bench, folder):
    before = results(store.load(folder)[0])
    lines = lines_of(folder)
    del lines[index_of(folder, "ended", "t03")]
    write(folder, lines)
    assert [kind for kind, _ in found_in(folder)][:1] == ["log"]
    repair(folder)
    check_mended(bench, folder, before)


def change(folder, kind, trial, changes):
    """Gives an event of the log other fields, with a right checksum."""
    records = list(eventlog.read(folder / store.LOG).events)
    number = index_of(folder, kind, trial)
    records[number] = {**records[number], **changes}
    write(folder, map(eventlog.line, records))


@pytest.mark.parametrize(
    "changes", [{"metrics": {"bbox/AP": "x"}}, {"metrics": 3}, {"trial": ["t02"]}, {"attempt": "x"}]
)
def test_a_line_of_wrong_content(bench, folder, changes):
    before = results(store.load(folder)[0])
    change(folder, "ended", "t02", changes)
    code, out, err = bench.call("status", "c")
    assert code == 2 and err.count("\n") == 1 and "maskrcnn-bisect check c" in err
    repair(folder)
    check_mended(bench, folder, before)


@pytest.mark.parametrize(
    "changes", [{"flags": "x"}, {"flags": [3]}, {"trial": "../../x"}, {"seed": ["x"]}, {"attempt": 0}]
)
def test_a_start_of_wrong_content(bench, folder, changes):
    """Its run is logged again from what its folder says."""
    before = results(store.load(folder)[0])
    change(folder, "started", "t04", changes)
    assert {kind for kind, _ in found_in(folder)} >= {"log", "lost"}
    repair(folder)
    check_mended(bench, folder, before)


def test_a_result_that_is_another(bench, folder):
    edit(folder / "trials" / "t03" / "out" / "result.json", metrics={"bbox/AP": 0.5, "segm/AP": 0.5})
    (folder / "trials" / "t02" / "out" / "result.json").unlink()
    found = found_in(folder)
    assert [kind for kind, _ in found] == ["result", "result"]
    assert found[0][1] == "t02 has a result by the log, and none in its folder"
    assert found[1][1].startswith("t03 came to bbox 0.") and found[1][1].endswith("bbox 0.5 segm 0.5 by its folder")
    log = (folder / store.LOG).read_bytes()
    code, out, _ = bench.call("check", "c", "--repair")
    assert code == 1 and out.count("wrong: ") == 2
    assert (folder / store.LOG).read_bytes() == log


def test_a_result_of_other_code(folder):
    edit(folder / "trials" / "t03" / "out" / "result.json", key={"code": "2"})
    assert found_in(folder) == [("result", "t03 was computed with another code by its folder than by the log")]


def test_a_foreign_folder(bench, folder):
    shutil.rmtree(folder / "trials" / "t03")
    shutil.copytree(folder / "trials" / "t02", folder / "trials" / "t03")
    ((kind, what),) = found_in(folder)
    assert kind == "foreign" and what.startswith("the folder of t03 is not its own: ")
    repair(folder)
    assert (folder / "trials" / "t03.other-1" / "out" / "result.json").exists()
    assert found_in(folder) == [("missing", "the folder of t03 is missing")]
    assert bench.call("check", "c")[0] == 1


def test_strays_and_leftovers(bench, folder):
    before = results(store.load(folder)[0])
    bench.status()
    for path in (
        "stop.new",
        "events.jsonl.mended",
        "trials/t01/attempt-1/exit.json.new",
        "trials/t77/out/x",
        "trials/y/z",
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("here")
    kept = folder / "kept.jsonl"
    shutil.copy(kept, bench.folder / "kept")
    write(folder, lines_of(folder)[:-1])
    shutil.copy(bench.folder / "kept", kept)
    kinds = sorted(kind for kind, _ in found_in(folder))
    assert kinds == ["leftover"] * 4 + ["stray"] * 2
    done, backup = repair(folder)
    assert len(done) == 6 and backup == folder / "before-repair-1"
    assert (backup / "trials" / "t01" / "attempt-1" / "exit.json.new").read_text() == "here"
    assert (folder / "trials" / "t77.other-1" / "out" / "x").read_text() == "here"
    check_mended(bench, folder, before)


def test_what_may_still_run_is_left_where_it_is(folder):
    shutil.copytree(folder / "trials" / "t02", folder / "trials" / "t55")
    (folder / "trials" / "t55" / "attempt-1" / "exit.json").unlink()
    assert found_in(folder) == [("stray", "trials/t55 is of a run which the log does not know")]
    done, backup = repair(folder)
    assert (done, backup) == ([], None) and (folder / "trials" / "t55").is_dir()


def test_what_a_killed_controller_has_left(bench, folder):
    """A lease of a process that is gone, and a run that is under way only by the log."""
    before = results(store.load(folder)[0])
    write(folder, lines_of(folder)[: index_of(folder, "started", "t04") + 1])
    left = {"pid": 2**22 - 1, "host": lease.process.where()["host"], "identity": "gone/1"}
    (folder / "lease.json").write_text(json.dumps(left))
    kinds = [kind for kind, _ in found_in(folder)]
    assert kinds[0] == "ended" and "lease" in kinds
    repair(folder)
    assert store.load(folder)[0].trials["t04"].state == "finished"
    check_mended(bench, folder, before)


def test_a_campaign_that_runs(bench):
    bench.set(**{**TABLE, "seconds": 30})
    running = bench.spawn("start", "--flags", ",".join(BLOCK), "--name", "d", "--slots", "1")
    folder = bench.runs / "d"
    wait_for(lambda: folder.exists() and any(one["kind"] == "started" for one in bench.events("d")))
    code, out, err = bench.call("check", "d")
    assert (code, err) == (0, "") and "Campaign d runs now" in out and "Nothing is wrong" in out
    code, out, err = bench.call("check", "d", "--repair")
    assert code == 2 and out == "" and err.count("\n") == 1 and "is being run by process" in err
    bench.call("stop", "d")
    running.communicate(timeout=300)
    assert found_in(folder) == []


@pytest.fixture
def fresh(tmp_path):
    """A campaign that has finished, where it was begun."""
    bench = Bench(tmp_path, **TABLE)
    assert bench.run().state == "finished"
    return bench


def test_a_lost_first_line(fresh):
    """What is bisected is unknown; the same start again takes over what says what it was computed with."""
    bench, folder = fresh, fresh.runs / "c"
    before = results(store.load(folder)[0])
    write(folder, [])
    assert "settings" in [kind for kind, _ in found_in(folder)]
    code, out, err = bench.call("check", "c", "--repair")
    assert code == 1 and "with --name c" in out
    starts = len(bench.starts())
    state = bench.run()
    assert state.state == "finished" and results(state) == before and len(bench.starts()) == starts
    assert found_in(folder) == []


def test_a_damaged_first_line(fresh):
    bench, folder = fresh, fresh.runs / "c"
    before = results(store.load(folder)[0])
    lines = lines_of(folder)
    write(folder, [lines[0].replace(b'"kind"', b'"kinb"'), *lines[1:]])
    assert {"log", "settings"} <= {kind for kind, _ in found_in(folder)}
    assert bench.run().state == "finished"
    repair(folder)
    check_mended(bench, folder, before)


def test_a_lost_first_line_of_other_runs(bench, folder):
    """They were of another command, so that they count for nothing."""
    write(folder, [])
    with pytest.raises(UserError, match="has lost its settings: see what is left of it with `maskrcnn-bisect check c "):
        bench.run(sets=["steps=7"])
    assert (folder / "trials" / "t01" / "out" / "result.json").exists()


@pytest.mark.parametrize("make", ["mkdir", "unlink", "binary"])
def test_a_log_that_is_none(bench, folder, make):
    path = folder / store.LOG
    path.unlink()
    if make == "mkdir":
        path.mkdir()
    elif make == "binary":
        path.write_bytes(bytes(range(256)) * 100)
    code, out, err = bench.call("check", "c")
    assert code == 1 and err == "" and "wrong: " in out
    code, out, err = bench.call("check", "c", "--repair")
    assert code in (1, 2) and "Traceback" not in err
