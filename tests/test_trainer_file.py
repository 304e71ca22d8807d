"""A trainer in a file: what it may say, what is wrong with it in one line, and whole bisects by it."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from bisecting import Bench, wait_for
from click.testing import CliRunner

from bisect_cli.campaign.settings import Settings
from bisect_cli.campaign.spec import Spec
from bisect_cli.cli import main
from bisect_cli.errors import UserError
from bisect_cli.storage import store
from bisect_cli.trainers import trainerfile
from bisect_cli.trainers.command import TRAINER

TOY = Path(__file__).with_name("toy_training.py")
TEXT = f"""
[trainer]
name = "toy"
command = [{json.dumps(sys.executable)}, "train.py", "--seed", "{{seed}}", "--out", "{{out}}", "{{flags}}"]
env = {{ RUN = "{{trial}} of {{seed}}" }}

[flags.BAD]
help = "the one that breaks it"
args = {{ on = ["--bad"] }}
[flags.HARMLESS]
args = {{ on = ["--harmless"], off = [] }}
[flags.X]
env = {{ on = {{ FLAG_X = "1" }}, off = {{ FLAG_X = "0" }} }}
[flags.Y]
constant = {{ file = "train.py", name = "USE_Y", on = true, off = false }}

[groups]
words = ["BAD", "HARMLESS"]

[metrics.acc]
source = "jsonl"
file = "{{out}}/metrics.jsonl"
key = "val.acc"
step = "step"
better = "higher"
range = [-1.0, 2.0]
[metrics.loss]
source = "stdout"
pattern = 'step (?P<step>\\d+): loss (?P<value>\\S+)'
better = "lower"

