"""`Bisection`: a campaign in memory, from Python."""

import contextlib
import io
import json
import math
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bisect_cli import Bisection
from bisect_cli.campaign.spec import Flag, Metric
from bisect_cli.cli import main
from bisect_cli.errors import UserError

FLAGS = ["a", "b", "c", "d", "e", "f"]
PAGE = Path(__file__).parents[1] / "docs" / "ask-and-tell.md"


def value(flags, seed, culprits, drop=0.12, noise=0.015):
    """What a run of `culprits` comes to."""
    broken = any(set(culprit) <= set(flags) for culprit in culprits)
    return 0.7 - drop * broken + random.Random(f"{flags} {seed}").gauss(0, noise)


def finish(bisection, culprits, count=1, factor=1.0, offset=0.0):
    """Makes the runs that are asked for until it is over; returns them."""
    made = []
    while not bisection.done:
        runs = bisection.ask(count)
        assert runs and len(made) < 60, "it does not end"
        for run in runs:
            if run in bisection.out:  # not let go
                bisection.tell(run, {"m": factor * value(run.flags, run.seed, culprits) + offset})
        made += runs
    return made


def named(bisection):
    return [culprit.flags for culprit in bisection.result["m"].culprits]


@pytest.mark.parametrize("search", ["bayes", "halving", "ddmin"])
@pytest.mark.parametrize("culprits", [[], [("c",)], [("b", "e")]], ids=["none", "one", "pair"])
def test_it_names_what_breaks(search, culprits):
    bisection = Bisection(FLAGS, {"m": "higher"}, search=search, noise=0.015, smallest_drop=0.05)
    assert bisection.result == {"m": None} and bisection.state == "waiting"
    made = finish(bisection, culprits)
    assert bisection.state == "finished" and named(bisection) == culprits
    assert (bisection.result["m"].clean is None) == bool(culprits)
    assert len({(run.flags, run.seed) for run in made}) == len(made)
    assert bisection.ask() == []


@pytest.mark.parametrize("count", [2, 5])
def test_runs_side_by_side(count):
    bisection = Bisection(FLAGS, {"m": "lower"}, slots=count)
    made = finish(bisection, [("d",)], count + 3, factor=-40.0, offset=90.0)  # a loss, and a greedy caller
    assert named(bisection) == [("d",)] and len(made) < 30


def test_no_more_are_out_than_slots_and_what_is_out_is_not_asked_for_again():
    bisection = Bisection(FLAGS, {"m": "higher"}, slots=3)
    first, second = bisection.ask(2), bisection.ask(9)
    assert [run.id for run in first + second] == ["t01", "t02", "t03"] and bisection.ask() == []
    assert bisection.out == first + second and bisection.state == "running"
    bisection.tell("t02", {"m": 0.7})
    (run,) = bisection.ask(5)
    assert run.flags == tuple(FLAGS)


def test_the_budget():
    bisection = Bisection(FLAGS, {"m": "higher"}, max_runs=5)
    assert len(finish(bisection, [("a",)], 4)) == 5
    assert bisection.state == "inconclusive" and bisection.reason == "the budget of 5 runs is spent"
    assert bisection.result == {"m": None} and bisection.done


def test_flags_that_need_others():
    flags = [Flag("a"), Flag("b", needs=("a",)), Flag("c"), Flag("d", needs=("c",))]
    bisection = Bisection(flags, {"m": "higher"}, noise=0.015, smallest_drop=0.05)
    made = finish(bisection, [("b",)])
    (culprit,) = bisection.result["m"].culprits
    assert culprit.flags == ("b",) and culprit.needed == ("a",)
    assert all(set(flag.needs) <= set(run.flags) for run in made for flag in flags if flag.name in run.flags)


