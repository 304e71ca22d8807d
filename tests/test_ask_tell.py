"""Campaigns whose runs people start: `ask` hands them out, `tell` says how they ended."""

import json
import re
import shlex
import subprocess
import sys

import fake_trainer
import pytest
from bisecting import BLOCK, Bench
from click.testing import CliRunner

from bisect_cli import Bisection
from bisect_cli.campaign.state import ATTEMPTS
from bisect_cli.cli import main
from bisect_cli.storage import store
from bisect_cli.trainers.maskrcnn import SPEC

TRUTH = {"breaks": {"segm": [["ROI_ALIGN_MASK"]]}}
KEYS = {"bbox": "bbox/AP", "segm": "segm/AP"}


class Desk(Bench):
    """A bench with the commands, and the runs of its campaign `c` as people make them."""

    def __call__(self, *words):
        result = CliRunner().invoke(main, words, obj=self.trainer)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    def begin(self, *words):
        result = self("start", "--flags", "L2B5", "--name", "c", "--launcher", "manual", *words)
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    def ask(self, *words):
        """The runs that are handed out, as in the JSON."""
        result = self("ask", "c", "--json", *words)
        assert result.exit_code == 0, result.output
        return json.loads(result.output)["runs"]

    def tell(self, *words):
        """The lines printed."""
        result = self("tell", "c", *words)
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    def values(self, run, table=TRUTH):
        """What a run comes to, as words of `tell`."""
        found = fake_trainer.accuracies(table, run["flags"], run["seed"])
        return [f"{name}={found[key]:.4f}" for name, key in KEYS.items()]

    def go_on(self, count=1, table=TRUTH):
        """Makes all runs that are asked for until the campaign is over; returns them in their order."""
        made, out = [], []
        while True:
            out += self.ask("--count", str(count)) if self.state.state == "open" else []
            if not out:
                return made
            run = out.pop()  # the youngest ends first
            if self.state.trials[run["id"]].state != "cancelled":
                self.tell(run["id"], *self.values(run, table))
            made.append(run)

    @property
    def state(self):
        return store.load(self.runs / "c")[0]

    def error(self, *words):
        """The line that a wrong command prints, which changes nothing."""
        before = (self.runs / "c" / store.LOG).read_bytes()
        result = self(*words)
        assert result.exit_code == 2 and result.output.count("\n") == 1, result.output
        assert (self.runs / "c" / store.LOG).read_bytes() == before
        return result.output


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, **TRUTH)


# --- whole campaigns


def test_start_says_what_is_next_and_returns(desk):
    lines = desk.begin()
    assert lines[1] == "campaign c: waiting"
    assert "next: baseline (all off), seed 0" in lines
    assert lines[-2:] == [
        "Take a run with: maskrcnn-bisect ask c",
        "Say how it ended with: maskrcnn-bisect tell c TRIAL bbox=VALUE segm=VALUE",
    ]
    assert not desk.starts() and not desk.state.trials and not (desk.runs / "c" / "lease.json").read_text()
    assert not desk.state.settings.early_stop and desk.state.parity is None


@pytest.mark.parametrize("count", [1, 3])
def test_a_campaign_ends_in_the_right_culprit(desk, count):
    desk.begin()
    made = desk.go_on(count)
    assert len(made) < 15 and len({(tuple(run["flags"]), run["seed"]) for run in made}) == len(made)
    assert [run["id"] for run in sorted(made, key=lambda run: run["id"])] == list(desk.state.trials)
    summary = desk.status()
    assert summary["state"] == "finished" and summary["resume"] is None
    assert [one["flags"] for one in summary["culprits"]["segm"]] == [["ROI_ALIGN_MASK"]]
    assert summary["conclusion"] == {"bbox": "clean", "segm": "culprits"} and not desk.starts()
    result = desk("ask", "c")
    assert result.exit_code == 0 and all(line.startswith("# ") for line in result.output.splitlines())
    assert "# segm: ROI_ALIGN_MASK (confidence 99." in result.output
    assert desk("explain", "c").exit_code == desk("list").exit_code == 0


