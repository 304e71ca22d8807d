"""What a folder says that others have made, copied or changed is data: nothing of it is executed before the user has
seen it, and none of it leads out of the folder.
"""

import json
import os
import pty
import shutil
import signal
import stat
import subprocess
import sys

import pytest
from bisecting import BLOCK, COMMAND, Bench, kill, rewrite, wait_for

from bisect_cli.storage import ownership, store

START = ("start", "--flags", "L2B5", "--name", "c", "--slots", "2", "--no-parity")
FEW = ("--max-runs", "2")
ASKED = "campaign 'c' was not begun here by you, or what it executes was changed since"


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Bench(tmp_path, breaks={"segm": [["ROI_ALIGN_MASK"]]})


@pytest.fixture
def begun(bench):
    """With a campaign `c` that has runs left to make."""
    code, _, err = bench.call(*START, *FEW)
    assert code == 3, err
    return bench


def refused(bench, *words):
    """The error output of a command that executes nothing, and leaves the campaign as it is."""
    before, starts = (bench.runs / "c" / store.LOG).read_bytes(), bench.starts()
    code, out, err = bench.call(*words)
    assert code == 2 and not out, (out, err)
    assert (bench.runs / "c" / store.LOG).read_bytes() == before and bench.starts() == starts
    return err


def with_trainer(bench, tmp_path):
    """Has the campaign's trainer, were it run at all, leave a trace; returns where."""
    trace = tmp_path / "trace"

    def change(record):
        if record["kind"] != "created":
            return record
        options = {**record["spec"]["options"], "trainer": ["sh", "-c", f"echo $0 $@ >> {trace}; exit 2"]}
        return {**record, "spec": {**record["spec"], "options": options}}

    rewrite(bench.runs / "c", change)
    return trace


def test_ones_own_campaign_is_not_asked_about(begun):
    assert begun.call("resume", "c", "--max-runs", "3")[0] == 3
    assert begun.call("resume", "c", "--max-runs", "4", "--add-flags", "RPN_LOSS", "--gpus", "none")[0] == 3
    assert begun.call("resume", "c", "--max-runs", "5")[0] == 3
    shutil.copytree(begun.runs / "c", begun.runs / "d")
    (begun.runs / "c").rename(begun.runs / "e")
    for name in "de":
        code, _, err = begun.call("resume", name, "--max-runs", "6")
        assert code == 3, err


def test_a_campaign_of_somebody_else_is_shown_and_asked_about(begun, monkeypatch):
    mine = os.environ["XDG_STATE_HOME"]
    monkeypatch.setenv("XDG_STATE_HOME", f"{mine}-of-another")
    for words in (("resume", "c"), START):
        err = refused(begun, *words)
        *shown, last = err.splitlines()
        assert last == f"maskrcnn-bisect: {ASKED}: read what that is, above, then say --yes if it may run."
        (run,) = (line for line in shown if line.startswith("  a run, with all flags on, in "))
        assert f"{begun.folder}: {' '.join(begun.trainer)} --flags {','.join(BLOCK)} --seed 0" in run
        assert any(line.startswith("  a check of its arguments, in ") and line.endswith(" --check") for line in shown)
        assert any("parity" in line for line in shown) and "  started by: local" in shown
    assert begun.call("resume", "c", "--yes", "--max-runs", "3")[0] == 3
    assert begun.call("resume", "c", "--max-runs", "4")[0] == 3  # seen once
    monkeypatch.setenv("XDG_STATE_HOME", mine)
    assert begun.call("resume", "c", "--max-runs", "5")[0] == 3  # and still the other's, too


def test_another_command_in_the_log_is_asked_about(begun, tmp_path):
    trace = with_trainer(begun, tmp_path)
    err = refused(begun, "resume", "c")
    assert f"echo $0 $@ >> {trace}" in err and not trace.exists()
    code, _, err = begun.call("resume", "c", "--yes")
    assert code == 2 and "--check" in trace.read_text()  # it was run, now that it may be


@pytest.mark.parametrize(
    "more",
    [
        {"kind": "launcher_changed", "launcher": "ray", "options": {"address": "http://evil.example", "gpus": 1.0}},
        {"kind": "flags_added", "flags": [*BLOCK, "-c import\x1b]52;c;eHg=\x07"], "seeds": 3},
    ],
    ids=lambda more: more["kind"],
)
def test_whatever_else_decides_what_is_executed_is_asked_about(begun, more):
    log = store.eventlog.Writer(begun.runs / "c" / store.LOG)
    log.append({"time": 1.0, **more})
    log.close()
    err = refused(begun, "resume", "c")
    assert ASKED in err and "\x1b" not in err
    assert ("started by: ray address=http://evil.example gpus=1.0" if "launcher" in more else "\\x1b]52") in err


