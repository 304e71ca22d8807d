"""The trainer's command line without any training: arguments, errors, files."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from maskrcnn import settings as settings_module
from maskrcnn.__main__ import cli
from maskrcnn.config import preset
from maskrcnn.errors import UserError
from maskrcnn.runfolder import MetricsFile, RunFolder, write_json
from maskrcnn.settings import Settings, check_function, parse
from maskrcnn.version import code_version


def run(*args):
    result = CliRunner().invoke(cli, [str(a) for a in args])
    return result.exit_code, result.stderr.strip()


def check(tmp_path, *args):
    return run("train", "--preset", "tiny", "--out", tmp_path / "out", "--check", *args)


def test_check_accepts_a_good_command_and_writes_nothing(tmp_path):
    assert check(tmp_path, "--flags", "mask_loss,BATCH_RPN_LOSS", "--set", "steps=9") == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--flags", "MASK_LOS"], "MASK_LOSS"),
        (["--preset", "tinny"], "tiny"),
        (["--set", "stepz=3"], "steps"),
        (["--set", "steps=many"], "whole number"),
        (["--batch", "0"], "batch"),
        (["--np", "0"], "--np"),
        (["--seed", "-1"], "--seed"),
        (["--seed", "x"], "--seed"),
        (["--plant", "ROI_ALIGN_MASK=half_pixel_trian"], "half_pixel_train"),
        (["--plant", "ROI_ALIGN_MASK=no.such.module:f"], "no.such.module"),
        (["--plant", "ROI_ALIGN_MASK=maskrcnn.errors:no_function"], "no_function"),
        (["--plant", "MASK_LOSS=os:f", "--plant", "MASK_LOSS=os:g"], "MASK_LOSS"),
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--set", "weights=missing.npz"], "missing.npz"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_it(tmp_path, args, named):
    code, error = check(tmp_path, *args)
    assert code == 2
    assert error.startswith("error: ")
    assert named in error
    assert "\n" not in error


def test_out_that_cannot_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    code, error = run("train", "--out", tmp_path / "file" / "run", "--check")
    assert code == 2
    assert str(tmp_path / "file") in error


@pytest.mark.parametrize(("version", "said"), [(None, "not installed"), ("2.16.1", "2.16.1")])
def test_a_missing_or_wrong_tensorflow(tmp_path, monkeypatch, version, said):
    monkeypatch.setattr(settings_module, "_installed", lambda package: version)
    code, error = check(tmp_path)
    assert code == 2
    assert said in error
    assert "pip install" in error


def test_missing_horovod(tmp_path, monkeypatch):
    monkeypatch.setattr(settings_module.shutil, "which", lambda *_, **__: None)
    code, error = check(tmp_path, "--np", "2")
    assert code == 2
    assert "pip install" in error


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    RunFolder(tmp_path / "out").write_run(parse(seed=3, preset_name="tiny"), categories=[])
    assert check(tmp_path, "--seed", "3")[0] == 0
    code, error = check(tmp_path, "--seed", "4", "--set", "lr=0.5")
    assert code == 2
    assert "seed=3 instead of 4" in error
    assert f"lr={preset('tiny').lr} instead of 0.5" in error


def test_a_finished_run_is_left_alone(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_run(parse(preset_name="tiny"), categories=[])
    folder.write_result({"status": "finished"})
    code, said = run("train", "--preset", "tiny", "--out", tmp_path)
    assert code == 0
    assert "finished already" in said


def test_a_folder_in_use_is_refused(tmp_path):
    with RunFolder(tmp_path).locked():
        code, error = run("train", "--preset", "tiny", "--out", tmp_path)
    assert code == 2
    assert "another process" in error


@pytest.mark.parametrize("command", [["evaluate"], ["predict"]])
def test_no_run_to_evaluate(tmp_path, command):
    image = ["image.png"] if command == ["predict"] else []
    code, error = run(*command, tmp_path, *image)
    assert code == 2
    assert "run.json" in error


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(RunFolder, "locked", full)
    code, error = run("train", "--preset", "tiny", "--out", tmp_path)
    assert code == 2
    assert "disk is full" in error
    assert "\n" not in error


def test_settings_survive_the_command_line_and_json(tmp_path):
    asked = parse(
        "MASK_LOSS", 5, "tiny", ["MASK_LOSS=a.b:c"], "some", 3, 2, ["lr=1e-5", "blocks=2,1,1,1", "flip=false"]
    )
    assert Settings.from_json(json.loads(json.dumps(asked.to_json()))) == asked
    values = cli.commands["train"].make_context("train", asked.arguments(tmp_path)[1:]).params
    keys = ("flags", "seed", "preset", "plant", "data", "batch", "ranks", "changes")
    assert parse(*(values[k] for k in keys)) == asked


def test_checking_a_function_reads_its_module_without_running_it(tmp_path, monkeypatch):
    (tmp_path / "own_piece.py").write_text("def batched(): pass\nraise SystemExit('was run')\n")
    monkeypatch.syspath_prepend(tmp_path)
    check_function("MASK_LOSS=own_piece:batched", "own_piece:batched")
    with pytest.raises(UserError, match="no function other"):
        check_function("MASK_LOSS=own_piece:other", "own_piece:other")


def test_metrics_file_cuts_a_torn_line_and_never_repeats_a_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 10, "total_loss": 2.0}\n{"step": 20, "total_loss": 1.0}\n{"step": 20, "bbox/AP": 0.5}\n{"st'
    )
    metrics = MetricsFile(path)
    for line in ({"step": 20, "total_loss": 9.0}, {"step": 30, "total_loss": 0.5}, {"step": 30, "bbox/AP": 0.6}):
        metrics.append(line)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(x["step"], x.get("total_loss"), x.get("bbox/AP")) for x in lines] == [
        (10, 2.0, None),
        (20, 1.0, None),
        (20, None, 0.5),
        (30, 0.5, None),
        (30, None, 0.6),
    ]
    assert metrics.evaluated(30)
    assert not metrics.evaluated(40)
    with pytest.raises(ValueError, match="JSON"):
        metrics.append({"step": 40, "total_loss": float("nan")})


def test_write_json_keeps_the_old_file_when_it_fails(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_faults_lists_every_fault():
    result = CliRunner().invoke(cli, ["faults"])
    assert result.exit_code == 0
    assert "ROI_ALIGN_MASK=half_pixel_train" in result.output


def test_checks_load_no_tensorflow():
    code = "import sys, maskrcnn.__main__; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_code_version_is_stable():
    assert code_version() == code_version()
    assert len(code_version()) == 12