def test_after_each_end_it_says_what_changed_and_what_is_next(desk):
    desk.begin()
    runs = desk.ask("--count", "4")
    for run in runs[:3]:
        lines = desk.tell(run["id"], *desk.values(run))
    assert lines[-1] == "out: t04"
    assert lines[0].startswith("t03 baseline (all off), seed 2: finished, bbox .694, segm .697")
    lines = desk.tell("t04", *desk.values(runs[3]))
    assert re.match(r"t04 .*: finished, bbox \.\d+ \(.*\) \w+, segm \.\d+ \(-\.\d+\) broken$", lines[0])
    assert any(line.startswith("segm: so far: ") for line in lines)
    assert lines[-1].startswith("next: ") and "bits)" in lines[-1]
    run = desk.go_on()[-1]
    desk.tell(run["id"], "--undo")
    lines = desk.tell(run["id"], *desk.values(run))
    assert "campaign c: finished" in lines and lines[-1].startswith("segm: ROI_ALIGN_MASK (confidence")


def test_the_class_asks_for_the_same_runs(desk):
    desk.begin("--slots", "2")
    metrics = [SPEC.metric(name) for name in KEYS]
    other = Bisection([flag for flag in SPEC.flags if flag.name in BLOCK], metrics, slots=2)
    while not other.done:
        runs, others = desk.ask("--count", "2"), other.ask(2)
        assert [(run["id"], tuple(run["flags"]), run["seed"], run["attempt"], run["why"]) for run in runs] == [
            (one.id, one.flags, one.seed, one.attempt, one.why) for one in others
        ]
        for run in runs:
            desk.tell(run["id"], *desk.values(run))
            other.tell(run["id"], dict(value.split("=") for value in desk.values(run)))
    state, summary = desk.state, other.summary()
    assert state.state == other.state == "finished" and list(state.trials) == [one["id"] for one in summary["trials"]]
    theirs = desk.status()
    assert {key for key in summary if summary[key] != theirs[key]} <= {"name", "folder", "settings", "spec", "trials"}


# --- what is handed out


def test_what_ask_prints_can_be_run_by_a_shell(desk):
    desk.begin()
    script = desk("ask", "c", "--count", "2").output
    first, line, _, _, last = script.splitlines()
    assert first == "# t01: baseline (all off), seed 0"
    assert last == "# then say how it ended: maskrcnn-bisect tell c TRIAL bbox=VALUE segm=VALUE"
    home = desk.runs / "c" / "trials" / "t01"
    words = shlex.split(line)
    assert words[:3] == ["cd", str(desk.folder), "&&"] and str(home / "out") in words
    subprocess.run(["sh"], input=script, text=True, check=True)
    assert desk.starts() == ["- 0", "- 1"] and (home / "attempt-1" / "stderr.txt").exists()
    job = json.loads((home / "attempt-1" / "job.json").read_text())
    assert job["argv"] == next(event["argv"] for event in desk.events() if event["kind"] == "started")
    trial = desk.status()["trials"][0]
    assert trial["state"] == "running" and trial["step"] == trial["steps"] == 20

    lines = desk.tell("t01", "--from", "--node", "9")
    assert lines[0].startswith("t01 baseline (all off), seed 0 on node 9: finished, bbox .7")
    trial = desk.state.trials["t01"]
    assert trial.wall > 0 and trial.metrics == fake_trainer.accuracies(TRUTH, (), 0)
    assert not (home / "attempt-1" / "exit.json").exists()


def test_the_json_has_all_that_a_job_needs(desk):
    desk.begin()
    answer = json.loads(desk("ask", "c", "--node", "7", "--json").output)
    assert {key: answer[key] for key in ("name", "state", "reason", "waits_for")} == {
        **{"name": "c", "state": "running", "reason": "", "waits_for": []},
    }
    (run,) = answer["runs"]
    assert (run["id"], run["flags"], run["seed"], run["attempt"], run["node"]) == ("t01", [], 0, 1, "7")
    assert run["cwd"] == str(desk.folder) and run["argv"][:2] == list(desk.trainer[:2]) and run["env"] == {}
    assert "--out" in run["command"] and (desk.runs / "c" / "trials" / "t01" / "out").is_dir()
    documented = (store.Path(__file__).parents[1] / "docs" / "ask-and-tell.md").read_text()
    assert all(f"`{key}`" in documented for key in (*answer, *run))


