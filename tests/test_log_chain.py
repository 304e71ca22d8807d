"""A log that has lost lines, or has them twice or out of order: it is said, and what follows from it is never silently
different, no run is lost or made twice, and no two runs share a folder.
"""

import contextlib
import os
import shutil

import fake_trainer
import pytest
from bisecting import BLOCK, Bench

from bisect_cli.analysis import analyse
from bisect_cli.campaign import events
from bisect_cli.errors import UserError
from bisect_cli.report.summary import summarize_folder
from bisect_cli.run import lost, session
from bisect_cli.storage import eventlog, store

TABLE = {"breaks": {"segm": [["ROI_ALIGN_MASK"]]}, "seconds": 0.0}
EVENTS = [{"kind": "number", "n": number, "text": "x" * number} for number in range(12)]


def lines_of(path):
    return path.read_bytes().splitlines(keepends=True)


def flipped(text):
    return text[: len(text) // 2] + bytes([text[len(text) // 2] ^ 1]) + text[len(text) // 2 + 1 :]


DAMAGES = {
    "deleted": lambda lines, at: lines[:at] + lines[at + 1 :],
    "doubled": lambda lines, at: lines[: at + 1] + lines[at:],
    "doubled at the end": lambda lines, at: [*lines, lines[at]],
    "swapped": lambda lines, at: lines[:at] + lines[at : at + 2][::-1] + lines[at + 2 :],
    "flipped": lambda lines, at: [*lines[:at], flipped(lines[at]), *lines[at + 1 :]],
    "without its newline": lambda lines, at: [*lines[:at], lines[at][:-1], *lines[at + 1 :]],
    "cut": lambda lines, at: lines[: at + 1],
}
HARMLESS = ("doubled", "doubled at the end", "swapped")  # the log can be read as it was


# --- the log itself


@pytest.fixture
def path(tmp_path):
    """A log that three Writers have written."""
    path = tmp_path / "events.jsonl"
    for first in (0, 5, 6):
        writer = eventlog.Writer(path)
        for event in EVENTS[first : {0: 5, 5: 6, 6: 12}[first]]:
            writer.append(event)
        writer.close()
    return path


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_happens_to_a_line_is_noticed(path, damage):
    lines = lines_of(path)
    for at in range(len(lines)):
        changed = DAMAGES[damage](lines, at)
        path.write_bytes(b"".join(changed))
        log = eventlog.read(path)
        if damage in HARMLESS:
            assert list(log.events) == EVENTS
            assert bool(log.notes) == (changed != lines), at
        elif damage == "cut":
            assert log == (tuple(EVENTS[: at + 1]), ())  # as it was then
        elif at == len(lines) - 1 and damage != "flipped":
            assert log == (tuple(EVENTS[:at] if damage == "deleted" else EVENTS), ())
        else:
            kept = [event for event in EVENTS if event in log.events]
            assert log.notes and list(log.events) == kept and len(kept) >= len(EVENTS) - 2, at
        again = eventlog.Writer(path)
        assert again.notes == log.notes
        again.append({"kind": "after"})
        again.close()
        assert eventlog.read(path) == ((*log.events, {"kind": "after"}), log.notes), at


def test_any_flipped_byte_is_noticed(path):
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        log = eventlog.read(path)
        last = place == len(data) - 1  # its newline: a line that is being written has none either
        assert log.notes or (last and list(log.events) == EVENTS[:-1]), place
        assert all(event in EVENTS for event in log.events), place


def test_a_log_cut_anywhere_is_what_it_was_then(path):
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        log = eventlog.read(path)
        assert list(log.events) == EVENTS[: len(log.events)] and not log.notes
        assert len(log.events) >= data[:size].count(b"\n")


def test_what_two_writers_have_written_at_once_is_noticed(path):
    first, second = eventlog.Writer(path), eventlog.Writer(path)
    first.append({"kind": "first"})
    with pytest.raises(eventlog.Replaced, match="replaced or changed by somebody else"):
        second.append({"kind": "second"})
    os.write(second._file, eventlog.line({"seq": 13, "prev": "00000000", "kind": "second"}))
    log = eventlog.read(path)
    assert log.events[-2:] == ({"kind": "first"}, {"kind": "second"})
    assert log.notes == ("line 14 of events.jsonl is not the line that belongs there",)
    first.close()
    second.close()


def old_log(path):
    path.write_bytes(b"".join(map(eventlog.line, EVENTS[:6])))


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name not in ("cut", "doubled at the end")])
def test_an_old_log_is_bound_by_the_first_new_line(path, damage):
    old_log(path)
    assert eventlog.read(path) == (tuple(EVENTS[:6]), ())
    writer = eventlog.Writer(path)
    for event in EVENTS[6:]:
        writer.append(event)
    writer.close()
    lines = lines_of(path)
    assert all(map(bytes.startswith, lines[:6], map(eventlog.line, EVENTS))) and b'{"seq":7,"format":2,' in lines[6]
    assert eventlog.read(path) == (tuple(EVENTS), ())
    for at in range(len(lines) - 1):
        path.write_bytes(b"".join(DAMAGES[damage](lines, at)))
        assert eventlog.read(path).notes, at


