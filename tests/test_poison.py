"""What runs leave behind may be anything: a file that never ends, numbers that are none, brackets without end. It is
read without a traceback and without waiting, and is never taken for a result.
"""

import json
import math
import os
import random
import resource
import signal
import socket
import sys
from pathlib import Path

import pytest
from bisecting import BLOCK, Bench

from bisect_cli import launchers
from bisect_cli.analysis import analyse
from bisect_cli.campaign.settings import Settings
from bisect_cli.campaign.spec import Flag, Metric, Spec
from bisect_cli.campaign.state import ATTEMPTS
from bisect_cli.errors import UserError
from bisect_cli.launchers import Job, slurm_job
from bisect_cli.report.summary import summarize_folder
from bisect_cli.storage import store, untrusted
from bisect_cli.trainers import check, parity, readers, runfiles
from bisect_cli.trainers.command import TRAINER as COMMAND
from bisect_cli.trainers.maskrcnn import TRAINER as MASK_RCNN
from bisect_cli.trainers.readers import series
from bisect_cli.trainers.runfiles import Result

SPARE = 600 << 20  # bytes of memory that reading poison may take
PATIENCE = 120  # seconds
GIGABYTE = 1 << 30
LONG = "9" * 400
NOISE = random.Random(0).randbytes(200_000)


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(GIGABYTE)


def bound_socket(path):
    before = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as own:
        own.bind(path.name)
    os.chdir(before)


def unreadable(path):
    path.write_text("{}")
    path.chmod(0)


KINDS = {
    "pipe": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "device without end": lambda path: path.symlink_to("/dev/zero"),
    "socket": bound_socket,
    "not to be read": unreadable,
    "link to itself": lambda path: path.symlink_to(path),
    "one line of a gigabyte": sparse,
    "noise": lambda path: path.write_bytes(NOISE),
    "empty": lambda path: path.write_bytes(b""),
    **{
        name: lambda path, text=text: path.write_text(text)
        for name, text in {
            "nested lists": "[" * 100_000 + "\n",
            "nested objects": '{"step":' * 100_000 + "\n",
            "nested, and whole": '{"step": 1, "code": ' + "[" * 900 + "]" * 900 + "}\n",
            "no object": "[1, 2]\n",
            "a number": "7\n",
            "long number": LONG + "\n",
            "NaN": "NaN\n",
            "wrong types": '{"code": [], "asked_to_stop": 3, "seconds": {}, "node": {"a": 1}, "started": []}\n',
            "numbers that are none": f'{{"code": {LONG}, "seconds": NaN, "started": -5e300, "node": {LONG}}}\n',
        }.items()
    },
}


@pytest.fixture(autouse=True)
def bounded():
    """Memory and time are short here, so that what reads without end fails, and does not take the machine with it."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else None

    def too_long(*_):
        raise TimeoutError("it waits, or reads without end")

    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPARE, before[1]))
    handler = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def home(tmp_path):
    """A trial's folder."""
    folder = tmp_path / "t01"
    (folder / "out").mkdir(parents=True)
    (folder / "attempt-1").mkdir()
    return folder


def of_mask_rcnn():
    return Settings("c", MASK_RCNN.spec({}), BLOCK, ("bbox", "segm"))


def of_command(source, **more):
    """Settings of a command's campaign about one metric `acc`, higher is better, of this [metrics.acc] table."""
    options = {
        **{"title": "x", "file": "", "command": ["x"], "workdir": ".", "root": ".", "env": {}, "switches": {}},
        **{"sources": {"acc": source}, "length": {"steps": 10, "args": []}, "resume": [], "check": []},
        **{"stop": {"signal": "TERM", "grace": 60}, "wrong_input": [], "made_of": {"files": [], "commands": []}},
    }
    spec = Spec(
        "command", (Flag("A"),), metrics=(Metric("acc", "acc", **more),), default_metrics=("acc",), options=options
    )
    return Settings("c", spec, ("A",), ("acc",))


def end_well(home):
    (home / "attempt-1" / "exit.json").write_text(json.dumps({"code": 0, "asked_to_stop": False, "seconds": 3.0}))


# --- files of any kind and content


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["metrics.jsonl", "result.json", "run.json"])
def test_files_of_the_mask_rcnn(home, name, kind):
    KINDS[kind](home / "out" / name)
    settings = of_mask_rcnn()
    for _ in range(2):
        assert MASK_RCNN.progress(settings, home) is None
        assert MASK_RCNN.curve(settings, home).points == {}
        found = MASK_RCNN.result(settings, home, 1)
        assert isinstance(found, str) and "\n" not in found
        assert bool(found) == (name == "result.json"), "the reason is missing"
        MASK_RCNN.whose(settings, home)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["exit.json", "claim.json", "job.json", "heartbeat", "stdout.txt", "stderr.txt"])
