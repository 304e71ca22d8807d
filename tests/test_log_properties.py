"""Whatever lines of a log are left, in whatever order: the fold never fails, and the verdict is never silently
different.
"""

import functools

import pytest
from bisecting import Bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bisect_cli.analysis import analyse
from bisect_cli.campaign import events
from bisect_cli.storage import eventlog, store

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)  # is no fault on a busy machine
few = settings(max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=SLOW)


class Campaign:
    """A campaign that has come to its end: its folder, its lines, and the events in them."""

    def __init__(self, folder):
        bench = Bench(folder, breaks={"segm": [["ROI_ALIGN_MASK"]]}, crashes=[["ROI_ALIGN_MASK"], 1], seconds=0.0)
        assert bench.run().state == "finished"
        self.folder = bench.runs / "c"
        self.lines = (self.folder / store.LOG).read_bytes().splitlines(keepends=True)
        self.events = eventlog.read(self.folder / store.LOG).events

    def contents(self, lines):
        """The store.Contents of the campaign with a log of these lines."""
        (self.folder / store.LOG).write_bytes(b"".join(lines))
        return store.read(self.folder)

    @functools.cache  # noqa: B019 - it lives as long as the tests
    def verdict_after(self, number):
        """What is said after so many events."""
        return verdict(events.fold(self.events[:number]))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    return Campaign(tmp_path_factory.mktemp("whole"))


def verdict(state):
    """All that a search says, None before there is anything to search."""
    if state.settings is None:
        return None
    found = analyse(state)
    calls = {metric: {flags: one.call for flags, one in table.items()} for metric, table in found.verdicts.items()}
    return found.plans, found.requests, calls, state.trained


def check(campaign, state):
    """What holds of a State whatever its log has lost."""
    known = {}
    for event in campaign.events:
        if event["kind"] == "started":
            known[event["trial"]] = tuple(event["flags"]), event["seed"]
    for trial in state.trials.values():
        assert known[trial.id] == (trial.flags, trial.seed)
    assert state.trained <= len(known)
    verdict(state)


@few
@given(st.data())
def test_any_prefix_is_the_campaign_of_an_earlier_moment(campaign, data):
    size = data.draw(st.integers(0, sum(map(len, campaign.lines))), label="bytes")
    whole = b"".join(campaign.lines)[:size]
    contents = campaign.contents([whole])
    number = whole.count(b"\n") + (whole[whole.rfind(b"\n") + 1 :] + b"\n" in campaign.lines)
    assert contents.notes == ()
    assert verdict(contents.state) == campaign.verdict_after(number)


@few
@given(st.data())
def test_any_subset_of_the_lines_is_a_prefix_or_said_to_be_damaged(campaign, data):
    gone = data.draw(st.sets(st.sampled_from(range(len(campaign.lines)))), label="gone")
    left = [i for i in range(len(campaign.lines)) if i not in gone]
    contents = campaign.contents([campaign.lines[i] for i in left])
    check(campaign, contents.state)
    if left == list(range(len(left))):
        assert contents.notes == () and verdict(contents.state) == campaign.verdict_after(len(left))
    else:
        assert contents.notes


@few
@given(st.data())
def test_in_any_order_the_log_is_read_as_it_was(campaign, data):
    order = data.draw(st.permutations(range(len(campaign.lines))), label="order")
    twice = data.draw(st.lists(st.sampled_from(order), max_size=3), label="twice")
    lines = [campaign.lines[i] for i in (*order, *twice)]
    contents = campaign.contents(lines)
    assert bool(contents.notes) == (lines != campaign.lines)
    assert verdict(contents.state) == campaign.verdict_after(len(campaign.lines))


@few
@given(st.data())
def test_flipped_bytes_are_said_or_change_nothing(campaign, data):
    whole = bytearray(b"".join(campaign.lines))
    for place in data.draw(st.sets(st.integers(0, len(whole) - 1), min_size=1, max_size=4), label="places"):
        whole[place] ^= data.draw(st.integers(1, 255), label="bits")
    contents = campaign.contents([bytes(whole)])
    check(campaign, contents.state)
    assert contents.notes or verdict(contents.state) in map(campaign.verdict_after, range(len(campaign.lines) + 1))


@few
@given(st.data())
def test_old_lines_in_any_order_never_make_the_fold_fail_nor_two_runs_one(campaign, data):
    """Lines of no chain: what is lost is not seen, what cannot be is."""
    whole = len(campaign.events)
    order = data.draw(st.lists(st.sampled_from(range(whole)), max_size=2 * whole), label="order")
    contents = campaign.contents([eventlog.line(campaign.events[i]) for i in order])
    for trial in contents.state.trials.values():
        ends = [one for one in campaign.events if (one["kind"], one.get("trial")) == ("ended", trial.id)]
        assert trial.metrics in [{}, *(one.get("metrics", {}) for one in ends)]
    check(campaign, contents.state)