def test_lines_of_an_older_version_behind_newer_ones_are_read(path):
    with open(path, "ab") as log:
        log.write(eventlog.line({"kind": "by an older version"}))
    writer = eventlog.Writer(path)
    writer.append({"kind": "after"})
    writer.close()
    assert eventlog.read(path) == ((*EVENTS, {"kind": "by an older version"}, {"kind": "after"}), ())


def test_a_log_of_a_newer_format_is_refused(path):
    data = path.read_bytes()
    path.write_bytes(data + eventlog.line({"seq": 13, "format": 3, "all": "00000000", "kind": "new"}))
    for reader in (eventlog.read, eventlog.Writer):
        with pytest.raises(UserError, match="newer version of maskrcnn-bisect.*use that version"):
            reader(path)


# --- the campaign


class Intact:
    """A campaign that has come to its end, of which each test damages a copy."""

    def __init__(self, folder):
        self.bench = Bench(folder, **TABLE)
        self.state = self.bench.run()
        assert self.state.state == "finished"
        self.lines = lines_of(self.bench.runs / "c" / store.LOG)
        self.culprits = culprits(self.state)
        shutil.copytree(self.bench.runs / "c", folder / "kept")

    def damaged(self, lines):
        """The Bench with a campaign whose log has these lines."""
        shutil.rmtree(self.bench.runs / "c")
        shutil.copytree(self.bench.folder / "kept", self.bench.runs / "c")
        (self.bench.runs / "c" / "kept.jsonl").unlink(missing_ok=True)
        (self.bench.runs / "c" / store.LOG).write_bytes(b"".join(lines))
        (self.bench.folder / "starts.txt").write_text("")
        return self.bench

    def line(self, kind, trial=None):
        """The number of the first line of a kind, of a trial."""
        wanted = [kind, trial]
        known = [eventlog.event_of(line) for line in self.lines]
        return next(i for i, one in enumerate(known) if [one["kind"], one.get("trial")] == wanted)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    return Intact(tmp_path_factory.mktemp("intact"))


def culprits(state):
    found = analyse(state)
    return {metric: [one.flags for one in plan.culprits] for metric, plan in found.plans.items()}


def resume(bench, **more):
    """-> (State, notes)."""
    listener = contextlib.nullcontext(lambda event, state, analysis: None)
    outcome = session.run(bench.runs / "c", listener, lambda sentence: None, slots=2, **more)
    return outcome.state, store.load(bench.runs / "c")[1]


def check_all(bench, intact, state):
    """What holds whatever was damaged."""
    for trial in state.trials.values():
        assert not trial.metrics or trial.metrics == fake_trainer.accuracies(TABLE, trial.flags, trial.seed)
    starts = bench.starts()
    assert not any(line.startswith("TWICE") for line in starts)
    most = len(intact.state.trials)
    assert state.trained <= most
    assert len({home.name.partition(".")[0] for home in (bench.runs / "c" / "trials").iterdir()}) <= most
    assert len(starts) <= 2, starts  # what had ended was found in its folder
    runs = [(trial.flags, trial.seed) for trial in state.trials.values()]
    assert len(set(runs)) == len(runs)