def test_who_asks_at_the_same_time_gets_another_run(desk):
    desk.begin()
    processes = [desk.spawn("ask", "c", "--json") for _ in range(5)]
    ends = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * 5, ends
    runs = [run for out, _ in ends for run in json.loads(out)["runs"]]
    assert {run["id"] for run in runs} == {f"t0{i}" for i in range(1, 6)} == set(desk.state.trials)
    assert len({(tuple(run["flags"]), run["seed"]) for run in runs}) == 5


def test_fewer_are_handed_out_if_no_more_are_worth_it(desk):
    desk.begin()
    runs = desk.ask("--count", "50")
    assert 4 < len(runs) < 20
    output = desk("ask", "c").output
    assert output == f"# no other run is worth it before these have ended: {', '.join(run['id'] for run in runs)}\n"
    answer = json.loads(desk("ask", "c", "--json").output)
    assert answer["runs"] == [] and answer["waits_for"] == [run["id"] for run in runs]


def test_no_more_are_out_than_there_are_slots(desk):
    desk.begin("--slots", "2")
    assert len(desk.ask("--count", "5", "--node", "3")) == 2
    assert desk("ask", "c").output == "# 2 runs are out, as many as --slots allows: t01 (node 3), t02 (node 3)\n"
    desk.tell("t02", "bbox=.7", "segm=.7")
    assert len(desk.ask("--count", "5")) == 1


def test_the_budget_is_kept_and_can_be_raised(desk):
    desk.begin("--max-runs", "4")
    runs = desk.ask("--count", "9")
    assert len(runs) == 4
    assert desk("ask", "c").output == "# the budget of 4 runs is spent before these have ended: t01, t02, t03, t04\n"
    for run in runs:
        desk.tell(run["id"], *desk.values(run))
    result = desk("ask", "c")
    said = "(the budget of 4 runs is spent). Resume it with: maskrcnn-bisect ask c --max-runs N"
    assert result.exit_code == 3 and said in result.output
    (run,) = desk.ask("--max-runs", "20")
    assert run["id"] == "t05"
    desk.tell("t05", *desk.values(run))
    desk.go_on()
    assert desk.state.state == "finished"


def test_a_run_that_can_no_longer_matter_is_let_go_and_still_counts(desk):
    desk.begin()
    runs = desk.ask("--count", "50", "--node", "5")
    lines = []
    for run in runs:
        if desk.state.trials[run["id"]].state == "running":
            lines += desk.tell(run["id"], *desk.values(run))
    let_go = [trial for trial in desk.state.trials.values() if trial.state == "cancelled"]
    assert let_go and any(re.match(r".* on node 5: cancelled: it could no longer matter$", line) for line in lines)
    late = next(run for run in runs if run["id"] == let_go[0].id)
    desk.tell(late["id"], *desk.values(late))
    assert desk.state.trials[late["id"]].state == "finished"
    lines = desk.tell(late["id"], "--undo")
    assert lines[0].endswith("undone, it is cancelled again")


# --- how runs end


def test_a_wrong_end_is_taken_back_and_verdicts_follow(desk):
    desk.begin()
    for run in desk.ask("--count", "4"):
        wrong = ["bbox=.7", "segm=.69"] if run["id"] == "t04" else desk.values(run)
        desk.tell(run["id"], *wrong, "--node", "2")
    assert desk.status()["trials"][3]["verdict"]["segm"] == "undecided"
    assert desk.error("tell", "c", "t04", "bbox=.7", "segm=.5") == (
        "maskrcnn-bisect: t04 has ended already (finished): undo that first (--undo).\n"
    )
    lines = desk.tell("t04", "--undo")
    assert lines[0] == "t04 ROI_ALIGN_MASK, CROP_AND_RESIZE_MASK, MASK_LOSS, seed 0: undone, it is out again"
    trial = desk.status()["trials"][3]
    assert trial["state"] == "running" and not trial["metrics"] and not trial["verdict"] and trial["started"]
    desk.tell("t04", "bbox=.7", "segm=.5")
    assert desk.status()["trials"][3]["verdict"]["segm"] == "broken"
    desk.go_on()
    assert [one["flags"] for one in desk.status()["culprits"]["segm"]] == [["ROI_ALIGN_MASK"]]