def test_flags_and_seeds_that_no_run_of_it_has_are_asked_about(begun):
    log = store.eventlog.Writer(begun.runs / "c" / store.LOG)
    run = {"kind": "started", "time": 1.0, "trial": "t77", "flags": ["--load=evil"], "seed": 0, "attempt": 1}
    log.append({**run, "ticket": {}})
    log.close()
    err = refused(begun, "resume", "c")
    assert "t77 has flags or a seed that are none of this campaign's" in err or "t77" in err


def test_what_was_left_running_is_stopped_only_after_asking(begun, monkeypatch):
    begun.set(seconds=60)
    controller = begun.spawn("resume", "c", "--max-runs", "4")
    wait_for(lambda: len(begun.starts()) == 4 or controller.poll() is not None)
    assert controller.poll() is None, controller.communicate()
    kill(controller)
    monkeypatch.setenv("XDG_STATE_HOME", f"{os.environ['XDG_STATE_HOME']}-of-another")
    assert ASKED in refused(begun, "stop", "c")
    assert begun.call("stop", "c", "--yes")[0] == 0
    assert begun.call("stop", "c")[0] == 0  # nothing runs, so there is nothing to ask


def test_asking_for_runs_and_telling_their_ends(bench, monkeypatch):
    assert bench.call(*START, "--launcher", "manual")[0] == 0
    assert "t01" in bench.call("ask", "c")[1]
    monkeypatch.setenv("XDG_STATE_HOME", f"{os.environ['XDG_STATE_HOME']}-of-another")
    told = ("tell", "c", "t01", "bbox=.7", "segm=.7")
    for words in (("ask", "c"), told):
        assert ASKED in refused(bench, *words)
    assert bench.call(*told, "--yes")[0] == 0
    assert "t02" in bench.call("ask", "c")[1]


def test_to_look_at_it_nobody_is_asked(begun, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", f"{os.environ['XDG_STATE_HOME']}-of-another")
    for words in (("status", "c"), ("list",), ("explain", "c"), ("logs", "t01", "--name", "c"), ("nodes", "c")):
        code, _, err = begun.call(*words)
        assert code == 0 and "--yes" not in err, err


@pytest.mark.parametrize("answer", ["y", "n"])
def test_on_a_terminal_it_asks(begun, answer):
    (begun.runs / "c" / ownership.FILE).unlink()
    terminal, own = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, json.dumps(begun.trainer), "resume", "c", "--max-runs", "3"],
        cwd=begun.folder,
        stdin=own,
        stdout=subprocess.PIPE,
        stderr=own,
        start_new_session=True,
    )
    os.close(own)
    os.write(terminal, answer.encode() + b"\n")
    said = b""
    while process.poll() is None or not said:
        try:
            said += os.read(terminal, 4096)
        except OSError:  # nobody has the other end any more
            break
    process.communicate()
    os.close(terminal)
    text = " ".join(said.decode().split())
    assert f"{ASKED}. Run it? [y/N]" in text
    assert process.returncode == (3 if answer == "y" else 2) and ("nothing was run." in text) == (answer == "n")
    assert len(begun.starts()) == (3 if answer == "y" else 2)


# --- the key


def test_a_home_that_cannot_be_written_is_said_once(bench, monkeypatch):
    (bench.folder / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(bench.folder / "file"))
    code, _, err = bench.call(*START, *FEW)
    assert code == 3 and err.count("your home folder cannot keep a key (Not a directory)") == 1
    assert ASKED in refused(bench, "resume", "c")
    code, _, err = bench.call("resume", "c", "--yes", "--max-runs", "3")
    assert code == 3 and err.count("cannot keep a key") == 1


def test_the_key_is_its_users_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    settings = Bench(tmp_path).settings()
    ownership.sign(tmp_path, settings)
    path = tmp_path / ownership.PLACE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and os.listdir(path.parent) == [path.name]
    assert ownership.is_own(tmp_path, settings)
    path.chmod(0o644)  # anybody may have read it
    assert not ownership.is_own(tmp_path, settings) and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_processes_that_make_the_key_at_once_have_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    program = "from bisect_cli.storage import ownership; print(ownership._key())"
    several = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(8)]
    assert len({process.communicate()[0] for process in several}) == 1


@pytest.mark.parametrize(
    "text", ["", "[]", '{"signatures": 1}', '{"signatures": [1, null, "\\u00e4", "0"]}', "[" * 10**5]
)
def test_signatures_of_any_content_are_none(begun, text):
    (begun.runs / "c" / ownership.FILE).write_text(text)
    assert ASKED in refused(begun, "resume", "c")


# --- out of the folder


