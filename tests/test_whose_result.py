"""A result counts only for the run that it is of, whatever the log has lost and whatever has been copied where."""

import json
import shutil
from types import SimpleNamespace

import fake_trainer
import pytest
from bisecting import BLOCK, Bench

from bisect_cli.analysis import analyse
from bisect_cli.errors import UserError
from bisect_cli.run import manual, whose
from bisect_cli.run.attempts import make_job
from bisect_cli.storage import eventlog, store
from bisect_cli.trainers.maskrcnn import FLAGS
from bisect_cli.trainers.maskrcnn import TRAINER as MASK_RCNN

FAULT = {"segm": [["ROI_ALIGN_MASK"]]}
TABLE = {"breaks": FAULT, "seconds": 0.0}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, **TABLE)


def culprits(state):
    found = analyse(state)
    return {metric: [one.flags for one in plan.culprits] for metric, plan in found.plans.items()}


def check_results(state):
    """Every result is that of its trial's own flags and seed."""
    for trial in state.trials.values():
        if trial.metrics:
            assert trial.metrics == fake_trainer.accuracies(TABLE, trial.flags, trial.seed), trial


def cut_log(folder, lines):
    log = folder / store.LOG
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:lines]))


def of(trial, **changes):
    return {"trial": trial.id, "flags": list(trial.flags), "seed": trial.seed, **changes}


def edit(path, **changes):
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, **changes}))


# --- the log is older than the folders


def test_a_log_cut_after_any_line_gives_the_same_verdict(bench):
    """With more slots, so that trials come in another order than before and ids are of other subsets."""
    whole = bench.run(slots=1, flags=FLAGS, search="bayes")
    assert whole.state == "finished"
    expected = culprits(whole)
    shutil.copytree(bench.runs / "c", bench.folder / "kept")
    number = len((bench.folder / "kept" / store.LOG).read_bytes().splitlines())
    for lines in range(1, number):
        shutil.rmtree(bench.runs / "c")
        shutil.copytree(bench.folder / "kept", bench.runs / "c")
        cut_log(bench.runs / "c", lines)
        state = bench.run(slots=6)
        assert state.state == "finished" and culprits(state) == expected, lines
        check_results(state)
        assert not any(line.startswith("TWICE") for line in bench.starts())


def test_a_folder_of_another_run_is_kept_aside(bench):
    """As where ids are used again: t04 was of other flags before."""
    state = bench.run()
    home = store.trial_folder(bench.runs / "c", "t04")
    settings, trial = state.settings, state.trials["t04"]
    marked = home / "out" / "of-before.txt"
    marked.write_text("here")
    run = SimpleNamespace(trial=None, flags=("MASK_LOSS",), seed=77)
    job = make_job(settings, run, home, 1)
    kept = home.with_name("t04.other-1")
    assert (kept / "out" / marked.name).read_text() == "here" and not marked.exists()
    assert job.of == {"campaign": settings.uid, "trial": "t04", "attempt": 1, "flags": ["MASK_LOSS"], "seed": 77}
    (home / "out" / "metrics.jsonl").write_text("")
    (home / "attempt-1").mkdir()
    (home / "attempt-1" / "job.json").write_text(json.dumps({"of": job.of}))
    make_job(settings, SimpleNamespace(trial=None, flags=trial.flags, seed=trial.seed), home, 1)
    assert home.with_name("t04.other-2").is_dir()


def test_what_is_not_told_apart_is_taken_over(bench):
    state = bench.run()
    home = store.trial_folder(bench.runs / "c", "t01")
    own = whose.owner(state.settings, "t01", (), state.trials["t01"].seed)
    whose.set_aside(state.settings, own, home)
    assert home.is_dir() and whose.explain_other(state.settings, own, home) == ""
    for folder in home.glob("attempt-*"):  # of a campaign from before these notes
        for name in ("job.json", "exit.json"):
            record = json.loads((folder / name).read_text())
            del record["of"]
            (folder / name).write_text(json.dumps(record))
    other = whose.owner(state.settings, "t09", BLOCK, 55)
    assert whose.explain_other(state.settings, other, home) == ""


# --- what says whose it is