def test_files_of_the_agent(home, name, kind):
    KINDS[kind](home / "attempt-1" / name)
    folder = home / "attempt-1"
    settings = of_command({"source": "stdout", "pattern": r"acc (\S+)"})
    claim, noted = launchers.read_claim(folder), launchers.read_exit(folder)
    assert claim is None or claim == {}
    assert noted is None
    assert len(check.tail(folder)) <= 4096
    assert len(slurm_job._last_line(folder / name)) <= 4096
    assert len(slurm_job.Job(None, {"job": "1"}, folder)._beat_now()) <= 64
    assert not isinstance(COMMAND.result(settings, home, 1), Result)
    seconds = COMMAND.progress(settings, home)
    assert seconds is None
    assert not isinstance(MASK_RCNN.result(of_mask_rcnn(), home, 1), Result)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device without end", "socket"])
@pytest.mark.parametrize("name", ["exit.json", "claim.json", "job.json", "stdout.txt", "stderr.txt"])
def test_a_run_starts_where_poison_lies(home, name, kind):
    from bisect_cli.launchers.local import Local

    KINDS[kind](home / "attempt-1" / name)
    handle = Local(1).prepare(Job(["echo", "hello"], str(home), home / "attempt-1"))
    handle.go()
    while handle.poll() is None:
        signal.sigtimedwait([signal.SIGCHLD], 0.05)
    assert launchers.read_exit(home / "attempt-1")["code"] == 0
    assert (home / "attempt-1" / "stdout.txt").read_text() == "hello\n"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="there is no file that always fails")
def test_what_cannot_be_read_now_is_not_missing(home):
    """A finished run would count as crashed, and be trained again."""
    (home / "attempt-1" / "exit.json").symlink_to("/proc/self/mem")  # nothing is at address 0: EIO
    (home / "out" / "result.json").symlink_to("/proc/self/mem")
    for trainer, settings in ((COMMAND, of_command({"source": "stdout", "pattern": "x"})), (MASK_RCNN, of_mask_rcnn())):
        with pytest.raises(UserError, match="cannot be read .*: resume when it can"):
            trainer.result(settings, home, 1)


def test_an_exit_of_an_earlier_run_is_not_this_ones(home):
    end_well(home)
    launchers.write_job(Job(["true"], str(home), home / "attempt-1"))
    assert launchers.read_exit(home / "attempt-1") is None


