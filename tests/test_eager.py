"""Runs ahead of need: only where slots would be free, within bounds, and never with another result."""

import pytest
from bisecting import BLOCK, Bench

from bisect_cli.campaign.settings import Settings
from bisect_cli.evidence.judge import BASELINE, BROKEN, FINE, Verdict
from bisect_cli.run.schedule import missing
from bisect_cli.search import Question, find
from bisect_cli.search.bayes import ahead

ALL = tuple(f"F{number:02d}" for number in range(1, 12))


def answer(table, in_flight=(), slots=1, **more):
    return find("bayes").answer(Question(ALL, {"m": table}, in_flight, slots, **more))


def verdict(subset, runs, culprits):
    if not subset:
        return Verdict(BASELINE, runs)
    broken = any(set(culprit) <= set(subset) for culprit in culprits)
    return Verdict(BROKEN if broken else FINE, runs, (6.0 if broken else -6.0) * runs)


def campaign(culprits, slots, eager):
    """Rounds, runs, culprits and verdicts of a search whose runs all take as long and never mislead."""
    runs, rounds = {}, 0
    while True:
        table = {subset: verdict(subset, number, culprits) for subset, number in runs.items()}
        found = answer(table if runs.get((), 0) >= 3 else {}, slots=slots, eager=eager)
        if found.plans["m"].done:
            return rounds, sum(runs.values()), [one.flags for one in found.plans["m"].culprits], table
        started = list(missing(found.requests, runs))[:slots]
        for run in started:
            runs[run.subset] = runs.get(run.subset, 0) + 1
        rounds += 1


@pytest.mark.parametrize("culprits", [(), (("F03",),), (("F03", "F07"),)])
def test_it_ends_in_fewer_rounds_with_the_same_result(culprits):
    one_at_a_time = campaign(culprits, 1, 0.0)[0]
    waits, spends = campaign(culprits, 64, 0.0), campaign(culprits, 64, 1.0)
    assert waits[2] == spends[2] == list(culprits)
    assert spends[0] <= waits[0] and spends[0] <= one_at_a_time / 3 and spends[1] >= waits[1]


def test_nothing_is_asked_ahead_of_need_in_a_slot_that_is_not_free():
    table = {(): Verdict(BASELINE, 3, 0.0), ALL: Verdict(BROKEN, 1, 6.0)}
    for slots in (0, 1):
        assert answer(table, (ALL[:5],), slots, eager=1.0).requests == answer(table, (ALL[:5],), slots).requests
    assert answer({}, slots=1, eager=1.0).requests == answer({}).requests


def test_more_is_asked_for_the_more_may_be_spent_and_what_is_needed_comes_first():
    table = {(): Verdict(BASELINE, 3, 0.0), ALL: Verdict(BROKEN, 1, 6.0)}
    asked = [answer(table, slots=64, eager=eager).requests for eager in (0.0, 0.1, 0.5, 1.0)]
    runs = [sum(request.runs - (request.flags in table) for request in requests) for requests in asked]
    assert runs == sorted(runs) and runs[0] < runs[1] < runs[-1] <= 64
    for requests in asked[1:]:
        assert [one.flags for one in requests][: len(asked[0])] == [one.flags for one in asked[0]]
        assert all("ahead of need" in one.why for one in requests[len(asked[0]) :])


def test_confirmations_run_twice_at_once_where_one_may_mislead():
    *_, table = campaign((("F03",),), 1, 0.0)
    del table[("F03",)]
    runs = [{one.flags: one.runs for one in answer(table, slots=8, eager=eager).requests} for eager in (0.0, 0.25)]
    assert runs[0] == {("F03",): 1} and runs[1][("F03",)] == 2


def test_the_bound_grows_with_what_may_be_spent():
    assert ahead.most_in_flight(0.0, 7.2) == 8 and ahead.most_in_flight(1.0, 7.2) == 36


def test_it_is_kept_in_the_campaign_and_makes_no_other_campaign(tmp_path):
    bench = Bench(tmp_path)
    settings = bench.settings(flags=BLOCK, eager=0.3)
    assert Settings.from_json(settings.to_json(), settings.spec).eager == 0.3
    assert settings.differences(bench.settings(flags=BLOCK)) == []
    code, _, error = bench.call("start", "--flags", "L2B5", "--eager", "2")
    assert code == 2 and error.count("\n") == 1 and "--eager 2: write a number from 0" in error