@pytest.mark.parametrize("number", range(6))
def test_it_never_waits_for_nothing(number):
    """Whatever crashes, is undone or ends late: there is always a run to ask for, one out, or an end."""
    chance = random.Random(number)
    slots = chance.choice([None, 1, 2, 4])
    bisection = Bisection(FLAGS, {"m": "higher"}, slots=slots, noise=0.015, smallest_drop=0.05)
    asked = []
    while not bisection.done:
        new = bisection.ask(chance.choice([1, 2, 5])) if chance.random() < 0.7 or not bisection.out else []
        asked += [(run.id, run.attempt) for run in new]
        assert len(asked) == len(set(asked)) < 200 and (slots is None or len(bisection.out) <= slots)
        assert bisection.out or bisection.done
        run, luck = chance.choice(bisection.out), chance.random()
        if luck < 0.15:
            bisection.crashed(run)
            continue
        if luck < 0.25:
            bisection.tell(run, {"m": chance.random()})
            bisection.undo(run)
        if run in bisection.out:
            bisection.tell(run, {"m": value(run.flags, run.seed, [("b", "e")])})
    assert named(bisection) == [("b", "e")]


def test_kept_and_gone_on_with_at_every_step():
    plain = Bisection(FLAGS, {"m": "higher"})
    runs = finish(plain, [("c",)])
    kept, seen = Bisection(FLAGS, {"m": "higher"}), []
    while not kept.done:
        kept = Bisection.from_json(json.loads(json.dumps(kept.to_json())))
        seen += kept.ask()
        kept = Bisection.from_json(json.loads(json.dumps(kept.to_json())))
        assert kept.out == seen[-1:]
        kept.tell(seen[-1].id, {"m": value(seen[-1].flags, seen[-1].seed, [("c",)])})
    assert seen == runs and kept.result == plain.result
    assert kept.summary()["subsets"] == plain.summary()["subsets"]


def test_an_end_is_undone_and_verdicts_follow():
    bisection = Bisection(FLAGS, {"m": "higher"}, noise=0.015, smallest_drop=0.05)
    for run in bisection.ask(4):
        bisection.tell(run, {"m": 0.7})
    assert bisection.verdicts["m"][tuple(FLAGS)].call != "broken"
    with pytest.raises(UserError, match=r"t04 has ended already \(finished\): undo that first"):
        bisection.tell(run, {"m": 0.5})
    bisection.undo(run)
    assert bisection.out == [run] and tuple(FLAGS) not in bisection.verdicts["m"]
    bisection.tell(run, {"m": 0.4})
    assert bisection.verdicts["m"][tuple(FLAGS)].call == "broken"
    finish(bisection, [("b",)])
    assert named(bisection) == [("b",)]
    bisection.undo(run)
    bisection.diverged(run)
    assert bisection.verdicts["m"][tuple(FLAGS)].diverged == 1


def test_crashes_and_divergence():
    bisection = Bisection(FLAGS[:2], {"m": "higher"})
    *baseline, whole = bisection.ask(4)
    for run in baseline:
        bisection.tell(run, {"m": 0.7 + run.seed / 100})
    for attempt in (1, 2, 3):
        assert (whole.id, whole.attempt) == ("t04", attempt)
        bisection.crashed(whole, "out of memory")
        whole = bisection.ask()[0]
    assert whole.id == "t05"
    trial = bisection.summary()["trials"][3]
    assert (trial["state"], trial["reason"], trial["verdict"]) == ("crashed", "out of memory", {"m": "crashed"})
    bisection.tell(whole, {"m": math.nan})
    assert bisection.summary()["trials"][4]["state"] == "diverged"


def test_without_a_baseline_there_is_no_result():
    bisection = Bisection(FLAGS, {"m": "higher"}, seeds=1, noise=0.01)
    bisection.diverged(bisection.ask()[0])
    assert bisection.done and bisection.state == "failed" and "the baseline" in bisection.reason
    assert bisection.result == {"m": None}


def test_metrics_and_flags_that_are_declared():
    metrics = [Metric("acc", "val/acc", low=0.0, high=1.0, noise=0.01), Metric("loss", "loss", higher_is_better=False)]
    bisection = Bisection(
        [Flag("amp"), Flag("fused", needs=("amp",))],
        metrics,
        groups={"both": ["fused", "amp"]},
        suspects={"amp": 3},
        trusts=["fused"],
        targets={"acc": 0.8},
        smallest_drop={"acc": 0.05},
    )
    run, *_ = bisection.ask()
    with pytest.raises(UserError, match="t01: acc=7 is outside of its range, 0 to 1"):
        bisection.tell(run, {"acc": 7, "loss": 1})
    with pytest.raises(UserError, match="t01: loss is missing; what is needed is acc, loss"):
        bisection.tell(run, {"val/acc": 0.7})
    bisection.tell(run, {"val/acc": 0.7, "loss": "1.5"})
    summary = bisection.summary()
    assert summary["trials"][0]["metrics"] == {"val/acc": 0.7, "loss": 1.5} and summary["folder"] is None
    assert summary["baseline"]["acc"]["target"] == 0.8 and summary["settings"]["suspects"] == {"amp": 3.0}


