"""The commands through click's runner."""

import dataclasses
import json
import re
import shutil
import sys

import pytest
from bisecting import Bench
from click.testing import CliRunner

from bisect_cli.campaign.events import Closed, Ended, Started, fold, record_of
from bisect_cli.cli import main
from bisect_cli.storage import eventlog, store
from bisect_cli.trainers import upgraded
from bisect_cli.trainers.maskrcnn import TRAINER

FAULT = {"segm": [["ROI_ALIGN_MASK"]]}


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, breaks=FAULT)


@pytest.fixture
def cli(bench):
    def call(*words):
        return CliRunner().invoke(main, words, obj=bench.trainer)

    return call


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished campaign, for commands that only look."""
    bench = Bench(tmp_path_factory.mktemp("finished"), breaks=FAULT)
    words = ["start", "--flags", "L2B5", "--name", "done", "--runs-dir", str(bench.runs), "--slots", "2"]
    result = CliRunner().invoke(main, words, obj=bench.trainer)
    assert result.exit_code == 0, result.output
    bench.output = result.output
    return bench


def look(bench, *words):
    return CliRunner().invoke(main, [*words, "--runs-dir", str(bench.runs)])


def test_flags_lists_every_flag_with_its_blocks():
    result = CliRunner().invoke(main, ["flags"])
    assert result.exit_code == 0
    assert "ROI_ALIGN_BOX  [L1B6 L2B3 L3B1]  crops FPN features for the box head" in result.output
    assert result.output.count("\n") == 12


def test_start_shows_its_progress_and_its_result(finished):
    lines = finished.output.splitlines()
    started = r"t\d\d ROI_ALIGN_MASK, CROP_AND_RESIZE_MASK, MASK_LOSS, seed 0: started in slot [12]"
    assert any(re.fullmatch(started, line) for line in lines)
    assert any(re.search(r"seed 1: finished, bbox .* fine, segm \.\d{3} \(-\.\d{3}\) broken$", line) for line in lines)
    clean = (
        r"bbox: nothing breaks \(confidence 9\d\.\d%\); "
        r"ROI_ALIGN_MASK, CROP_AND_RESIZE_MASK, MASK_LOSS trains as well as the baseline\."
    )
    assert sum(bool(re.fullmatch(clean, line)) for line in lines) == 1
    assert any(re.fullmatch(r"segm: ROI_ALIGN_MASK \(confidence 9[89]\.\d%\) breaks it\.", line) for line in lines)


def test_status_json_is_what_is_documented(finished):
    summary = json.loads(look(finished, "status", "done", "--json").output)
    assert summary["name"] == "done" and summary["state"] == "finished" and summary["metrics"] == ["bbox", "segm"]
    assert summary["culprits"]["bbox"] == []
    (culprit,) = summary["culprits"]["segm"]
    assert culprit["flags"] == ["ROI_ALIGN_MASK"] and 0.95 < culprit["confidence"] < 1
    by_id = {trial["id"]: trial for trial in summary["trials"]}
    assert {tuple(by_id[name]["flags"]) for name in culprit["trials"]} == {
        ("ROI_ALIGN_MASK",),
        ("CROP_AND_RESIZE_MASK", "MASK_LOSS"),
    }
    assert summary["baseline"]["trials"] == ["t01", "t02", "t03"]
    assert 0.68 < summary["baseline"]["segm"]["mean"] < 0.72 and summary["baseline"]["segm"]["runs"] == 3
    for trial in summary["trials"]:
        if trial["state"] in ("waiting", "cancelled"):  # under way when the last verdict came in
            assert trial["id"] not in culprit["trials"] and not trial["metrics"]
            continue
        assert (
            trial["state"] == "finished" and trial["slot"] is None and set(trial["metrics"]) == {"bbox/AP", "segm/AP"}
        )
        broken = "ROI_ALIGN_MASK" in trial["flags"]
        wanted = "baseline" if not trial["flags"] else "broken" if broken else "fine"
        assert trial["verdict"]["segm"] == wanted
    depths = {tuple(row["flags"]): row["depth"] for row in summary["subsets"]}
    assert {flags for flags, depth in depths.items() if not depth} == {(), tuple(summary["flags"])}
    documented = (store.Path(__file__).parents[1] / "docs" / "status-json.md").read_text()
    for key in (*summary, *summary["trials"][0], *summary["subsets"][0], *summary["subsets"][1]["evidence"]["segm"]):
        assert f"`{key}`" in documented, f"{key} is not documented"


def test_status_off_a_terminal_is_plain_lines(finished):
    lines = look(finished, "status").output.splitlines()  # the most recent campaign
    assert lines[0] == "campaign done: finished"
    assert any(re.match(r" +t\d\d ROI_ALIGN_MASK, seed 0: finished", line) for line in lines)
    assert any(re.match(r"culprit of segm: ROI_ALIGN_MASK, confidence 9[89]\.", line) for line in lines)


def test_the_table_fits_120_columns(finished):
    from rich.console import Console

    from bisect_cli.report.summary import summarize_folder
    from bisect_cli.report.table import render

    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(summarize_folder(finished.runs / "done")))
    text = console.export_text()
    assert "└ ROI_ALIGN_MASK" in text and "✗ broken" in text and "✓ fine" in text
    assert "…" not in text and max(map(len, text.splitlines())) <= 120


def test_list_and_logs(finished):
    listed = look(finished, "list").output
    assert re.search(r"done  finished  \d+ runs  bbox: nothing breaks; segm: ROI_ALIGN_MASK", listed)
    result = look(finished, "logs", "t01", "-f")
    assert result.exit_code == 0 and result.output == ""
    (finished.runs / "done" / "trials" / "t01" / "attempt-1" / "stdout.txt").write_text("step 1\n")
    assert look(finished, "logs", "t01", "--name", "done").output == "step 1\n"


def test_list_without_campaigns(cli):
    assert cli("list").output.startswith("No campaigns in runs")


def test_a_finished_campaign_is_shown_again_not_run_again(finished):
    before = len(finished.starts())
    result = look(finished, "resume", "done")
    assert result.exit_code == 0 and "segm: ROI_ALIGN_MASK" in result.output
    assert len(finished.starts()) == before


def test_start_with_the_same_settings_resumes(cli, bench):
    first = cli("start", "--flags", "L2B5", "--name", "x", "--max-runs", "4")
    assert first.exit_code == 3
    assert (
        "Inconclusive (the budget of 4 runs is spent). Resume it with: maskrcnn-bisect resume x --max-runs N"
        in first.output
    )
    second = cli(
        "start", "--flags", "BATCH_MASK_LOSS,ROI_ALIGN_MASK,crop_and_resize_mask", "--name", "x", "--max-runs", "9"
    )
    assert second.exit_code == 0, second.output
    assert 7 <= len(bench.starts()) == len(set(bench.starts())) <= 9


def test_without_a_name_the_date_and_a_number_are_taken(cli, bench):
    for _ in range(2):
        assert cli("start", "--flags", "MASK_LOSS", "--seeds", "1").exit_code == 0
    one, two = sorted(path.name for path in bench.runs.iterdir())
    assert one.endswith("-1") and two.endswith("-2") and one[:-2] == two[:-2]


def test_dry_run_writes_nothing(cli, bench):
    result = cli("start", "--flags", "L2B5", "--dry-run")
    assert result.exit_code == 0
    assert "baseline (all off): 3 runs" in result.output and "6 runs if nothing breaks; at most" in result.output
    assert "not known until a first run" in result.output
    assert "evaluated at step 600 too, and stopped there if that settles their verdict" in result.output
    assert not bench.runs.exists() and not bench.starts()


@pytest.mark.parametrize(
    "words, asked",
    [
        ([], ["eval_every=600"]),
        (["--set", "steps=900"], ["steps=900", "eval_every=540"]),
        (["--set", "eval_every=50"], ["eval_every=50"]),
        (["--no-early-stop"], []),
    ],
)
def test_a_run_that_may_be_stopped_early_is_evaluated_on_the_way(cli, bench, words, asked):
    cli("start", "--flags", "L2B5", "--name", "c", "--max-runs", "1", "--no-parity", *words)
    (argv,) = (event["argv"] for event in bench.events() if event["kind"] == "started")
    assert [value for option, value in zip(argv, argv[1:]) if option == "--set"] == asked
    summary = cli("start", "--flags", "L2B5", "--dry-run", *words).output
    assert ("evaluated at step" in summary) == (words != ["--no-early-stop"] and "eval_every=50" not in words)
    assert store.load(bench.runs / "c")[0].settings.early_stop == ("--no-early-stop" not in words)


def test_campaigns_from_before_there_was_early_stopping_are_resumed_without():
    old = {"name": "old", "flags": ["MASK_LOSS"], "metrics": ["bbox", "segm"], "preset": "shapes", "plants": []}
    settings = fold([upgraded({"kind": "created", "settings": old})]).settings
    assert not settings.early_stop and "--set" not in TRAINER.argv(settings, (), 0, "out")
    assert not settings.differences(dataclasses.replace(settings, early_stop=True))  # the same `start` resumes it


def test_dry_run_learns_the_time_from_earlier_runs(finished):
    words = ["start", "--flags", "all", "--dry-run", "--slots", "1", "--runs-dir", str(finished.runs)]
    result = CliRunner().invoke(main, words, obj=finished.trainer)
    assert "as earlier ones took" in result.output


@pytest.mark.parametrize(
    "words, said",
    [
        (["--flags", "RPN_LOS"], "unknown flag or group 'RPN_LOS': did you mean RPN_LOSS"),
        (["--flags", ""], "--flags is empty"),
        ([], "Missing option '--flags'"),
        (["--flags", "all", "--slots", "0"], "--slots 0: at least one run"),
        (["--flags", "all", "--slots", "two"], "'two' is not a valid integer"),
        (["--flags", "all", "--seeds", "0"], "--seeds 0"),
        (["--flags", "all", "--max-runs", "-1"], "--max-runs -1"),
        (["--flags", "all", "--batch", "0"], "--batch 0"),
        (["--flags", "all", "--search", "guess"], "Invalid value for '--search'"),
        (["--flags", "all", "--suspect", "RPN_LOS=2"], "unknown flag 'RPN_LOS': did you mean RPN_LOSS"),
        (["--flags", "all", "--suspect", "RPN_LOSS=often"], "write FLAG=TIMES"),
        (["--flags", "L2B5", "--trust", "RPN_LOSS"], "--trust RPN_LOSS: it is not among --flags"),
        (["--flags", "all", "--metric", "segm/AP_big"], "unknown metric 'segm/AP_big': did you mean"),
        (["--flags", "all", "--preset", "shape"], "unknown preset 'shape'"),
        (["--flags", "all", "--plant", "RPN_LOSS=no_such"], "unknown fault 'RPN_LOSS=no_such'"),
        (["--flags", "all", "--data", "."], "is not a COCO folder"),
        (["--flags", "all", "--name", "../up"], "campaign name '../up'"),
        (["--flags", "all", "--name", "data"], "campaign name 'data'"),
        (["--flags", "all", "--frobnicate"], "No such option"),
        (["--flags", "all", "--runs-dir", "table.json"], "cannot write in table.json"),
    ],
)
def test_wrong_input_is_said_in_one_line(cli, bench, words, said):
    result = cli("start", *words)
    assert result.exit_code == 2
    assert said in result.output and result.output.startswith("maskrcnn-bisect: ")
    assert result.output.count("\n") == 1
    assert not bench.runs.exists() and not bench.starts()


@pytest.mark.parametrize(
    "words, said",
    [
        (["status", "don"], "no campaign 'don' in"),
        (["resume", "nothing"], "there is done"),
        (["stop", "nothing"], "no campaign 'nothing'"),
        (["logs", "t99"], "unknown trial of campaign 'done' 't99'"),
        (["resume", "done", "--slots", "0"], "--slots 0"),
    ],
)
def test_unknown_campaigns_and_trials(finished, words, said):
    result = look(finished, *words)
    assert result.exit_code == 2 and said in result.output and result.output.count("\n") == 1


def test_status_without_campaigns(cli):
    result = cli("status")
    assert result.exit_code == 2 and "no campaign in runs: begin one" in result.output


def test_a_name_in_use_with_other_settings(finished):
    words = ["start", "--flags", "all", "--name", "done", "--seeds", "4", "--runs-dir", str(finished.runs)]
    result = CliRunner().invoke(main, words, obj=finished.trainer)
    assert result.exit_code == 2
    assert "name 'done' is already in use, with other flags, seeds: choose another --name, or resume" in result.output
    assert f"maskrcnn-bisect resume done --runs-dir {finished.runs}" in result.output


def test_a_trainer_that_cannot_run(bench):
    result = CliRunner().invoke(main, ["start", "--flags", "all"], obj=["no-such-trainer"])
    assert result.exit_code == 2 and "the trainer no-such-trainer cannot be run" in result.output
    result = CliRunner().invoke(main, ["start", "--flags", "all"], obj=[sys.executable, "-c", "1/0"])
    assert result.exit_code == 1 and "ZeroDivisionError" in result.output and result.output.count("\n") == 1


def test_a_damaged_log_is_said_and_resumed(cli, bench):
    cli("start", "--flags", "L2B5", "--name", "x", "--max-runs", "5")
    log = bench.runs / "x" / store.LOG
    lines = log.read_bytes().splitlines(keepends=True)
    ended = next(i for i, line in enumerate(lines) if b'"ended"' in line)
    lines[ended] = lines[ended].replace(b"finished", b"finishes")
    log.write_bytes(b"".join(lines) + b'{"crc":"torn')
    assert f"note: line {ended + 1} of events.jsonl is corrupt and was skipped" in cli("status", "x").output

    result = cli("resume", "x", "--max-runs", "20")
    assert result.exit_code == 0
    assert result.output.count("is corrupt and was skipped") == 2 and "cut short, as by a crash" in result.output
    assert "is corrupt and was skipped" in cli("status", "x").output
    assert len(bench.starts()) == len(set(bench.starts()))  # the run whose end was lost had its result on disk


def test_looking_needs_no_tensorflow():
    import subprocess

    code = (
        "import sys; from bisect_cli import cli; from bisect_cli.run import session;"
        "from bisect_cli.report import live, table;"
        "sys.exit(any(name.split('.')[0] in ('tensorflow', 'tensorpack') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_logs_of_a_campaign_by_either_way(finished):
    outputs = [look(finished, "logs", *words) for words in (["t01"], ["done", "t01"], ["t01", "--name", "done"])]
    assert {result.exit_code for result in outputs} == {0} and len({result.output for result in outputs}) == 1
    for words in (["done", "t01", "--name", "done"], ["a", "b", "t01"]):
        result = look(finished, "logs", *words)
        assert result.exit_code == 2 and "name one campaign and one run of it" in result.output
    assert look(finished, "logs").exit_code == 2


def test_runs_that_a_campaign_ended_without_wait_no_more(finished, tmp_path):
    """They were stopped, and the rest did without; runs of several attempts say so."""
    shutil.copytree(finished.runs / "done", tmp_path / "runs" / "done")
    log = tmp_path / "runs" / "done" / store.LOG
    state, _ = store.load(log.parent)
    name = f"t{len(state.trials) + 1:02d}"
    writer = eventlog.Writer(log)
    for attempt in (1, 2):
        writer.append(record_of(Started(name, ("MASK_LOSS",), 7, attempt, 1), 1e9))
        writer.append(record_of(Ended(name, "stopped", attempt, reason="stopped on request"), 1e9))
    writer.append(record_of(Closed("finished"), 1e9))
    writer.close()
    result = CliRunner().invoke(main, ["status", "done", "--runs-dir", str(tmp_path / "runs")])
    (line,) = (line for line in result.output.splitlines() if line.strip().startswith(f"{name} "))
    assert "not completed" in line and line.endswith("2 attempts")
    assert "waiting" not in line and "stopped on request" not in line