def test_an_end_of_long_ago_is_taken_back_in_a_finished_campaign(desk):
    desk.begin()
    desk.go_on()
    before = desk.state
    assert before.state == "finished"
    name = next(trial.id for trial in before.trials.values() if trial.flags == BLOCK)
    run = {"flags": list(BLOCK), "seed": before.trials[name].seed}
    lines = desk.tell(name, "--undo")
    assert lines[0].endswith("undone, it is out again") and desk.state.state == "open"
    desk.tell(name, *desk.values(run, {"breaks": {"bbox": [list(BLOCK)]}}))
    assert desk.status()["state"] == "waiting" and desk.status()["conclusion"]["bbox"] == "searching"
    desk.tell(name, "--undo")
    desk.tell(name, *desk.values(run))
    assert desk.state.state == "finished" and desk.state.trials == before.trials


def test_an_imported_run_can_be_taken_back(desk):
    desk.set(**TRUTH, key={"code": "1"})
    assert desk("start", "--flags", "L2B5", "--name", "first", "--slots", "2").exit_code == 0
    assert desk.begin("--from", "first")[-1].startswith("segm: ROI_ALIGN_MASK")  # nothing is left to do
    assert desk.state.state == "finished" and all(trial.source for trial in desk.state.trials.values())
    lines = desk.tell("t01", "--undo")
    assert lines[0].endswith("undone, it is yet to be made") and "next: t01 again, baseline (all off), seed 0" in lines
    (run,) = desk.ask()
    assert (run["id"], run["attempt"], run["flags"]) == ("t01", 1, [])
    desk.tell("t01", *desk.values(run))
    assert desk.state.state == "finished" and desk.state.trials["t01"].source == ""


def test_three_crashes_are_no_evidence(desk):
    desk.begin()
    *baseline, whole = desk.ask("--count", "4")
    for run in baseline:
        desk.tell(run["id"], *desk.values(run))
    assert whole["flags"] == list(BLOCK)
    home = desk.runs / "c" / "trials" / "t04"
    for attempt in range(1, ATTEMPTS + 1):
        assert whole["id"] == "t04" and whole["attempt"] == attempt
        lines = desk.tell("t04", "--crashed", "out of memory", "--node", str(attempt))
        given_up = "; given up" if attempt == ATTEMPTS else ""
        assert lines[0].endswith(f"seed 0 on node {attempt}: crashed: out of memory{given_up}")
        (whole,) = desk.ask() if attempt < ATTEMPTS else [None]
    assert (home / f"out.before-attempt-{ATTEMPTS}").is_dir() and (home / "attempt-3").is_dir()
    assert desk.state.trials["t04"].state == "crashed" and desk.ask()[0]["id"] == "t05"
    trial = desk.status()["trials"][3]
    assert trial["verdict"]["segm"] == "crashed" and trial["node"] == "3" and trial["reason"] == "out of memory"
    desk.tell("t04", "--undo")
    desk.tell("t04", *desk.values({"flags": BLOCK, "seed": 0}))
    assert desk.status()["trials"][3]["verdict"]["segm"] == "broken"


def test_a_baseline_that_diverges_is_a_failure_that_can_be_undone(desk):
    desk.begin()
    desk.ask("--count", "4")
    desk.tell("t01", "bbox=nan", "segm=.5")
    assert desk.state.trials["t01"].state == "diverged"
    for name in ("t02", "t03"):
        lines = desk.tell(name, "--diverged")
    assert lines[-1] == "Failed (the baseline, with all flags off, diverged: there is nothing to compare with)."
    assert desk.state.trials["t04"].state == "cancelled" and desk("ask", "c").exit_code == 1
    desk.tell("t03", "--undo")
    assert desk.state.state == "open"


def test_divergence_is_a_result(desk):
    desk.begin()
    while desk.state.state == "open":
        (run,) = desk.ask()
        desk.tell(run["id"], *(["--diverged"] if "MASK_LOSS" in run["flags"] else desk.values(run, {})))
    found = desk.status()["culprits"]
    assert [[one["flags"] for one in found[metric]] for metric in KEYS] == [[["MASK_LOSS"]]] * 2