@pytest.mark.parametrize(
    "damage, at",
    [
        (damage, at)
        for damage in DAMAGES
        for at in range(1, 23)
        if at % (2 if damage == "deleted" else 7) == len(damage) % 2
    ],
)
def test_a_damaged_campaign_ends_as_the_intact_one_or_says_so(intact, damage, at):
    if at >= len(intact.lines):
        pytest.skip("the log is shorter this time")
    bench = intact.damaged(DAMAGES[damage](intact.lines, at))
    before = store.load(bench.runs / "c")[1]
    shown = summarize_folder(bench.runs / "c")
    assert set(before) <= set(shown["notes"])
    state, after = resume(bench, max_runs=len(intact.state.trials))
    check_all(bench, intact, state)
    assert state.state == "finished" and culprits(state) == intact.culprits
    changed = DAMAGES[damage](intact.lines, at) != intact.lines
    last = at == len(intact.lines) - 1 and damage != "flipped"
    assert bool(after) == (changed and damage != "cut" and not (last and damage not in HARMLESS)), after
    assert set(before) <= set(after) and set(after) <= set(summarize_folder(bench.runs / "c")["notes"])


def test_a_campaign_that_has_lost_its_first_line_says_so(intact):
    bench = intact.damaged(intact.lines[1:])
    with pytest.raises(UserError, match="has lost its settings"):
        resume(bench)
    with pytest.raises(UserError, match="has lost its settings"), session.hold(bench.runs / "c", bench.settings()):
        pass
    assert lines_of(bench.runs / "c" / store.LOG) == intact.lines[1:]


def test_a_finished_campaign_that_lost_its_baseline_is_not_finished(intact):
    gone = [intact.line("ended", trial.id) for trial in intact.state.trials_of(())]
    bench = intact.damaged([line for number, line in enumerate(intact.lines) if number not in gone])
    for home in intact.state.trials_of(()):
        shutil.rmtree(store.trial_folder(bench.runs / "c", home.id))
    for _ in range(2):  # worked out, then from what is kept
        _, listed, _ = bench.call("list")
        assert "c  interrupted, its log was damaged" in listed
        summary = summarize_folder(bench.runs / "c")
        assert summary["state"] == "interrupted" and "more runs are wanted" in summary["reason"]
        assert summary["resume"] and summary["conclusion"]["segm"] == "searching"
    code, out, err = bench.call("resume", "c", "--yes")
    assert code == 0, err
    assert "ROI_ALIGN_MASK (confidence" in out and "missing before line" in out
    for words in (["explain", "c"], ["nodes", "c"], ["logs", "t04"], ["status", "c"]):
        _, out, err = bench.call(*words)
        assert "missing before line" in out + err, words
    assert summarize_folder(bench.runs / "c")["state"] == "finished"


def test_a_finished_campaign_stays_as_it_is(intact):
    bench = intact.damaged(intact.lines)
    assert resume(bench) == (store.load(bench.runs / "c")[0], ())
    assert lines_of(bench.runs / "c" / store.LOG) == intact.lines and not bench.starts()


def test_runs_that_the_log_has_lost_are_found_in_their_folders(intact):
    bench = intact.damaged(intact.lines[: intact.line("started", "t05")])
    state, notes = resume(bench, max_runs=len(intact.state.trials))
    assert results(state) == results(intact.state) and not bench.starts() and not notes
    assert state.trials["t05"].why == "found in its folder"


def results(state):
    return {trial.id: (trial.flags, trial.seed, trial.metrics) for trial in state.trials.values()}


def test_a_run_that_may_be_alive_is_left_alone_and_its_id_not_used_again(intact):
    bench = intact.damaged(intact.lines[: intact.line("started", "t05")])
    trials = bench.runs / "c" / "trials"
    for home in trials.iterdir():
        if home.name > "t05":
            shutil.rmtree(home)
    (trials / "t05" / "attempt-1" / "exit.json").unlink()
    before = (trials / "t05" / "out" / "result.json").read_bytes()
    state, notes = resume(bench)
    assert state.state == "finished" and "t05" not in state.trials and "t06" in state.trials
    assert (trials / "t05" / "out" / "result.json").read_bytes() == before
    assert [note for note in notes if note.startswith("t05 has run")] == list(notes)
    assert state.trained == len(state.trials) + 1 and summarize_folder(bench.runs / "c")["notes"] == list(notes)