@pytest.mark.parametrize(
    "given, said",
    [
        ({"flags": []}, r"flags=\[\]: give a list of one or more"),
        ({"flags": "a"}, "flags='a': give a list"),
        ({"flags": ["a", "A"]}, "flag 'a': there are two of that name"),
        ({"flags": ["a", "b,c"]}, "flag 'b,c': a name is a text without"),
        ({"flags": [Flag("a", needs=("b",))]}, "a needs b"),
        ({"metrics": {}}, "metrics={}: give a list"),
        ({"metrics": {"m": "up"}}, 'metric m: write "higher" or "lower"'),
        ({"search": "guess"}, "unknown search 'guess'"),
        ({"seeds": 0}, "seeds=0: give a whole number, 1 or more"),
        ({"slots": 1.5}, "slots=1.5: give a whole number"),
        ({"noise": {"n": 1}}, "unknown metric 'n'"),
        ({"noise": -1}, "noise -1.0: write a number above 0"),
        ({"suspects": ["g"]}, "unknown flag 'g'"),
        ({"groups": {"g": ["z"]}}, "unknown flag of group g 'z'"),
        ({"targets": {"m": "high"}}, "target m=high: write METRIC=VALUE"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(given, said):
    with pytest.raises(UserError, match=said) as raised:
        Bisection(**{"flags": FLAGS, "metrics": {"m": "higher"}, **given})
    assert "\n" not in str(raised.value)


def test_wrong_calls():
    bisection = Bisection(FLAGS, {"m": "higher"})
    (run,) = bisection.ask()
    before = bisection.to_json()
    for call, said in (
        (lambda: bisection.tell("t09", {"m": 1}), "unknown trial of campaign 'bisection' 't09'"),
        (lambda: bisection.tell(run, {"n": 1}), "unknown metric 'n'"),
        (lambda: bisection.tell(run, {"m": None}), "t01: m=None is no number"),
        (lambda: bisection.undo(run), "t01 has not ended"),
        (lambda: bisection.ask(0), "count=0"),
        (lambda: Bisection.from_json([]), "that is no list that to_json returned"),
        (lambda: Bisection.from_json([{"kind": "created"}]), "that is no list"),
        (lambda: Bisection.from_json("x"), "that is no list"),
    ):
        with pytest.raises(UserError, match=said):
            call()
    assert bisection.to_json() == before


def test_nothing_heavy_is_imported_before_one_is_made():
    code = "import sys; from bisect_cli import Bisection; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(ImportError):
        from bisect_cli import Bisector  # noqa: F401


# --- the page that says how


def test_the_example_of_the_page_runs():
    page = PAGE.read_text()
    first, second = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(first + second, {})
    assert f"```\n{printed.getvalue()}```" in page


def test_the_transcript_of_the_page_is_true(tmp_path, monkeypatch):
    """But for the folder and the time of day."""
    place = tmp_path / "digits"
    place.mkdir()
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    monkeypatch.chdir(place)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    transcript = re.search(r"```\n(\$ .*?)\n```", PAGE.read_text(), re.DOTALL)[1]
    for step in re.split(r"^\$ ", transcript, flags=re.MULTILINE)[1:]:
        command, _, wanted = step.replace("\\\n", "").partition("\n")
        command, _, comments_only = command.partition(" | grep ")
        result = CliRunner().invoke(main, shlex.split(command)[1:])
        assert result.exit_code == 0, result.output
        lines = [line for line in result.output.splitlines() if not line.startswith("note: ")]
        lines = [line for line in lines if line.startswith("#") or not comments_only]
        said = "\n".join(lines).replace(str(tmp_path), "/data")
        assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "", said) == re.sub(
            r"\d{4}-\d\d-\d\d \d\d:\d\d", "", wanted.rstrip("\n")
        )
