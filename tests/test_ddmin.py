"""ddmin over tables of outcomes."""

from itertools import combinations

import pytest
from test_halving import Table

from bisect_cli.campaign.subsets import ALL
from bisect_cli.search import Question, ddmin, find


def search(**table):
    """The final Plan of a whole search, and its runs."""
    told = Table(ALL, **table)
    while True:
        plan = ddmin.plan(ALL, told.verdict, 3)
        if plan.done:
            return plan, told.runs
        for want in plan.wanted:
            assert told.runs.get(want.flags, 0) < want.runs, "a run made twice"
            told.runs[want.flags] = want.runs


@pytest.mark.parametrize("size", [1, 2, 3])
def test_one_culprit_is_found_exactly(size):
    for culprit in list(combinations(ALL, size))[::3]:
        plan, _ = search(breaks=[culprit])
        assert [c.flags for c in plan.culprits] == [culprit]
        assert plan.culprits[0].confidence > 0.97


def test_of_two_culprits_one_is_found():
    plan, _ = search(breaks=[("RPN_LOSS",), ("MASK_LOSS",)])
    assert [c.flags for c in plan.culprits] in ([("RPN_LOSS",)], [("MASK_LOSS",)])


def test_a_clean_set_and_one_without_a_verdict():
    plan, runs = search()
    assert plan.clean > 0.99 and sum(runs.values()) == 4
    plan, runs = search(undecided=[ALL])
    assert plan.unresolved[0].reason == "undecided after 4 runs" and plan.clean is None


def test_a_culprit_that_is_fine_with_a_fresh_seed_is_not_named():
    plan, _ = search(breaks=[("RPN_LOSS", "MASK_LOSS")], misleads=[(("RPN_LOSS",), "broken")])
    assert [c.flags for c in plan.culprits] in ([("RPN_LOSS", "MASK_LOSS")], [])


def test_it_is_asked_like_every_search():
    answer = find("ddmin")(Question(ALL, {"bbox": {}, "segm": {}}))
    assert [(want.flags, want.runs) for want in answer.wanted] == [((), 3), (ALL, 1)]