def test_no_new_trial_takes_an_id_that_was_seen(intact):
    damaged = intact.lines[-2].replace(b'"trial":"t', b'"trial":"t88')
    bench = intact.damaged([*intact.lines[:-2], damaged])
    folder = bench.runs / "c"
    (folder / "trials" / "t41.other-3").mkdir()
    (folder / "trials" / "no id").mkdir()
    contents = store.read(folder)
    assert lost.highest_number(folder, ()) == 41
    number = lost.highest_number(folder, contents.problems)
    assert number > 8000
    with session.hold(folder) as (_, state):
        assert state.seen == number and state.next_number == number + 1


STARTED = {"kind": "started", "trial": "t01", "flags": ["A"], "seed": 0, "attempt": 1}
ENDED = {"kind": "ended", "trial": "t01", "attempt": 1, "outcome": "finished", "metrics": {"x": 1.0}}
IMPORTED = {"kind": "run_imported", "trial": "t01", "flags": ["A"], "seed": 0, "outcome": "finished", "source": "d/t01"}


@pytest.mark.parametrize(
    "event, words",
    [
        ({**STARTED, "flags": ["B"], "attempt": 2}, "other flags or another seed"),
        ({**STARTED, "seed": 1, "attempt": 2}, "other flags or another seed"),
        (STARTED, "attempt 1 of t01 is started again"),
        ({**ENDED, "trial": "t02"}, "t02 has ended, of whose start nothing is known"),
        ({**ENDED, "attempt": 0}, "after a later one was started"),
        (IMPORTED, "t01 is imported, whose id is a trial's already"),
        ({"kind": "flags_added", "flags": ["A"], "seeds": 3}, "was not created"),
        ({"kind": "launcher_changed", "launcher": "local"}, "was not created"),
    ],
)
def test_an_event_that_cannot_be_is_skipped_and_said(event, words):
    before = events.fold([STARTED, ENDED])
    state = events.fold([STARTED, ENDED, event])
    assert state.trials == before.trials and len(state.contradictions) == 1 and words in state.contradictions[0]
    assert state.next_number == (3 if event.get("trial") == "t02" else 2)


def test_an_attempt_ends_once():
    crashed = {**ENDED, "outcome": "crashed", "metrics": {}}
    state = events.fold([STARTED, crashed, crashed, crashed])
    assert state.trials["t01"].state == "waiting" and state.trials["t01"].crashes == 1
    assert len(state.contradictions) == 2


# --- a log that is replaced under a controller


def replace_log(folder):
    shutil.copy(folder / store.LOG, folder / "copy")
    os.replace(folder / "copy", folder / store.LOG)


def cut_log(folder):
    os.truncate(folder / store.LOG, (folder / store.LOG).stat().st_size - 10)


def append_to_log(folder):
    with open(folder / store.LOG, "ab") as log:
        log.write(eventlog.line({"kind": "by somebody else"}))


@pytest.mark.parametrize(
    "change, words",
    [
        (replace_log, "replaced or changed by somebody else"),
        (cut_log, "replaced or changed by somebody else"),
        (append_to_log, "replaced or changed by somebody else"),
        (lambda folder: (folder / store.LOG).unlink(), "was deleted"),
        (shutil.rmtree, "was deleted"),
        (lambda folder: folder.rename(folder.with_name("moved")), "was deleted"),
    ],
)
def test_a_controller_stops_when_its_log_is_replaced(tmp_path, change, words):
    bench = Bench(tmp_path, **TABLE, slow={",".join(BLOCK): 10})
    found = []

    def listen(event, state, analysis):
        under_way = [trial for trial in state.running if trial.flags == BLOCK]
        if under_way and len(bench.starts()) >= 4 and not found:
            found.append(under_way[0].ticket)
            change(bench.runs / "c")

    with pytest.raises(UserError, match=words) as raised:
        bench.run(listen=listen)
    assert found and "\n" not in str(raised.value)
    with pytest.raises(ProcessLookupError):
        os.kill(found[0]["pid"], 0)  # it was asked to save, and has ended
    if change in (replace_log, append_to_log):
        bench.set(**TABLE)
        assert culprits(resume(bench)[0])["segm"] == [("ROI_ALIGN_MASK",)]
    elif change is not cut_log:
        assert not (bench.runs / "c" / store.LOG).exists()