[length]
steps = 10
args = ["--steps", "{{steps}}"]
"""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(TOY, tmp_path / "train.py")
    (tmp_path / "bisect.toml").write_text(TEXT)
    return Bench(tmp_path)


def cli(*words):
    return CliRunner().invoke(main, words)


def spec(bench):
    return trainerfile.read(bench.folder / "bisect.toml")


def test_a_file_becomes_a_spec_and_a_spec_survives_the_log(bench):
    found = spec(bench)
    assert found.flag_names == ("BAD", "HARMLESS", "X", "Y") and found.groups[0].flags == ("BAD", "HARMLESS")
    assert [(m.name, m.higher_is_better, m.range) for m in found.metrics] == [
        ("acc", True, (-1.0, 2.0)),
        ("loss", False, None),
    ]
    assert Spec.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_the_command_of_a_run(bench):
    settings = Settings("c", spec(bench), ("BAD", "X"), ("acc",))
    home = bench.folder / "runs" / "c" / "trials" / "t07"
    made = TRAINER.command(settings, ("BAD",), 3, home)
    assert made.argv == [sys.executable, "train.py", "--seed", "3", "--out", str(home / "out"), "--bad"]
    assert made.env == {"RUN": "t07 of 3", "FLAG_X": "0"} and made.cwd == str(home / "tree")
    both = TRAINER.command(settings, ("BAD", "X"), 3, home)
    assert both.env["FLAG_X"] == "1" and both.argv == made.argv


def test_flags_in_the_source_are_switched_in_a_copy(bench):
    settings = Settings("c", spec(bench), ("Y",), ("acc",))
    before = (bench.folder / "train.py").read_text()
    for flags, line in (((), "USE_Y = False"), (("Y",), "USE_Y = True")):
        home = bench.folder / "runs" / "c" / "trials" / f"t{len(flags)}"
        home.mkdir(parents=True)
        TRAINER.prepare(settings, flags, 0, home, 1)
        assert line in (home / "tree" / "train.py").read_text().splitlines()
        TRAINER.release(settings, home)
        assert not (home / "tree").exists()
    assert (bench.folder / "train.py").read_text() == before


def edited(text, old, new):
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("[trainer]", "[trainr]", "unknown key 'trainr': did you mean trainer?"),
        ('name = "toy"', 'name = "toy', "line 3"),
        ("env = { RUN", "enviroment = { RUN", "unknown key 'trainer.enviroment'"),
        ('"{seed}"', '"{sed}"', "trainer.command: unknown placeholder '{sed}': did you mean {seed}"),
        ('"{out}"', '"out"', "trainer.command: {out} is missing"),
        (', "{flags}"]', "]", '"{flags}" is missing, so BAD would never be switched'),
        ('"train.py",', '"{train.py",', "a brace without its other half"),
        ('args = { on = ["--bad"] }', 'args = "--bad"', "flags.BAD.args: write { on = .., off = .. }"),
        ('args = { on = ["--bad"] }', "arg = { on = [] }", "unknown key 'flags.BAD.arg': did you mean args"),
        ('args = { on = ["--bad"] }', 'needs = ["WORSE"]', "flags.BAD.needs: 'WORSE' is no other flag"),
        ('name = "USE_Y"', 'name = "USE_Z"', "USE_Z"),
        ('file = "train.py", name', 'file = "model.py", name', "model.py"),
        ("on = true, off = false", "on = true, off = true", "on and off are the same"),
        ('words = ["BAD",', 'words = ["BAT",', "groups.words: 'BAT' is no flag; did you mean BAD?"),
        ('source = "jsonl"', 'source = "jsonlines"', "jsonl"),
        ('better = "higher"', 'better = "up"', 'metrics.acc.better: write "higher" or "lower"'),
        ("range = [-1.0, 2.0]", "range = [2.0, -1.0]", "metrics.acc.range: the first has to be the lower one"),
        ("range = [-1.0, 2.0]", "noise = -1", "metrics.acc.noise: write a number above 0"),
        ("[metrics.loss]", "[metrics.ACC]", "two metrics of that name, acc and ACC"),
        ("steps = 10\n", "steps = 0\n", "length.steps: write the number of steps"),
        ('"--steps", "{steps}"', '"--steps", "10"', "length.args: {steps} is missing"),
        ('"--steps", "{steps}"', '"{seed}", "{steps}"', "length.args: unknown placeholder '{seed}'"),
        ("[flags.HARMLESS]\n", "[flags.LIKE]\n[flags.HARMLESS]\n", "flags.LIKE: nothing says how it is switched"),
        ("[flags.HARMLESS]", "[flags.bad]", "two flags or groups of that name, BAD and bad"),
        ("[length]", "[fingerprint]\nfiles = 3\n[length]", "fingerprint.files: write a list of words"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(bench, old, new, said):
    (bench.folder / "bisect.toml").write_text(edited(TEXT, old, new))
    for words in (["start", "--trainer", "bisect.toml", "--flags", "all", "--name", "c"], ["trainer", "check"]):
        result = cli(*words)
        assert result.exit_code == 2 and said in result.output, result.output
        assert result.output.startswith("maskrcnn-bisect: bisect.toml: ") and result.output.count("\n") == 1
    assert not bench.runs.exists()


@pytest.mark.parametrize(
    "words, said",
    [
        (["--trainer", "no.toml"], "no.toml cannot be read"),
        (["--trainer", "bisect.toml", "--preset", "x"], "--preset: that is an option of the built-in training"),
        (["--trainer", "bisect.toml", "--metric", "bbox"], "unknown metric 'bbox': known: acc, loss"),
        (["--trainer", "bisect.toml", "--", "python"], "leave out either the file or the command"),
        (["--metric", "acc", "--", "python", "{out}", "{flags}"], "--metric acc: write NAME:higher or NAME:lower"),
        (["--", "python", "{out}", "{flags}"], "--metric is missing"),
        (["--metric", "acc:higher", "--", "python", "{flags}"], "{out} is missing"),
        (["--metric", "acc:higher", "--", "no-such-program", "{out}", "{flags}"], "no-such-program is not there"),
    ],
)
def test_wrong_options_are_said_in_one_line(bench, words, said):
    result = cli("start", "--flags", "all" if "--trainer" in words else "a,b", "--name", "c", *words)
    assert result.exit_code == 2 and said in result.output and result.output.count("\n") == 1, result.output
    assert not bench.runs.exists()


def test_flags_that_need_or_exclude_each_other(bench):
    text = edited(TEXT, 'args = { on = ["--bad"] }', 'args = { on = ["--bad"] }\nneeds = ["X"]\nexcludes = ["Y"]')
    (bench.folder / "bisect.toml").write_text(text)
    for flags, said in (("BAD", "BAD needs X, which would be off"), ("BAD,X,Y", "BAD and Y exclude each other")):
        result = cli("start", "--trainer", "bisect.toml", "--flags", flags, "--name", "c")
        assert result.exit_code == 2 and said in result.output


# Whole bisects


def bisect(bench, *words, flags="all"):
    code, out, err = bench.call("start", "--trainer", "bisect.toml", "--flags", flags, "--name", "c", *words)
    assert code == 0, out + err
    return out, err


def test_a_training_of_ones_own_is_bisected(bench):
    out, err = bisect(bench, "--slots", "2", flags="words,X")
    assert "acc: BAD (confidence 9" in out and "loss: BAD (confidence 9" in out
    assert "nothing is known of the code" in err and "Traceback" not in err
    summary = bench.status()
    assert summary["metrics"] == ["acc", "loss"] and summary["spec"]["trainer"] == "command"
    assert all(trial["steps"] in (10, None) for trial in summary["trials"])
    assert "more is better" not in out
    assert not list((bench.runs / "c" / "trials").glob("*/tree"))  # copies go when their runs have ended
    assert "loss of the baseline: 1." in bench.call("explain", "c")[1]


def test_a_pair_of_an_environment_variable_and_a_constant_is_found(bench):
    (bench.folder / ".gitignore").write_text("runs/\n")
    out, _ = bisect(bench, "--slots", "2", "--metric", "acc", flags="HARMLESS,X,Y")
    assert "acc: X + Y (confidence 9" in out


def test_a_campaign_is_started_from_another_folder(bench, monkeypatch):
    """All paths of the file are relative to it, and those of runs to where the campaign was started."""
    sub = bench.folder / "sub"
    sub.mkdir()
    for name in ("train.py", "bisect.toml"):
        (bench.folder / name).rename(sub / name)
    words = ["--trainer", "sub/bisect.toml", "--flags", "words", "--metric", "acc", "--name", "c", "--slots", "2"]
    code, out, err = bench.call("start", *words)
    assert code == 0 and "acc: BAD (confidence 9" in out, out + err


def test_a_file_that_asks_another_question_is_another_campaign(bench):
    bisect(bench, "--slots", "2", "--metric", "acc", flags="words")
    (bench.folder / "bisect.toml").write_text(edited(TEXT, "range = [-1.0, 2.0]", "range = [-2.0, 2.0]"))
    result = cli("start", "--trainer", "bisect.toml", "--flags", "words", "--metric", "acc", "--name", "c")
    assert result.exit_code == 2 and "already in use, with other declared" in result.output


def test_a_dry_run_beside_a_campaign_of_another_trainer(bench):
    bench.run("other", max_runs=1, parity=False)
    result = cli("start", "--trainer", "bisect.toml", "--flags", "words", "--metric", "acc", "--dry-run")
    assert result.exit_code == 0 and "not known until a first run" in result.output, result.output


def test_a_plain_command_needs_no_file(bench):
    script = bench.folder / "plain.py"
    script.write_text(
        "import json, random, sys\n"
        "seed, out, flags = sys.argv[1:]\n"
        "value = .7 - .2 * ('b' in flags.split(',')) + random.Random(seed + flags).gauss(0, .01)\n"
        "json.dump({'acc': value}, open(out + '/result.json', 'w'))\n"
    )
    words = ["--flags", "a,b,c", "--name", "c", "--metric", "acc:higher", "--slots", "2"]
    command = [sys.executable, "plain.py", "{seed}", "{out}", "{flags}"]
    code, out, err = bench.call("start", *words, "--", *command)
    assert code == 0 and "acc: b (confidence 9" in out, out + err
    again = bench.call("start", *words, "--", *command)
    assert again[0] == 0 and "started" not in again[1]


def test_a_flag_that_needs_another_is_named_by_itself(bench):
    (bench.folder / "train.py").write_text(
        "import json, random, sys\n"
        "seed, out, flags = sys.argv[1:]\n"
        "on = flags.split(',')\n"
        "assert 'FUSED' not in on or 'AMP' in on\n"
        "value = .8 - .2 * ('FUSED' in on) + random.Random(seed + flags).gauss(0, .01)\n"
        "json.dump({'acc': value}, open(out + '/result.json', 'w'))\n"
    )
    command = json.dumps([sys.executable, "train.py", "{seed}", "{out}", "{flags}"])
    (bench.folder / "bisect.toml").write_text(
        f"[trainer]\ncommand = {command}\n"
        '[flags.AMP]\n[flags.LR]\n[flags.FUSED]\nneeds = ["AMP"]\n[flags.TOP]\nneeds = ["FUSED"]\n'
        '[metrics.acc]\nsource = "json"\nfile = "{out}/result.json"\nkey = "acc"\nbetter = "higher"\n'
    )
    out, _ = bisect(bench, "--slots", "2")
    assert "it ran with AMP, which it needs) breaks it." in out and "acc: FUSED (confidence 9" in out
    summary = bench.status()
    assert summary["culprits"]["acc"][0]["needed"] == ["AMP"]
    assert any("nothing is known of TOP" in note for note in summary["notes"])
    assert not any(trial["state"] == "crashed" for trial in summary["trials"])  # never FUSED without AMP
    assert "AMP, FUSED: broken" in bench.call("explain", "c")[1]


def test_a_run_without_its_metric_is_crashed_with_the_reason(bench):
    (bench.folder / "bisect.toml").write_text(edited(TEXT, 'key = "val.acc"', 'key = "val.accuracy"'))
    code, out, _ = bench.call("start", "--trainer", "bisect.toml", "--flags", "X", "--metric", "acc", "--name", "c")
    assert code == 1 and "the baseline, with all flags off, crashed (no `val.accuracy` in t0" in out
    reasons = {trial["reason"] for trial in bench.status()["trials"]}
    assert len(reasons) >= 3 and all("val.accuracy" in reason and "metrics.jsonl" in reason for reason in reasons)
    assert all("did you mean" in reason for reason in reasons)


def test_a_value_out_of_its_range_is_no_result(bench):
    (bench.folder / "bisect.toml").write_text(edited(TEXT, "range = [-1.0, 2.0]", "range = [0.0, 0.5]"))
    code, out, _ = bench.call("start", "--trainer", "bisect.toml", "--flags", "X", "--metric", "acc", "--name", "c")
    assert code == 1 and "outside of its range 0 to 0.5" in out


def test_a_refusal_ends_the_campaign(bench):
    words = ["--flags", "X", "--metric", "acc", "--name", "c", "--seed", "-5"]
    code, _, err = bench.call("start", "--trainer", "bisect.toml", *words)
    assert code == 2 and "--seed: give 0 or more" in err


def test_a_run_that_was_asked_to_stop_and_ends_well_is_no_result(bench):
    slow = edited(TEXT, '"{flags}"]', '"{flags}", "--seconds", "30"]')
    (bench.folder / "bisect.toml").write_text(slow)
    words = ["--flags", "X", "--metric", "acc", "--name", "c", "--slots", "2"]
    controller = bench.spawn("start", "--trainer", "bisect.toml", *words)
    metrics = bench.runs / "c" / "trials" / "t01" / "out" / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= 1)
    assert bench.call("stop", "c")[0] == 0
    controller.communicate(timeout=300)
    state, _ = store.load(bench.runs / "c")
    assert all(trial.state == "waiting" and not trial.metrics for trial in state.trials.values())
    assert [event["code"] for event in bench.events() if event["kind"] == "ended"] == [0, 0]
    assert bench.status()["trials"][0]["step"] >= 1  # its progress is known by the metric's steps


def test_a_change_of_the_code_makes_runs_stale(bench):
    text = TEXT + '\n[fingerprint]\nfiles = ["train.py"]\n'
    (bench.folder / "bisect.toml").write_text(text)
    bisect(bench, "--slots", "2", "--metric", "acc", flags="words")
    runs = len(bench.status()["trials"])
    source = bench.folder / "train.py"
    source.write_text(source.read_text().replace("0.2 * given.bad", "0.0 * given.bad"))
    code, out, err = bench.call("resume", "c")
    assert code == 0, out + err
    assert "train.py has changed since the last run" in out and "acc: nothing breaks" in out
    assert len(bench.status()["trials"]) > runs


# The command `trainer`


def test_init_writes_a_file_that_can_be_checked(bench):
    (bench.folder / "bisect.toml").unlink()
    command = f"{sys.executable} train.py --seed {{seed}} --out {{out}} {{flags}}"
    words = ["--command", command, "--flags", "BAD,HARMLESS", "--metric", "val.acc:higher"]
    result = cli("trainer", "init", *words)
    assert result.exit_code == 0 and "Wrote bisect.toml" in result.output
    checked = cli("trainer", "check", "--run")
    assert checked.exit_code == 0, checked.output
    assert "BAD on: " in checked.output and "--bad" in checked.output and "found after" in checked.output
    again = cli("trainer", "init")
    assert again.exit_code == 2 and "bisect.toml is there already" in again.output


@pytest.mark.parametrize("way", ["args", "env", "constant", "template"])
@pytest.mark.parametrize("source", ["jsonl", "csv", "json", "stdout", "tensorboard"])
def test_every_template_is_a_file_without_mistakes(bench, way, source):
    (bench.folder / "bisect.toml").unlink()
    (bench.folder / "config.yaml").write_text("a: @A_FLAG@\n")
    with open(bench.folder / "train.py", "a") as file:
        file.write("\nA_FLAG = False\n")
    options = ["--flags", "A_FLAG", "--switch", way, "--source", source, "--metric", "loss:lower"]
    result = cli("trainer", "init", *options, "--command", "python train.py --out {out} {flags}")
    assert result.exit_code == 0, result.output
    assert spec(bench).flag_names == ("A_FLAG",)


def test_check_shows_each_flag_and_reads_an_old_run(bench):
    out = bench.folder / "old"
    out.mkdir()
    (out / "metrics.jsonl").write_text('{"step": 1, "val": {"acc": 0.25}}\n')
    (out / "stdout.txt").write_text("step 1: loss 1.75\n")
    result = cli("trainer", "check", "--on", "old")
    assert result.exit_code == 0, result.output
    for said in ("X on: ", "FLAG_X=1", "+USE_Y = True", "acc: 0.25, 1 values up to step 1", "loss: 1.75"):
        assert said in result.output, result.output


def test_check_makes_a_short_run(bench):
    result = cli("trainer", "check", "--run")
    assert result.exit_code == 0 and "--steps 1" in result.output and "found after" in result.output, result.output
    (bench.folder / "train.py").write_text("USE_Y = False\nimport sys\nsys.exit('no data here')\n")
    result = cli("trainer", "check", "--run")
    assert result.exit_code == 2 and "the run ended with exit code 1: no data here" in result.output


def test_a_spec_cannot_be_made_of_nothing(bench):
    with pytest.raises(UserError, match="described in a file"):
        TRAINER.spec({})