def test_every_attempt_says_whose_it_is(bench):
    state = bench.run()
    for trial in state.trials.values():
        folder = store.trial_folder(bench.runs / "c", trial.id) / "attempt-1"
        expected = {"campaign": state.settings.uid, "attempt": 1, **of(trial)}
        for name in ("job.json", "exit.json"):
            assert json.loads((folder / name).read_text())["of"] == expected


CHANGES = [
    ({"flags": ["MASK_LOSS"]}, "other flags (MASK_LOSS)"),
    ({"flags": []}, "other flags (none)"),
    ({"seed": 9}, "another seed (9)"),
    ({"trial": "t99"}, "another trial (t99)"),
    ({"attempt": 2}, "another attempt (2)"),
    ({"campaign": "0123456789"}, "another campaign (0123456789)"),
]


@pytest.mark.parametrize("name", ["job.json", "exit.json"])
@pytest.mark.parametrize("changes, words", CHANGES)
def test_notes_of_another_run(bench, name, changes, words):
    state = bench.run()
    trial = state.trials_of(BLOCK)[0]
    home = store.trial_folder(bench.runs / "c", trial.id)
    own = whose.owner(state.settings, trial.id, trial.flags, trial.seed)
    note = home / "attempt-1" / name
    edit(note, of={**json.loads(note.read_text())["of"], **changes})
    assert whose.explain_other(state.settings, own, home) == f"attempt-1/{name} is of {words}"


@pytest.mark.parametrize("said", [3, [], {}, {"flags": "x", "seed": "y"}, {"flags": [3]}, {"flags": ["?"]}, None])
def test_notes_that_say_nothing(bench, said):
    state = bench.run()
    home = store.trial_folder(bench.runs / "c", "t01")
    for name in ("job.json", "exit.json"):
        edit(home / "attempt-1" / name, of=said)
    own = whose.owner(state.settings, "t01", (), state.trials["t01"].seed)
    assert whose.explain_other(state.settings, own, home) == ""


@pytest.mark.parametrize("name", ["result.json", "run.json"])
@pytest.mark.parametrize("changes, words", CHANGES[:3])
def test_the_mask_rcnn_says_whose_its_results_are(bench, name, changes, words):
    home = bench.folder / "t01"
    (home / "out").mkdir(parents=True)
    settings = bench.settings()
    own = whose.owner(settings, "t01", BLOCK, 3)
    (home / "out" / name).write_text(json.dumps({"flags": list(BLOCK), "seed": 3}))
    assert whose.explain_other(settings, own, home) == ""
    edit(home / "out" / name, **changes)
    assert whose.explain_other(settings, own, home) == f"{name} is of {words}"
    assert [found for found, _ in MASK_RCNN.whose(settings, home)] == [name]


def test_the_mask_rcnn_writes_its_flags_and_seed():
    pytest.importorskip("cv2")
    from maskrcnn.settings import Settings as Training

    assert {"flags", "seed"} <= set(Training.__dataclass_fields__)  # all of which it writes into both files


# --- runs that end


def interrupted(bench):
    """A campaign of which the first run of the whole set is under way in the log, and its process gone."""
    state = bench.run()
    (trial,) = [trial for trial in state.trials_of(BLOCK) if trial.seed == 0]
    records = eventlog.read(bench.runs / "c" / store.LOG).events
    started = next(i for i, record in enumerate(records) if record["kind"] == "started" and record["trial"] == trial.id)
    cut_log(bench.runs / "c", started + 1)
    logged = {record["trial"] for record in records[: started + 1] if "trial" in record}
    for home in (bench.runs / "c" / "trials").iterdir():
        if home.name not in logged:
            shutil.rmtree(home)  # what a later run says may be enough
    return trial


def test_a_result_of_the_run_itself_counts_after_the_controllers_death(bench):
    trial = interrupted(bench)
    before = len(bench.starts())
    state = bench.run()
    assert state.trials[trial.id].metrics == trial.metrics and state.trials[trial.id].attempts == 1
    assert f"{','.join(BLOCK)} 0" not in bench.starts()[before:]
    assert culprits(state)["segm"] == [("ROI_ALIGN_MASK",)]