@pytest.mark.parametrize(
    "words, said",
    [
        (["t01"], "t01: say how it ended: METRIC=VALUE of each metric, --from [FOLDER], --crashed [WHY] or --diverged"),
        (["t01", "segm=.3"], "t01: bbox is missing; what is needed is bbox, segm"),
        (["t01", "segm=.3", "bbox=66"], "t01: bbox=66 is outside of its range, 0 to 1"),
        (["t01", "segm=.3", "bbox=-.1"], "outside of its range"),
        (["t01", "segm=.3", "bbox=x"], "t01: bbox=x is no number"),
        (["t01", "segm=.3", "bbox"], "t01: bbox: write METRIC=VALUE, each metric once"),
        (["t01", "segm=.3", "segm=.4"], "t01: segm=.4: write METRIC=VALUE, each metric once"),
        (["t01", "segm=.3", "segm/AP=.4"], "t01: segm is there twice"),
        (["t01", "segm=.3", "bbbox=.4"], "unknown metric 'bbbox': did you mean bbox"),
        (["t01", "segm=.3", "--crashed"], "t01: values and --crashed do not go together"),
        (["t01", "--undo", "--diverged"], "t01: --diverged and --undo do not go together"),
        (["t01", "--undo"], "t01 has not ended, so there is nothing to undo"),
        (["t01", "--from"], "t01: there is no result in "),
        (["t01", "--from", "nowhere"], "nowhere is no folder: name the one that the run wrote into"),
        (["t01", "--from", "runs/c/trials/t02/out"], "is the folder of t02: name that of t01"),
        (["t03", "--crashed"], "t03 is not out, but waits to be asked for"),
        (["t3", "--crashed"], "unknown trial of campaign 'c' 't3': did you mean"),
        (["--crashed", "t01"], "Missing argument 'TRIAL'"),
    ],
)
def test_wrong_ends_are_said_in_one_line_and_nothing_is_lost(desk, words, said):
    desk.begin()
    desk.ask("--count", "3")
    desk.tell("t03", "--crashed")
    assert said in desk.error("tell", "c", *words)
    assert "--count 0: there is nothing to hand out" in desk.error("ask", "c", "--count", "0")


def test_a_result_out_of_range_or_of_another_machine_is_refused(desk):
    desk.set(key={"code": "1"})
    desk.begin()
    desk.ask("--count", "2")
    result = {"status": "finished", "metrics": {"bbox/AP": 0.7, "segm/AP": 7}}
    place = desk.folder / "copied"
    place.mkdir()
    (place / "result.json").write_text(json.dumps(result))
    assert "segm is 7, outside of its range 0 to 1" in desk.error("tell", "c", "t01", "--from", "copied")
    result["metrics"]["segm/AP"] = 0.7
    (place / "result.json").write_text(json.dumps({**result, "key": {"code": "2"}}))
    assert "t01 was trained with another code than is found here" in desk.error("tell", "c", "t01", "--from", "copied")
    desk.set(key={"code": "2"})  # it has changed here, too
    lines = desk.tell("t01", "--from", "copied")
    assert lines[0] == "code has changed since the last run" and "finished, bbox .700" in lines[1]
    assert [desk.state.trials[name].state for name in ("t01", "t02")] == ["finished", "cancelled"]


# --- beside the others


def test_resume_and_stop_say_to_use_ask_and_tell(desk):
    desk.begin()
    desk.ask()
    said = "you start the runs of campaign 'c' yourself: go on with `maskrcnn-bisect ask c` and `maskrcnn-bisect tell"
    assert said in desk.error("resume", "c") and said in desk.error("stop", "c")
    said = "only launcher manual can find (t01); say how they ended, with `maskrcnn-bisect tell c`"
    assert said in desk.error("start", "--flags", "L2B5", "--name", "c", "--launcher", "local")


def test_a_campaign_that_starts_its_runs_itself_is_not_asked(desk):
    desk("start", "--flags", "L2B5", "--name", "c", "--slots", "2")
    said = "campaign 'c' starts its runs itself: resume it with `maskrcnn-bisect resume c`"
    assert said in desk.error("ask", "c") and said in desk.error("tell", "c", "t01", "--undo")
    created = desk.events()[0]
    del created["settings"]["launcher"]  # as campaigns from before there was a choice
    from bisect_cli.campaign.events import fold

    assert fold([created]).settings.launcher == "local"


def test_start_again_goes_on(desk):
    desk.begin()
    desk.ask("--count", "2")
    lines = desk.begin("--slots", "3")
    assert "campaign c: running" in lines and "out: t01, t02" in lines
    assert len(desk.ask("--count", "5")) == 1