SOURCES = {
    "jsonl": {"source": "jsonl", "file": "{out}/m", "key": "acc", "step": "step"},
    "csv": {"source": "csv", "file": "{out}/m", "key": "acc", "step": "step"},
    "json": {"source": "json", "file": "{out}/m", "key": "acc"},
    "text": {"source": "text", "file": "{out}/m", "pattern": r"acc (\S+)"},
    "stdout": {"source": "stdout", "pattern": r"acc (\S+)"},
    "tensorboard": {"source": "tensorboard", "file": "{out}/m", "tag": "acc"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", SOURCES)
def test_files_of_any_trainer(home, source, kind):
    KINDS[kind](home / "attempt-1" / "stdout.txt" if source == "stdout" else home / "out" / "m")
    end_well(home)
    settings = of_command(SOURCES[source])
    for _ in range(2):
        assert COMMAND.progress(settings, home) is None
        assert COMMAND.curve(settings, home).points == {}
        found = COMMAND.result(settings, home, 1)
        assert isinstance(found, str) and found and "\n" not in found


@pytest.mark.parametrize("kind", KINDS)
def test_what_parity_leaves(tmp_path, kind):
    KINDS[kind](tmp_path / "result.json")
    assert parity.digest(tmp_path / "result.json") is None


def test_parity_with_numbers_that_are_none_is_json(tmp_path):
    piece = (
        '{"flag": "A", "agrees": false, "error": 1e999, "p_value": NaN, "worst": "w", "reproduce": "r", "checks": []}'
    )
    (tmp_path / "result.json").write_text(f'{{"seconds": 1, "pieces": [{piece}]}}')
    json.dumps(parity.digest(tmp_path / "result.json"), allow_nan=False)
    (tmp_path / "result.json").write_text(f'{{"seconds": Infinity, "pieces": [{piece}]}}')
    json.dumps(parity.digest(tmp_path / "result.json"), allow_nan=False)


def test_folders_with_names_like_those_of_attempts(home):
    for name in ("attempt-x", "attempt-", "attempt-1.kept", f"attempt-{'9' * 100}", "out.before-attempt-x"):
        (home / name).mkdir()
    end_well(home)
    (home / "out" / "m").write_text('{"step": 10, "acc": 0.5}\n')
    assert COMMAND.result(of_command(SOURCES["jsonl"]), home, 1).metrics == {"acc": 0.5}


# --- numbers in lines of metrics.jsonl

ODD_STEPS = ["NaN", "Infinity", "-Infinity", "1e300", "-1e300", LONG, "-3", "-0.5", '"x"', "[]", "null", "true"]


@pytest.mark.parametrize("step", ODD_STEPS)
def test_steps_that_are_none(home, step):
    lines = [
        '{"step": 2, "steps": 10, "wall": 4.0, "segm/AP": 0.1}',
        f'{{"step": {step}, "steps": 10, "wall": 5.0, "segm/AP": 0.2}}',
        f'{{"step": 3, "steps": {step}, "wall": 5.0, "segm/AP": 0.3}}',
    ]
    (home / "out" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    settings = of_mask_rcnn()
    assert MASK_RCNN.progress(settings, home)[:2] == (2, 10)
    assert MASK_RCNN.curve(settings, home) == runfiles.Curve({2: {"segm/AP": 0.1}}, 10)
    json.dumps(MASK_RCNN.progress(settings, home), allow_nan=False)


@pytest.mark.parametrize("step", [step for step in ODD_STEPS if step not in ("-3", "-0.5")])
def test_steps_that_are_none_of_any_trainer(home, step):
    (home / "out" / "m").write_text(f'{{"step": 3, "acc": 0.5}}\n{{"step": {step}, "acc": 0.75}}\n')
    settings = of_command(SOURCES["jsonl"])
    assert COMMAND.curve(settings, home).points == {3: {"acc": 0.5}}
    assert COMMAND.progress(settings, home).step == 3
    end_well(home)
    assert COMMAND.result(settings, home, 1).metrics == {"acc": 0.75}


@pytest.mark.parametrize("wall", ["NaN", "Infinity", "-1", "1e300", LONG, "[]", "null"])
def test_seconds_that_are_none(home, wall):
    lines = ['{"step": 1, "steps": 10, "wall": 4.0}', f'{{"step": 2, "steps": 10, "wall": {wall}}}']
    (home / "out" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    far = MASK_RCNN.progress(of_mask_rcnn(), home)
    assert far == (1, 10, 4.0) and math.isfinite(far.seconds_left)


def test_steps_in_any_order(home):
    lines = [
        json.dumps({"step": step, "steps": 10, "wall": 1.0, "segm/AP": value})
        for step, value in [(5, 0.5), (2, 0.2), (5, 0.6), (2.5, 0.3), (12, 0.1)]
    ]
    (home / "out" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert MASK_RCNN.curve(of_mask_rcnn(), home).values("segm/AP") == {5: 0.6, 2: 0.3, 12: 0.1}
    assert MASK_RCNN.progress(of_mask_rcnn(), home).seconds_left >= 0


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "-5e300", "1e200", LONG, '"x"', "[]", "70.5", "-0.1"])
def test_evaluations_that_are_none(home, value):
    line = '{{"step": {}, "steps": 10, "wall": 1.0, "segm/AP": {}, "bbox/AP": 0.5}}'
    (home / "out" / "metrics.jsonl").write_text("\n".join([line.format(1, 0.25), line.format(2, value)]) + "\n")
    curve = MASK_RCNN.curve(of_mask_rcnn(), home)
    assert curve.values("segm/AP") == {1: 0.25} and curve.values("bbox/AP") == {1: 0.5, 2: 0.5}


@pytest.mark.parametrize("value", ["-5e300", "1e200"])
def test_values_of_a_metric_without_a_range(home, value):
    (home / "out" / "m").write_text(f'{{"step": 1, "acc": 0.5}}\n{{"step": 2, "acc": {value}}}\n')
    end_well(home)
    settings = of_command(SOURCES["jsonl"])
    assert COMMAND.curve(settings, home).points == {1: {"acc": 0.5}}
    assert "no measurement is that large" in COMMAND.result(settings, home, 1)


# --- result.json


def result_of(home, record):
    (home / "out" / "result.json").write_text(record if isinstance(record, str) else json.dumps(record))
    return MASK_RCNN.result(of_mask_rcnn(), home, 1)


GOOD = {"status": "finished", "metrics": {"bbox/AP": 0.5, "segm/AP": 0.4}, "wall": 7.0, "key": {"code": "a"}}


def test_a_good_result(home):
    assert result_of(home, GOOD) == Result(False, GOOD["metrics"], 7.0, {"code": "a", "flags": {}})


def test_a_metric_that_nobody_asked_for_is_no_divergence(home):
    for value in ("NaN", "Infinity", "-Infinity", "1e999", LONG, '"x"', "-5e300", "70.5"):
        text = json.dumps({**GOOD, "metrics": {**GOOD["metrics"], "bbox/AP_small": "@"}}).replace('"@"', value)
        found = result_of(home, text)
        assert not found.diverged
        assert {key: found.metrics[key] for key in GOOD["metrics"]} == GOOD["metrics"]
        json.dumps(found, allow_nan=False)


def test_a_metric_that_was_asked_for_and_is_nan_has_diverged(home):
    assert result_of(home, json.dumps(GOOD).replace("0.4", "NaN")).diverged
    assert result_of(home, {"status": "diverged", "metrics": {}}).diverged


@pytest.mark.parametrize(
    "value, why",
    [
        ("70.5", "segm is 70.5, outside of its range 0 to 1"),
        ("-0.1", "segm is -0.1, outside of its range 0 to 1"),
        ("-5e300", "segm is -5e+300"),
        (LONG, "segm/AP is no number"),
        ("1e999", "segm/AP is no number"),
        ('"x"', "segm/AP is no number"),
        ("[" * 500 + "]" * 500, "segm/AP is no number"),
        ("true", "segm/AP is no number"),
    ],
)
def test_a_result_with_a_wrong_number_is_none(home, value, why):
    found = result_of(home, json.dumps(GOOD).replace("0.4", value))
    assert isinstance(found, str) and why in found


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"status": "stopped"}, "status"),
        ({"status": ["finished"]}, "status"),
        ({"metrics": [1, 2]}, "metrics"),
        ({"metrics": {}}, "metrics"),
        ({"metrics": None}, "metrics"),
        ({"metrics": {f"m{i}": 1.0 for i in range(5000)}}, "5000 metrics"),
    ],
)
def test_a_result_that_is_not_whole_is_none(home, changes, why):
    found = result_of(home, {**GOOD, **changes})
    assert isinstance(found, str) and why in found