@pytest.mark.parametrize("where", ["job.json", "exit.json", "result.json"])
def test_a_result_of_another_run_is_not_believed(bench, where):
    trial = interrupted(bench)
    home = store.trial_folder(bench.runs / "c", trial.id)
    edit(home / "out" / "result.json", metrics={"bbox/AP": 0.1, "segm/AP": 0.1})
    if where == "result.json":
        edit(home / "out" / where, flags=["MASK_LOSS"], seed=0)
    else:
        edit(home / "attempt-1" / where, of=of(trial, flags=["MASK_LOSS"]))
    state = bench.run()
    check_results(state)
    assert state.trials[trial.id].attempts == 2
    lost = [event for event in bench.events() if event.get("outcome") == "lost" and event["trial"] == trial.id]
    assert "is of other flags (MASK_LOSS)" in lost[0]["reason"]
    kept = home.with_name(f"{trial.id}.other-1") / "out" / "result.json"
    assert json.loads(kept.read_text())["metrics"]["bbox/AP"] == 0.1
    assert culprits(state)["segm"] == [("ROI_ALIGN_MASK",)]


def test_a_result_beside_a_refusal_is_not_believed(bench):
    """Exit code 2: the trainer found a folder of another run, say, and has not trained."""
    trial = interrupted(bench)
    folder = store.trial_folder(bench.runs / "c", trial.id) / "attempt-1"
    edit(folder / "exit.json", code=2)
    state = bench.run()
    assert state.trials[trial.id].attempts == 2
    (lost,) = [event for event in bench.events() if event.get("outcome") == "lost" and event["trial"] == trial.id]
    assert not lost.get("metrics")


def test_a_refusal_while_the_controller_watches(bench):
    bench.set(**TABLE, refuses=[list(BLOCK)])
    home = store.trial_folder(bench.runs / "c", "t04")

    def listen(event, state, analysis):
        if event is not None and event.kind == "started" and event.flags == BLOCK:
            out = store.trial_folder(bench.runs / "c", event.trial) / "out"
            (out / "result.json").write_text('{"status": "finished", "metrics": {"bbox/AP": 0.7, "segm/AP": 0.7}}')

    with pytest.raises(UserError, match="no module named 'mod'"):
        bench.run(listen=listen)
    (refused,) = [event for event in bench.events() if event.get("outcome") == "refused"]
    assert not refused.get("metrics") and home.parent.is_dir()


def test_a_run_is_not_stopped_early_by_another_runs_curve(bench):
    """What waits to be resumed is looked at once; its folder is another's by now."""
    slow = {",".join(BLOCK): 100}
    bench.set(breaks={**FAULT, "bbox": FAULT["segm"]}, drop=0.5, curves=0.005, slow=slow)

    def listen(event, state, analysis):
        done = [trial for trial in state.trials_of(()) if trial.state == "finished"]
        if len(done) == len(state.trials_of(())) >= 3 and any(trial.flags == BLOCK for trial in state.running):
            (bench.runs / "c" / store.STOP).touch()

    state = bench.run(listen=listen, early_stop=True)
    assert state.state == "interrupted"
    (trial,) = [trial for trial in state.trials_of(BLOCK) if trial.seed == 0]
    assert trial.state == "waiting"
    home = store.trial_folder(bench.runs / "c", trial.id)
    baseline = store.trial_folder(bench.runs / "c", "t01") / "out" / "metrics.jsonl"
    with open(home / "out" / "metrics.jsonl", "a") as file:
        for line in baseline.read_text().splitlines():
            if "AP" in line:
                print(json.dumps({**json.loads(line), "bbox/AP": 0.1, "segm/AP": 0.1}), file=file)
    edit(home / "attempt-1" / "job.json", of=of(trial, flags=["MASK_LOSS"]))
    bench.set(breaks={})
    state = bench.run()
    assert state.state == "finished" and not any(culprits(state).values())
    assert state.trials[trial.id].state != "stopped early"
    assert home.with_name(f"{trial.id}.other-1").is_dir()


def test_what_is_told_by_a_folder_of_another_run(bench):
    settings = bench.settings(launcher="manual")
    trial = SimpleNamespace(id="t01", flags=BLOCK, seed=0)
    good = {"status": "finished", "metrics": {"bbox/AP": 0.7, "segm/AP": 0.7}, "flags": list(BLOCK), "seed": 0}
    (bench.folder / "result.json").write_text(json.dumps(good))
    assert manual._result(settings, trial, bench.folder).metrics == good["metrics"]
    edit(bench.folder / "result.json", seed=1)
    assert manual._result(settings, trial, bench.folder) == "result.json is of another seed (1)"
