"""Campaigns that are copied, moved, renamed or resumed from elsewhere: all of one stays in its own folder."""

import json
import shutil
import signal

import pytest
from bisecting import BLOCK, Bench, results, wait_for

from bisect_cli.cli import main
from bisect_cli.launchers.process import identity
from bisect_cli.storage import store

FAULT = {"segm": [["ROI_ALIGN_MASK"]]}
TABLE = {"breaks": FAULT, "seconds": 0.0, "parity": {"ROI_ALIGN_MASK": {"agrees": False, "error": 0.3}}}
TRAIN = """
import json, sys
from pathlib import Path
out, seed, flags = sys.argv[1:]
score = 1.0 - 0.4 * ("b" in flags.split(",")) + 0.001 * int(seed)
Path(out, "result.json").write_text(json.dumps({"score": score}))
"""


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, **TABLE)


def contents(folder):
    """{path: bytes} of all files in a folder, but for what any look at it may write."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != "kept.jsonl"}


def begin(bench, *more):
    """A campaign "c" that has spent its budget, which is one run."""
    code, _, err = bench.call("start", "--flags", ",".join(BLOCK[:2]), "--name", "c", "--max-runs", "1", *more)
    assert code == 3, err


def begin_command(bench):
    """The same of a command."""
    (bench.folder / "train.py").write_text(TRAIN)
    metric = "--metric", "score:higher", "--flags", "a,b"
    command = "python", "train.py", "{out}", "{seed}", "{flags}"
    code, _, err = bench.call("start", *metric, "--name", "c", "--max-runs", "1", "--", *command)
    assert code == 3, err


def resume(bench, name, *more, cwd=None):
    code, out, err = bench.call("resume", name, "--max-runs", "30", *more, cwd=cwd)
    assert code == 0, out + err
    return out


BEGIN = pytest.mark.parametrize("start", [begin, begin_command])


@BEGIN
def test_a_copy_is_a_campaign_of_its_own(bench, start):
    start(bench)
    shutil.copytree(bench.runs / "c", bench.folder / "elsewhere" / "c")
    before = contents(bench.runs / "c")
    resume(bench, "c", "--runs-dir", "elsewhere")
    assert contents(bench.runs / "c") == before
    assert not (bench.runs / "c" / "trials" / "t04").exists()
    assert (bench.folder / "elsewhere" / "c" / "trials" / "t04" / "out").is_dir()


def test_parity_of_a_copy_stays_in_the_copy(bench):
    begin(bench)
    shutil.copytree(bench.runs / "c", bench.folder / "elsewhere" / "runs" / "c")
    before = contents(bench.runs / "c")
    resume(bench, "c", "--add-flags", BLOCK[2], cwd=bench.folder / "elsewhere")
    assert contents(bench.runs / "c") == before
    copy = bench.folder / "elsewhere" / "runs" / "c"
    said = json.loads((copy / "parity" / "result.json").read_text())
    assert [piece["flag"] for piece in said["pieces"]] == list(BLOCK)
    assert store.load(copy)[0].parity["reason"] == ""


@BEGIN
def test_resumed_from_another_folder(bench, start):
    start(bench)
    (bench.folder / "sub").mkdir()
    resume(bench, "c", "--runs-dir", "../runs", cwd=bench.folder / "sub")
    assert list((bench.folder / "sub").iterdir()) == []
    assert sorted(path.name for path in bench.folder.iterdir() if path.is_dir()) == ["runs", "sub"]


@BEGIN
def test_moved_to_another_runs_folder(bench, start):
    start(bench)
    shutil.move(bench.runs, bench.folder / "archive")
    begun = len(bench.starts())
    resume(bench, "c", "--runs-dir", "archive")
    assert not bench.runs.exists()
    assert not begun or len(set(bench.starts())) == len(bench.starts()) > begun
    state, notes = store.load(bench.folder / "archive" / "c")
    assert state.state == "finished" and notes == ()


def test_a_renamed_campaign_goes_by_the_name_of_its_folder(bench):
    begin(bench)
    bench.status()  # keeps what is found
    (bench.runs / "c").rename(bench.runs / "d")
    assert "c " not in bench.call("list")[1] and bench.call("list")[1].startswith("d ")
    summary = bench.status("d")
    assert summary["name"] == summary["settings"]["name"] == "d" and summary["resume"] == "maskrcnn-bisect resume d"
    assert "campaign c" not in bench.call("status", "d")[1]
    assert "trial of campaign 'd'" in bench.call("explain", "d", "t99")[2]
    out = resume(bench, "d")
    assert "campaign d: " in out and "campaign c" not in out
    assert not (bench.runs / "c").exists()
    finished = bench.call("list")[1]
    (bench.runs / "d").rename(bench.runs / "e")
    assert bench.call("list")[1] == "e" + finished[1:]


def test_a_renamed_campaign_is_started_again_by_its_new_name(bench):
    begin(bench)
    (bench.runs / "c").rename(bench.runs / "d")
    code, out, err = bench.call("start", "--flags", ",".join(BLOCK[:2]), "--name", "d", "--max-runs", "30")
    assert code == 0, err
    assert len(set(bench.starts())) == len(bench.starts())


def test_a_runs_folder_that_is_a_link(bench):
    (bench.folder / "disk").mkdir()
    bench.runs.symlink_to(bench.folder / "disk")
    begin(bench)
    resume(bench, "c")
    assert bench.runs.is_symlink()
    assert sorted(path.name for path in (bench.folder / "disk").iterdir() if path.name != "data") == ["c"]


def test_two_copies_share_nothing(bench):
    """Resumed side by side."""
    begin(bench)
    for name in ("a", "b"):
        shutil.copytree(bench.runs / "c", bench.runs / name)
    spawned = [bench.spawn("resume", name, "--max-runs", "30") for name in ("a", "b")]
    for process in spawned:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
    assert not any(line.startswith("TWICE") for line in bench.starts())
    first, second = (results(store.load(bench.runs / name)[0]) for name in ("a", "b"))
    assert all(second[run] == metrics for run, metrics in first.items() if run in second)


def test_a_command_whose_folder_is_gone(bench, tmp_path_factory, monkeypatch, capsys):
    begin_command(bench)
    place = tmp_path_factory.mktemp("moved")
    for name in ("runs", "train.py"):
        shutil.move(bench.folder / name, place / name)
    shutil.move(bench.folder, bench.folder.with_name("gone"))
    monkeypatch.chdir(place)
    for words in (["status", "c"], ["list"], ["explain", "c"], ["logs", "t01", "--name", "c"], ["nodes", "c"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0 and not capsys.readouterr().err
    code, _, err = bench.call("resume", "c", cwd=place)
    assert code == 2 and err.count("\n") == 1
    assert f"the folder {bench.folder}, where runs are started, is not there" in err and "--from c" in err
    command = "python", "train.py", "{out}", "{seed}", "{flags}"
    code, out, err = bench.call(
        *("start", "--metric", "score:higher", "--flags", "a,b", "--name", "d", "--from", "c", "--", *command),
        cwd=place,
    )
    assert code == 0, err


@pytest.mark.parametrize("words", [("stop",), ("resume", "--max-runs", "1")])
def test_a_copy_leaves_the_runs_of_the_original_alone(bench, words):
    """They go on while nobody runs either."""
    bench.set(**{**TABLE, "seconds": 120.0})
    process = bench.spawn("start", "--flags", ",".join(BLOCK), "--name", "c", "--slots", "1", "--detach")
    home = bench.runs / "c" / "trials" / "t01"
    wait_for(lambda: (home / "out" / "state.json").exists())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    ticket = store.load(bench.runs / "c")[0].trials["t01"].ticket
    shutil.copytree(bench.runs / "c", bench.runs / "d")
    bench.set(**TABLE)
    command, *more = words
    bench.call(command, "d", *more)
    assert identity(ticket["pid"]) == ticket["identity"]
    assert not any(event["kind"] == "reattached" for event in bench.events("d"))
    assert bench.call("stop", "c")[0] == 0
    assert any(event["kind"] == "reattached" for event in bench.events("c"))
    assert bench.outcomes("c") == ["stopped"] and identity(ticket["pid"]) is None