@pytest.mark.parametrize("name", ["../../x", "/x", "a/b", "..", ".", "", "t\0", "t\n1", "x" * 300])
def test_no_trial_leads_out_of_its_campaign(begun, name):
    """It is one that was interrupted, so that `resume` goes on with it."""

    def change(record):
        if record.get("trial") != "t01":
            return record
        return {**record, "trial": name} if record["kind"] == "started" else None

    rewrite(begun.runs / "c", change)
    before = sorted(map(str, begun.folder.rglob("*")))
    for words in (
        ("status", "c"),
        ("resume", "c", "--max-runs", "9"),
        ("stop", "c"),
        ("explain", "c"),
        ("logs", name.replace("\0", "")),
    ):
        code, _, err = begun.call(*words)
        assert "Traceback" not in err and (code == 0 or (code, err.count("\n")) == (2, 1)), (words, code, err)
    made = [path for path in map(str, begun.folder.rglob("*")) if path not in before]
    assert all(path.startswith(str(begun.runs / "c")) for path in made), made
    with pytest.raises(store.UserError, match="which no trial is"):
        store.trial_folder(begun.runs / "c", name)


def test_no_trial_of_another_campaign_leads_out_of_it(bench):
    bench.set(breaks={"segm": [["ROI_ALIGN_MASK"]]}, key={"code": "1", "flags": {}})
    assert bench.call(*START)[0] == 0
    secret = bench.folder / "secret" / "out" / "metrics.jsonl"
    secret.parent.mkdir(parents=True)
    secret.write_text("secret")
    change = {"t01": "../../../secret"}
    rewrite(bench.runs / "c", lambda record: {**record, "trial": change.get(record.get("trial"), record.get("trial"))})
    code, _, err = bench.call("start", "--flags", "L2B5", "--name", "d", "--from", "c", "--no-parity")
    assert (code, err.count("\n")) in ((0, 0), (2, 1)), err
    assert not any(path.read_text() == "secret" for path in bench.runs.glob("d/**/metrics.jsonl"))


def test_a_request_to_stop_is_not_written_through_a_link(begun):
    """The lease is made up: of a process elsewhere, which is asked by the file."""
    mine = begun.folder / "mine.txt"
    mine.write_text("precious")
    for name in (f"{store.STOP}.new", store.STOP):
        (begun.runs / "c" / name).symlink_to(mine)
    held = {"pid": 1, "host": "elsewhere", "identity": "x", "token": "rm -rf"}
    (begun.runs / "c" / "lease.json").write_text(json.dumps(held))
    asked = begun.spawn("stop", "c")
    wait_for(lambda: (begun.runs / "c" / store.STOP).is_file() and not (begun.runs / "c" / store.STOP).is_symlink())
    (begun.runs / "c" / "lease.json").write_text("")
    assert "Stopped." in asked.communicate()[0]
    assert mine.read_text() == "precious" and (begun.runs / "c" / store.STOP).read_text() == ""


@pytest.mark.parametrize("kind", ["file", "folder", "trial"])
def test_a_link_in_another_campaign_is_not_followed_out_of_it(bench, kind):
    bench.set(breaks={"segm": [["ROI_ALIGN_MASK"]]}, key={"code": "1", "flags": {}})
    assert bench.call(*START)[0] == 0
    home = store.trial_folder(bench.runs / "c", "t01")
    secret = bench.folder / "secret"
    moved = {"file": home / "out" / "metrics.jsonl", "folder": home / "out", "trial": home}[kind]
    moved.rename(secret)
    moved.symlink_to(secret)
    code, _, err = bench.call("start", "--flags", "L2B5", "--name", "d", "--from", "c", "--no-parity")
    assert code == 2 and "leads out of that campaign by a link" in err and err.count("\n") == 1
    assert not list(bench.runs.glob("d/trials/*/out/metrics.jsonl"))


def test_a_link_within_the_other_campaign_is_followed(bench):
    bench.set(breaks={"segm": [["ROI_ALIGN_MASK"]]}, key={"code": "1", "flags": {}})
    assert bench.call(*START)[0] == 0
    out = store.trial_folder(bench.runs / "c", "t01") / "out"
    (out / "metrics.jsonl").rename(out / "kept.jsonl")
    (out / "metrics.jsonl").symlink_to("kept.jsonl")
    assert bench.call("start", "--flags", "L2B5", "--name", "d", "--from", "c", "--no-parity")[0] == 0
    copy = store.trial_folder(bench.runs / "d", "t01") / "out" / "metrics.jsonl"
    assert copy.is_file() and not copy.is_symlink()


def test_a_command_beside_the_loop_ends_with_what_it_has_started(bench):
    """The interrupt of `start` while the trainer checks its arguments."""
    bench.set(check=60)
    controller = bench.spawn(*START)
    wait_for(lambda: "--check" in subprocess.run(["ps", "axww"], stdout=subprocess.PIPE, text=True).stdout)
    controller.send_signal(signal.SIGINT)
    controller.communicate()
    assert (
        str(bench.folder / "table.json") not in subprocess.run(["ps", "axww"], stdout=subprocess.PIPE, text=True).stdout
    )