def test_other_parts_of_a_result_that_are_wrong_are_not_known(home):
    for wall in ("NaN", LONG, "-3", "1e300", '"x"', "[" * 500 + "]" * 500):
        found = result_of(home, json.dumps(GOOD).replace("7.0", wall))
        assert found.metrics == GOOD["metrics"] and found.wall is None
    found = result_of(home, json.dumps(GOOD).replace('"a"', "[" * 900 + "]" * 900))
    assert found.metrics == GOOD["metrics"]


# --- campaigns


def reasons(bench, flags):
    state, _ = store.load(bench.runs / "c")
    return {trial.reason for trial in state.trials_of(flags) if trial.state == "crashed"}


POISONED = {
    "out of range": '{"status": "finished", "metrics": {"bbox/AP": 0.7, "segm/AP": 70.5}}',
    "huge": '{"status": "finished", "metrics": {"bbox/AP": 0.7, "segm/AP": -5e300}}',
    "long": f'{{"status": "finished", "metrics": {{"bbox/AP": 0.7, "segm/AP": {LONG}}}}}',
    "nested": "[" * 100_000,
}


@pytest.mark.parametrize("poison", POISONED)
def test_a_poisoned_result_is_a_crash_with_the_reason(bench, poison):
    bench.set(poison=[list(BLOCK), POISONED[poison]])
    state = bench.run()
    assert state.state == "inconclusive"
    trials = state.trials_of(BLOCK)
    assert trials and all(trial.state == "crashed" and trial.attempts == ATTEMPTS for trial in trials)
    assert all("result.json" in reason or "segm" in reason for reason in reasons(bench, BLOCK)), reasons(bench, BLOCK)
    calls = {verdict.call for table in analyse(state).verdicts.values() for f, verdict in table.items() if f == BLOCK}
    assert calls <= {"undecided", "crashed"}
    json.dumps(summarize_folder(bench.runs / "c"), allow_nan=False)
    bench.set(breaks={"segm": [["ROI_ALIGN_MASK"]]})
    for trial in trials:  # mended by hand
        (store.trial_folder(bench.runs / "c", trial.id) / "out" / "result.json").unlink(missing_ok=True)
    assert bench.run().state == "finished"