def test_status_says_what_is_out_where_and_since_when(desk):
    desk.begin()
    assert desk.status()["state"] == "waiting" and desk.status()["slots"] is None
    desk.ask("--node", "7")
    desk.ask()
    summary = desk.status()
    assert summary["state"] == "running" and summary["resume"] == "maskrcnn-bisect ask c"
    assert [trial["node"] for trial in summary["trials"]] == ["7", None]
    started = [event["time"] for event in desk.events() if event["kind"] == "started"]
    assert [trial["started"] for trial in summary["trials"]] == started
    lines = desk("status", "c").output.splitlines()
    when = r"since \d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.fullmatch(rf"  t01 baseline \(all off\), seed 0: running, node 7 {when}", lines[1])
    assert re.fullmatch(rf"  t02 baseline \(all off\), seed 1: running, out {when}", lines[2])
    from rich.console import Console

    from bisect_cli.report.table import render

    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(summary))
    assert re.search(rf"node 7 {when}\n", console.export_text().replace(" " * 3, "\n"))


def test_how_long_runs_take_is_not_learned_from_people(desk):
    desk.begin()
    desk.go_on()
    assert "not known until a first run" in desk("start", "--flags", "L2B5", "--dry-run").output


def test_a_dry_run_before_people_start_the_runs(desk):
    assert desk("start", "--flags", "L2B5", "--slots", "2").exit_code == 0
    output = desk("start", "--flags", "L2B5", "--launcher", "manual", "--dry-run").output
    assert "baseline (all off): 3 runs" in output and "1 at once" in output and "parity" not in output


# --- a training of one's own

TRAIN = """
import argparse, json, os, sys
parser = argparse.ArgumentParser()
for name in ("--seed", "--out", "--flags"):
    parser.add_argument(name, default="")
given = parser.parse_args()
acc = 0.8 + int(given.seed) / 1000 - 0.1 * ("b" in given.flags.split(","))
print("accuracy", acc, os.environ.get("RUN", ""))
json.dump({"acc": acc}, open(os.path.join(given.out, "result.json"), "w"))
"""
FILE = """
[trainer]
command = ["{python}", "train.py", "--seed", "{{seed}}", "--out", "{{out}}", "--flags", "{{flags}}"]
env = {{ RUN = "of {{trial}}" }}
[flags.a]
[flags.b]
[metrics.acc]
source = "stdout"
pattern = 'accuracy (?P<value>\\S+) of t'
better = "higher"
"""


def test_a_command_of_ones_own(desk):
    (desk.folder / "train.py").write_text(TRAIN)
    command = [sys.executable, "train.py", "--seed", "{seed}", "--out", "{out}", "--flags", "{flags}"]
    words = ["--flags", "a,b", "--metric", "acc:higher", "--name", "c", "--launcher", "manual"]
    assert desk("start", *words, "--", *command).exit_code == 0
    while desk.state.state == "open":
        script = desk("ask", "c").output
        subprocess.run(["sh"], input=script, text=True, check=True)
        desk.tell(re.match("# (t[0-9]+)", script)[1], "--from")
    assert [one["flags"] for one in desk.status()["culprits"]["acc"]] == [["b"]]
    trial = desk.state.trials["t01"]
    assert trial.metrics == {"acc": 0.8} and trial.wall is None


def test_metric_rules_read_the_output_of_a_run(desk):
    (desk.folder / "train.py").write_text(TRAIN)
    (desk.folder / "bisect.toml").write_text(FILE.format(python=sys.executable))
    words = ["--flags", "all", "--trainer", "bisect.toml", "--name", "c", "--launcher", "manual"]
    assert desk("start", *words).exit_code == 0
    script = desk("ask", "c", "--count", "2").output
    assert "env 'RUN=of t01'" in script
    assert "t01: there is no result in" in desk.error("tell", "c", "t01", "--from")
    subprocess.run(["sh"], input=script, text=True, check=True)
    assert "finished, acc 0.8" in desk.tell("t01", "--from")[0]
    elsewhere = desk.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "stdout.txt").write_text("accuracy 0.75 of t02\n")
    assert "finished, acc 0.75" in desk.tell("t02", "--from", "elsewhere")[0]
