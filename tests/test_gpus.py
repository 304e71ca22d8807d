"""Runs on the GPUs of one machine: a nvidia-smi that says what a test wants, real controllers, and a trainer that notes
which GPUs it is given, and takes them.
"""

import json
import os
import signal
import sys

import pytest
from bisecting import TRAINER, Bench, kill, wait_for

from bisect_cli.errors import UserError
from bisect_cli.launchers import Job, gpus, local
from bisect_cli.run import session

IDS = [f"GPU-{letter * 8}-0000-0000-0000-00000000000{n}" for n, letter in enumerate("abcd")]
TAKES = f"""
import fcntl, json, os, sys
from pathlib import Path
home, share = Path(sys.argv[1]).parent, int(os.environ.get("TEST_SHARE", "1"))
given = os.environ.get("CUDA_VISIBLE_DEVICES")
note = dict(what="check" if "--check" in sys.argv else "parity" if sys.argv[2] == "parity" else "run", gpus=given,
            order=os.environ.get("CUDA_DEVICE_ORDER"), threads=os.environ.get("OMP_NUM_THREADS"), clash=[])
for gpu in given.split(",") if given and note["what"] != "check" else ():
    if not gpu.isdigit() and not gpu.startswith(("GPU-", "MIG-")):
        break
    for place in range(share):  # its locks are held until it ends
        file = os.open(home / f"{{gpu}}.{{place}}", os.O_CREAT | os.O_RDWR)
        os.set_inheritable(file, True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            os.close(file)
    else:
        note["clash"].append(gpu)
with open(home / "seen.jsonl", "a") as file:
    file.write(json.dumps(note) + "\\n")
os.execv(sys.executable, [sys.executable, {str(TRAINER)!r}, *sys.argv[1:]])
"""
START = ("start", "--flags", "L2B5", "--name", "c", "--no-parity")
FEW = ("--max-runs", "4")  # runs are enough to see on which GPUs they are


