"""ddmin over tables of outcomes, and how searches are found."""

import subprocess
import sys
from itertools import combinations

import pytest
from test_halving import ALL, Table

from bisect_cli import search as searches
from bisect_cli.errors import UserError
from bisect_cli.search import Question, ddmin, find


def search(**table):
    """The final Plan of a whole search, and its runs."""
    outcomes = Table(ALL, **table)
    while True:
        plan = ddmin.plan(ALL, outcomes.verdict, 3)
        if plan.done:
            return plan, outcomes.runs
        for request in plan.requests:
            assert outcomes.runs.get(request.flags, 0) < request.runs, "a run made twice"
            outcomes.runs[request.flags] = request.runs


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


def test_it_answers_like_every_search():
    answer = find("ddmin").answer(Question(ALL, {"bbox": {}, "segm": {}}))
    assert [(request.flags, request.runs) for request in answer.requests] == [((), 3), (ALL, 1)]


def test_searches_are_found_by_name_with_the_default_first():
    assert searches.names() == ("bayes", "halving", "ddmin")
    assert [find(name).name for name in searches.names()] == list(searches.names())
    assert [name for name in searches.names() if find(name).uses_prior_evidence] == ["bayes"]
    assert [name for name in searches.names() if find(name).weighs_explanations] == ["bayes"]
    with pytest.raises(UserError, match="unknown search 'halfing': did you mean halving"):
        find("halfing")


def test_listing_the_searches_imports_none():
    code = "import sys; from bisect_cli.search import names; names(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "bisect_cli.search" in modules and "numpy" not in modules
    assert not [module for module in modules if module.startswith("bisect_cli.search.")]


def test_one_file_is_all_that_another_search_takes(tmp_path, monkeypatch):
    text = "from bisect_cli.search import Answer, Search\nSEARCH = Search('mine', lambda question: Answer({}, ()))\n"
    (tmp_path / "mine.py").write_text(text)
    (tmp_path / "_help.py").write_text("")
    monkeypatch.setattr(searches, "__path__", [*searches.__path__, str(tmp_path)])
    assert sorted(searches.names()) == ["bayes", "ddmin", "halving", "mine"] and searches.names()[0] == "bayes"
    assert find("mine").answer(Question(ALL, {})).requests == ()
    monkeypatch.delitem(sys.modules, "bisect_cli.search.mine")