def test_metrics_in_percent_are_an_error_that_says_so(bench):
    bench.set(base=70.5)
    code, out, err = bench.call("start", "--flags", "L2B5", "--name", "c", "--no-parity")
    assert code != 0 and "outside of its range 0 to 1" in out + err
    assert "clean" not in out


def test_nan_of_a_metric_that_nobody_asked_for_changes_nothing(bench):
    bench.set(breaks={"segm": [["ROI_ALIGN_MASK"]]}, more='"bbox/AP_large": NaN, "segm/AP_large": Infinity')
    state = bench.run()
    assert state.state == "finished"
    assert [culprit.flags for culprit in analyse(state).plans["segm"].culprits] == [("ROI_ALIGN_MASK",)]
    assert not any(trial.state == "diverged" for trial in state.trials.values())


def test_what_is_told_by_hand_is_bounded_as_well(bench):
    from bisect_cli.run import ask_tell

    settings = of_command(SOURCES["jsonl"])
    for value in (-5e300, "1e200", 10**200):
        with pytest.raises(UserError, match="acc"):
            ask_tell.check_values(settings, "t01", {"acc": value})
    with pytest.raises(UserError, match="is no number"):
        ask_tell.check_values(settings, "t01", {"acc": 10**400})


# --- long files are read on, and in bounded memory


def test_a_look_costs_what_was_added(home, read_bytes):
    path, settings = home / "out" / "metrics.jsonl", of_mask_rcnn()
    line = '{{"step": {}, "steps": 400000, "wall": 1.0, "total_loss": 0.5}}\n'
    evaluation = '{{"step": {}, "steps": 400000, "wall": 1.0, "segm/AP": 0.5, "bbox/AP": 0.25}}\n'
    with open(path, "w") as file:
        for start in range(0, 100_000, 1000):
            file.writelines(line.format(step) for step in range(start, start + 1000))
            file.write(evaluation.format(start + 1000))
    assert len(MASK_RCNN.curve(settings, home).points) == 100
    before = read_bytes()
    MASK_RCNN.curve(settings, home)
    assert read_bytes() == before
    with open(path, "a") as file:
        file.write(evaluation.format(200_000))
    assert len(MASK_RCNN.curve(settings, home).points) == 101
    assert MASK_RCNN.progress(settings, home).step == 200_000
    assert 0 < read_bytes() - before < 100_000
    path.write_text(evaluation.format(7))  # it shrank
    assert list(MASK_RCNN.curve(settings, home).points) == [7]
    other = path.with_name("other")
    other.write_text(evaluation.format(8) * 3000)
    other.replace(path)  # it is another
    assert list(MASK_RCNN.curve(settings, home).points) == [8]


def test_points_are_bounded(home, monkeypatch):
    monkeypatch.setattr(series, "MOST_POINTS", 1000)
    monkeypatch.setattr(runfiles, "MOST_POINTS", 1000)
    values = [0.5] * 5000
    values[10], values[20], values[-1] = 0.875, 0.125, 0.75
    lines = [json.dumps({"step": i, "steps": 5000, "wall": 1.0, "segm/AP": v, "acc": v}) for i, v in enumerate(values)]
    for name in ("m", "metrics.jsonl"):
        (home / "out" / name).write_text("\n".join(lines) + "\n")
    found = readers.make_reader(SOURCES["jsonl"]).read(readers.Places(home / "out"))
    assert len(found.points) <= 1002
    assert readers.final(found, "best", True) == 0.875 and readers.final(found, "best", False) == 0.125
    assert readers.final(found, "last") == 0.75
    assert readers.final(found, "mean of the last 100") == pytest.approx(0.5025)
    assert list(found.points) == sorted(found.points)
    assert len(MASK_RCNN.curve(of_mask_rcnn(), home).points) <= 1000


def test_a_pipe_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError), untrusted.opened(tmp_path / "pipe"):
        pass
    assert untrusted.read_end(tmp_path / "pipe", 100) == b""


def test_logs_of_a_run_with_a_pipe_in_the_place_of_its_output(bench):
    bench.run()
    folder = store.trial_folder(bench.runs / "c", "t01") / "attempt-1"
    for name, kind in (("stdout.txt", "pipe"), ("stderr.txt", "device without end")):
        (folder / name).unlink()
        KINDS[kind](folder / name)
    code, out, err = bench.call("logs", "t01", "--name", "c")
    assert code == 0 and out == "" and err == ""


def test_nothing_but_json_is_written(home):
    with pytest.raises(ValueError):
        launchers.write_job(Job(["true"], str(home), home / "attempt-1", grace=math.nan))