class Machine(Bench):
    """A Bench on a machine with GPUs, as its nvidia-smi says."""

    def __init__(self, folder, **table):
        super().__init__(folder, **table)
        (folder / "takes.py").write_text(TAKES)
        (folder / "bin").mkdir()
        self.has(4)

    def has(self, number):
        """So many GPUs from now on."""
        self.smi("\n".join(f'echo "{n}, {IDS[n]}"' for n in range(number)))

    def smi(self, script):
        program = self.folder / "bin" / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        gpus._ask.cache_clear()

    @property
    def trainer(self):
        return (sys.executable, str(self.folder / "takes.py"), str(self.folder / "table.json"))

    def seen(self, what="run"):
        """What each process of the trainer found: a note of TAKES each."""
        path = self.folder / "seen.jsonl"
        notes = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        assert not any(note["clash"] for note in notes), notes
        return [note for note in notes if note["what"] == what]

    def given(self):
        return {note["gpus"] for note in self.seen()}

    def begin(self, *words):
        code, out, err = self.call(*START, *FEW, *words)
        assert code == 3, err
        return out, err

    def error(self, *words):
        """The one line that a command says before it does anything."""
        code, out, err = self.call(*words)
        assert code == 2 and not out and err.count("\n") == 1, (code, out, err)
        return err.removeprefix("maskrcnn-bisect: ")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    monkeypatch.delenv(gpus.ORDER, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    yield Machine(tmp_path, breaks={"segm": [["ROI_ALIGN_MASK"]]})
    gpus._ask.cache_clear()


def begun(machine, runs, *words):
    """A process of `start`, so many runs of which are under way."""
    controller = machine.spawn(*START, *words)
    wait_for(lambda: len(machine.starts()) == runs or controller.poll() is not None)
    assert controller.poll() is None, controller.communicate()
    return controller


def count(machine, kind, trial=None):
    """How many events of a kind there are, of one trial or of all."""
    return sum(event["kind"] == kind and trial in (None, event["trial"]) for event in machine.events())


def threads(slots):
    return str(max(1, local.cores() // slots))


# --- each run its own


def test_each_slot_has_a_gpu_of_its_own(machine):
    out, _ = machine.begin()
    assert "4 at once" in out and "t01 baseline (all off), seed 0: started in slot 1 on GPU 0" in out
    assert machine.given() == {"0", "1", "2", "3"}
    assert {(note["order"], note["threads"]) for note in machine.seen()} == {("PCI_BUS_ID", threads(4))}
    summary = machine.status()
    assert summary["slots"] == 4 and summary["settings"]["launcher_options"] == {}
    assert [trial["gpus"] for trial in summary["trials"][:4]] == [["0"], ["1"], ["2"], ["3"]]
    assert {note["gpus"] for note in machine.seen("check")} == {None}  # that is made beside the runs


def test_status_shows_which_gpu_a_run_has(machine):
    machine.set(seconds=60)
    controller = begun(machine, 2, "--gpus-per-run", "2")
    trials = machine.status()["trials"]
    assert [trial["gpus"] for trial in trials] == [["0", "1"], ["2", "3"]]
    _, out, _ = machine.call("status", "c")
    assert "running, slot 1, GPUs 0,1" in out and "running, slot 2, GPUs 2,3" in out
    assert machine.call("stop", "c")[0] == 0
    controller.communicate(timeout=60)


@pytest.mark.parametrize(
    "words, given, slots, share",
    [
        (("--gpus-per-run", "2"), {"0,1", "2,3"}, 2, 1),
        (("--gpus", "1,3", "--runs-per-gpu", "2"), {"1", "3"}, 4, 2),
        (("--gpus", f"{IDS[2][:12]},0"), {IDS[2][:12], "0"}, 2, 1),
        (("--gpus", "all", "--slots", "3"), {"0", "1", "2"}, 3, 1),
        (("--gpus", "none", "--slots", "5"), {None}, 5, 1),
        (("--launcher-option", "gpus=3"), {"3"}, 1, 1),
    ],
)
def test_what_the_user_says_of_gpus(machine, monkeypatch, words, given, slots, share):
    monkeypatch.setenv("TEST_SHARE", str(share))
    machine.begin(*words)
    assert machine.given() == given
    assert machine.status()["slots"] == slots
    assert {note["threads"] for note in machine.seen()} == {threads(slots)}


def test_a_table_in_the_trainer_file_says_it_as_well(machine):
    from bisect_cli.trainers import trainerfile

    tables = {
        "trainer": {"command": ["true", "{out}", "{flags}"]},
        "flags": {"a": {}},
        "metrics": {"acc": {"source": "json", "file": "{out}/r.json", "key": "acc", "better": "higher"}},
        "launcher": {"name": "local", "gpus": [0, 2], "runs_per_gpu": 2},
    }
    found = trainerfile.spec_of(tables, machine.folder).options["launcher"]["options"]
    assert found == {"gpus": "0,2", "runs_per_gpu": 2}
    assert local.Local(None, found).slots == 4


def test_the_comparison_before_the_first_run_has_a_gpu_too(machine):
    machine.set(parity={})
    code, _, err = machine.call(*START[:-1], *FEW, "--gpus", "2,3")
    assert code == 3, err
    (note,) = machine.seen("parity")
    assert note["gpus"] == "2"


# --- what there is


@pytest.mark.parametrize(
    "visible, given",
    [("2,0", {"2", "0"}), (f"{IDS[1]},MIG-1234", {IDS[1], "MIG-1234"}), ("3,9,0", {"3"}), ("1, 1", {"1"})],
)
def test_a_list_that_the_user_has_set_already_is_kept_to(machine, monkeypatch, visible, given):
    monkeypatch.setenv(gpus.VISIBLE, visible)
    machine.begin()
    assert machine.given() == given
    assert machine.status()["slots"] == len(given)
    assert {note["order"] for note in machine.seen()} == {None}  # it is for the user to say what an index means


@pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles"])
def test_whoever_hides_all_gpus_gets_none(machine, monkeypatch, visible):
    monkeypatch.setenv(gpus.VISIBLE, visible)
    machine.begin("--slots", "3")
    assert machine.given() == {visible}
    assert machine.status()["trials"][0]["gpus"] == []


def test_a_part_of_the_list_that_the_user_has_set(machine, monkeypatch):
    monkeypatch.setenv(gpus.VISIBLE, f"{IDS[3]},1")
    machine.begin("--gpus", "3")
    assert machine.given() == {IDS[3]}
    assert "--gpus 0: 0 is not among CUDA_VISIBLE_DEVICES=GPU-dddd" in machine.error(*START, "--gpus", "0")


def test_without_nvidia_smi_all_is_as_before(machine, monkeypatch):
    monkeypatch.setenv("PATH", str(machine.folder))
    _, err = machine.begin("--slots", "2")
    assert machine.given() == {None} and "nvidia-smi" not in err
    assert local.Local().slots == min(local.cores(), local.MOST_SLOTS)
    machine.begin("--name", "d", "--gpus", "5,6")  # whoever says it is believed
    assert machine.given() == {None, "5", "6"}
    assert "no GPU here (nvidia-smi is not on the path)" in machine.error(*START, "--name", "e", "--runs-per-gpu", "2")
    assert "--gpus all: none is found here" in machine.error(*START, "--name", "e", "--gpus", "all")


def test_a_nvidia_smi_that_fails_is_said_and_no_obstacle(machine):
    machine.smi("echo 'NVIDIA-SMI has failed because it cannot reach the driver.'; exit 9")
    _, err = machine.begin("--slots", "2")
    assert "note: nvidia-smi fails (NVIDIA-SMI has failed because it cannot reach the driver), so runs are given" in err
    assert machine.given() == {None}
    _, err = machine.begin("--name", "d", "--slots", "2", "--gpus", "none")
    assert "nvidia-smi" not in err


@pytest.mark.parametrize(
    "script, trouble",
    [
        ("sleep 1000", "no answer within 0.3 s"),
        ("trap '' TERM; sleep 1000 & wait", "no answer within 0.3 s"),
        ("exit 6", "exit code 6"),
        ("echo 'No devices were found'", ""),
        ("printf '\\377\\376\\n'", ""),
        ("", ""),
    ],
)
def test_a_nvidia_smi_that_says_nothing(machine, monkeypatch, script, trouble):
    monkeypatch.setattr(gpus, "SECONDS", 0.3)
    machine.smi(script)
    found = local.Local()
    assert found.slots == min(local.cores(), local.MOST_SLOTS) and found.ready
    assert gpus.machine().trouble == trouble and bool(list(found.notes)) == bool(trouble)


# --- one run that takes the whole machine


def sees(machine, launcher):
    """What a run of this launcher finds."""
    folder = machine.folder / f"job{len(list(machine.folder.glob('job*')))}"
    handle = launcher.prepare(Job(["sh", "-c", 'echo "${CUDA_VISIBLE_DEVICES-all}"'], str(machine.folder), folder))
    handle.go()
    wait_for(lambda: handle.poll())
    return (folder / "stdout.txt").read_text().strip()


@pytest.mark.parametrize(
    "slots, options, at_once, given",
    [
        (None, {}, 1, "all"),  # it may span other machines, whose GPUs have other names
        (None, {"gpus": "0,1,2"}, 1, "0,1,2"),
        (None, {"gpus_per_run": 2}, 2, "0,1"),
        (2, {}, 2, "0,1"),
        (None, {"runs_per_gpu": 2}, 2, "0,1,2,3"),
    ],
)
def test_a_run_of_several_processes_has_all_gpus(machine, slots, options, at_once, given):
    launcher = local.Local(slots, options, True)
    launcher.check()
    assert launcher.slots == at_once and sees(machine, launcher) == given


# --- what is wrong


@pytest.mark.parametrize(
    "words, said",
    [
        (("--gpus", "0,9"), "--gpus 0,9: there is no GPU 9 here; nvidia-smi shows 4 GPUs (0,1,2,3)."),
        (("--gpus", "GPU-123"), "--gpus GPU-123: there is no GPU GPU-123 here; nvidia-smi shows 4 GPUs (0,1,2,3)."),
        (("--gpus", "1,01"), "--gpus 1,01: a GPU is there twice; to have several runs on one, add --runs-per-gpu 2."),
        (("--gpus", f"0,{IDS[0]}"), f"--gpus 0,{IDS[0]}: a GPU is there twice;"),
        (("--gpus", "0;1"), "--gpus 0;1: write a list of GPUs as nvidia-smi counts them, as 0,1, or all, or none."),
        (("--gpus", ""), "--gpus : write a list of GPUs"),
        (("--gpus-per-run", "8"), "--gpus-per-run 8: there are no more than 4 GPUs (0,1,2,3); give fewer."),
        (("--gpus", "0", "--gpus-per-run", "2"), "--gpus-per-run 2: there are no more than 1 GPU (0); give fewer."),
        (("--gpus-per-run", "2", "--runs-per-gpu", "2"), "a run has either several GPUs or a part of one;"),
        (("--gpus-per-run", "0"), "--gpus-per-run: '0' is not right: write a whole number above 0"),
        (("--runs-per-gpu", "x"), "--runs-per-gpu: 'x' is not right: write a whole number above 0"),
        (
            ("--slots", "8"),
            "--slots 8: 4 GPUs (0,1,2,3) take 4 at once; to have runs share a GPU, add --runs-per-gpu 2,",
        ),
        (("--slots", "3", "--gpus-per-run", "2"), "with 2 GPUs a run, 4 GPUs (0,1,2,3) take 2 at once; give fewer"),
        (("--gpus", "none", "--gpus-per-run", "2"), "--gpus-per-run 2: runs are given no GPU here (--gpus none);"),
        (("--launcher", "manual", "--gpus", "0"), "--gpus: launcher manual has no options."),
        (("--launcher", "slurm", "--runs-per-gpu", "2"), "--runs-per-gpu: unknown option of launcher slurm"),
        (("--dry-run", "--slots", "8"), "--slots 8: 4 GPUs (0,1,2,3) take 4 at once;"),
    ],
)
def test_mistakes_are_said_in_a_line(machine, words, said):
    assert said in machine.error(*START, *words)
    assert not machine.runs.exists() and not machine.seen()


def test_gpus_of_another_launcher_are_its_own(machine):
    from bisect_cli.cli.options import launcher_said

    nothing = {"launcher": "slurm", "launcher_options": ("gpus=1",), "gpus_per_run": None, "runs_per_gpu": None}
    assert launcher_said({**nothing, "gpus": "a100:4"}) == ("slurm", {"gpus": "a100:4"})


# --- held by runs that live on


def test_a_controller_that_takes_over_gives_no_held_gpu_away(machine):
    machine.set(seconds=60)
    kill(begun(machine, 4))
    machine.set(seconds=0.05)
    second = machine.spawn("resume", "c", "--gpus-per-run", "2")
    wait_for(lambda: count(machine, "reattached") == 4 or second.poll() is not None)
    assert second.poll() is None, second.communicate()
    for event in [event for event in machine.events() if event["kind"] == "started"][:4]:
        os.kill(event["ticket"]["pid"], signal.SIGTERM)  # one by one they save and end, and their GPUs are free
        wait_for(lambda trial=event["trial"]: count(machine, "ended", trial) or second.poll() is not None)
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    assert "runs are now started by launcher local, with gpus_per_run 2" in out
    assert "still running in slot 4 on GPU 3, taken over" in out
    assert {note["gpus"] for note in machine.seen()[4:]} <= {"0,1", "0,2", "1,2", "2,3"}  # `seen` looks for clashes


def test_gpus_are_held_by_whatever_name(machine, monkeypatch):
    machine.set(seconds=60)
    kill(begun(machine, 2, "--gpus", "0,1"))
    monkeypatch.setenv(gpus.VISIBLE, f"{IDS[1]},{IDS[2]}")
    assert "--gpus 0,1: 0 is not among CUDA_VISIBLE_DEVICES" in machine.error("resume", "c")
    state = session.store.load(machine.runs / "c")[0]
    launcher = local.Local(2, {})
    launcher.open(machine.runs / "c", "", [trial.ticket for trial in state.running])
    assert sees(machine, launcher) == IDS[2]
    held = launcher.prepare(Job(["sleep", "100"], str(machine.folder), machine.folder / "held"))
    assert held.ticket["gpus"] == [IDS[2]] and not launcher.ready
    homes = {trial.id: session.store.trial_folder(machine.runs / "c", trial.id) for trial in state.running}
    handles = [launcher.reattach(trial.ticket, homes[trial.id] / "attempt-1") for trial in state.running]
    assert not launcher.ready
    held.kill()
    wait_for(held.poll)
    assert launcher.ready
    for handle in handles:
        handle.kill()
        wait_for(handle.poll)


def test_stopping_needs_no_gpu(machine):
    machine.set(seconds=60)
    kill(begun(machine, 2, "--gpus", "2,3"))
    machine.has(1)
    assert "there is no GPU 2 here" in machine.error("resume", "c")
    code, _, err = machine.call("stop", "c")
    assert code == 0 and not session.store.load(machine.runs / "c")[0].running, err


# --- options of a campaign that is there


def changes(machine):
    return [(e["launcher"], e["options"]) for e in machine.events() if e["kind"] == "launcher_changed"]


def test_options_said_later_replace_those_that_are_kept(machine):
    assert machine.call(*START, "--gpus", "0,1", "--max-runs", "2")[0] == 3
    code, out, err = machine.call("resume", "c", "--gpus", "2", "--max-runs", "4")
    assert code == 3, err
    assert "runs are now started by launcher local, with gpus 2" in out
    given = [note["gpus"] for note in machine.seen()]
    assert sorted(given[:2]) == ["0", "1"] and given[2:] == ["2", "2"]
    machine.call("resume", "c", *FEW)
    assert changes(machine) == [("local", {"gpus": "2"})]  # nothing said, nothing changed
    machine.begin("--launcher-option", "runs_per_gpu=1")
    assert changes(machine)[1:] == [("local", {"gpus": "2", "runs_per_gpu": 1})]
    assert machine.given() == {"0", "1", "2"}
    assert machine.status()["settings"]["launcher_options"] == {"gpus": "2", "runs_per_gpu": 1}


def test_another_launcher_only_while_nothing_runs(machine):
    machine.set(seconds=60)
    kill(begun(machine, 4))
    said = "--launcher manual: campaign 'c' has runs under way that only launcher local can find (t01 t02 t03 t04);"
    for words in (("resume", "c"), START):
        error = machine.error(*words, "--launcher", "manual")
        assert said in error and "stop it first, with `maskrcnn-bisect stop c`" in error
    assert machine.call("stop", "c")[0] == 0
    code, out, err = machine.call("resume", "c", "--launcher", "manual")
    assert code == 0 and "runs are now started by launcher manual" in out, err
    assert machine.call("ask", "c")[0] == 0
    assert "you start the runs of campaign 'c' yourself" in machine.error("resume", "c")
    error = machine.error("resume", "c", "--launcher", "local", "--gpus", "1")
    assert "only launcher manual can find (t01); say how they ended, with `maskrcnn-bisect tell c`" in error
    machine.call("tell", "c", "t01", "--crashed", "lost")
    machine.set(seconds=0.05, breaks={"segm": [["ROI_ALIGN_MASK"]]})
    code, _, err = machine.call("resume", "c", "--launcher", "local", "--gpus", "1")
    assert code == 0, err
    assert changes(machine) == [("manual", {}), ("local", {"gpus": "1"})]
    assert {note["gpus"] for note in machine.seen()[4:]} == {"1"}


def test_where_runs_are_made_makes_no_other_question(machine):
    import dataclasses

    settings = machine.settings()
    there = dataclasses.replace(settings, launcher="slurm", launcher_options={"gpus": "4"})
    assert settings == there and settings.differences(there) == []
    assert session.launcher_changes(session.State(settings), settings, machine.folder) == []
    with pytest.raises(UserError, match="unknown launcher"):
        session.launcher_of(dataclasses.replace(settings, launcher="cloud"))
