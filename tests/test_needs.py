"""Flags that need others, in all searches: nothing is asked for that cannot be trained, and the right flags are named.

Each flag has a letter here. A structure is written as what each flag needs itself.
"""

import random
from functools import cache
from itertools import combinations, islice, product

import numpy as np
import pytest

from bisect_cli.campaign import subsets
from bisect_cli.errors import UserError
from bisect_cli.evidence import judge
from bisect_cli.evidence.judge import BASELINE, BROKEN, CRASHED, FINE, UNDECIDED, Verdict
from bisect_cli.run.schedule import missing, noiseless_runs, worst_case_runs
from bisect_cli.search import NO_ORDER, Order, Question, find
from bisect_cli.search.bayes import prior
from bisect_cli.search.bayes.candidates import candidates, neighbours
from bisect_cli.search.bayes.crashes import split_off_crashers
from bisect_cli.search.bayes.hypotheses import NOTHING, Family, as_matrix
from bisect_cli.search.bayes.prior import KIND_PRIORS

FLAGS = tuple("ABCDEFGHIJK")
STRUCTURES = {
    "chain": {"C": "B", "B": "A"},
    "fork": {"F": "D", "H": "D", "K": "D"},
    "two needs": {"F": "C", "B": "J"},
    "one for all": {flag: "A" for flag in FLAGS[1:]},
    "a chain of all": {flag: before for before, flag in zip(FLAGS, FLAGS[1:])},
    "one that needs three": {"K": "BEH"},
    "a diamond": {"D": "BC", "B": "A", "C": "A", "K": "J"},
}
STRUCTURES = {name: subsets.close(needs) for name, needs in STRUCTURES.items()}
SEARCHES = ("bayes", "halving", "ddmin")
ASSIGNMENTS = [
    (),
    *(((flag,),) for flag in FLAGS),
    *((pair,) for pair in combinations(FLAGS, 2)),
    *(((a,), (b,)) for a, b in combinations(FLAGS, 2)),
]


def visible(culprits, needs, flags=FLAGS):
    """What runs can show of culprits: the tops of the smallest runnable sets that break."""
    closed = {subsets.with_needed(culprit, needs, flags) for culprit in culprits}
    smallest = [one for one in closed if not any(set(other) < set(one) for other in closed)]
    return sorted(subsets.tops(one, needs) for one in smallest)


def distinct_assignments(needs):
    """Those of ASSIGNMENTS that no run could tell apart once, each as what can be seen of it."""
    return sorted({tuple(visible(culprits, needs)) for culprits in ASSIGNMENTS})


def breaks(culprits):
    """The Verdict of a subset that is broken where all flags of a culprit are on, and says so clearly."""

    def verdict(subset, runs):
        broken = any(set(culprit) <= set(subset) for culprit in culprits)
        return Verdict(BROKEN if broken else FINE, runs, (6.0 if broken else -6.0) * runs)

    return verdict


def campaign(search, needs, verdict, flags=FLAGS, slots=1, **known):
    """A whole search: the final Plan, and {subset: runs}. Fails if a subset is asked for that is not runnable."""
    runs = {}
    for _ in range(300):
        done = runs.get((), 0) >= 3
        table = {s: verdict(s, k) if s else Verdict(BASELINE, k) for s, k in runs.items()} if done else {}
        out = () if done else tuple(s for s, number in runs.items() for _ in range(number))
        answer = find(search).answer(Question(flags, {"m": table}, out, slots, needs=needs, **known))
        assert all(subsets.is_runnable(request.flags, needs) for request in answer.requests)
        if answer.plans["m"].done:
            return answer.plans["m"], runs
        starts = list(islice(missing(answer.requests, runs), slots))
        assert starts
        for run in starts:
            runs[run.subset] = runs.get(run.subset, 0) + 1
    raise AssertionError("the search does not end")


def named(plan):
    return sorted(culprit.flags for culprit in plan.culprits)


def random_needs(rng, flags):
    """Needs without a circle among flags in any order."""
    order = rng.sample(flags, len(flags))
    density = rng.choice([0.05, 0.2, 0.5])
    return subsets.close(
        {flag: [other for other in order[:i] if rng.random() < density] for i, flag in enumerate(order)}
    )


def runnable_subsets(flags, needs):
    every = (tuple(f for f, on in zip(flags, row) if on) for row in product((False, True), repeat=len(flags)))
    return [subset for subset in every if subsets.is_runnable(subset, needs)]


# Sets


def test_needs_are_closed():
    assert subsets.close({"C": ["B"], "B": {"A"}, "A": (), "D": "A"}) == {"B": {"A"}, "C": {"A", "B"}, "D": {"A"}}
    assert subsets.close({"A": "B", "B": "C", "C": "D", "E": "A"})["E"] == set("ABCD")
    circles = {"A and B": {"A": "B", "B": "A"}, "A and B and C": {"A": "B", "B": "C", "C": "A", "D": "A"}}
    for names, needs in circles.items():
        with pytest.raises(UserError, match=f"^{names} need each other, .*make them one flag"):
            subsets.close(needs)
    with pytest.raises(UserError, match="A needs itself"):
        subsets.close({"A": "A"})


def test_the_smallest_and_the_largest_runnable_set():
    needs = subsets.close({"C": "B", "B": "A"})
    assert subsets.with_needed("C", needs, "ABCD") == tuple("ABC")
    assert subsets.runnable("BCD", needs) == ("D",) and subsets.runnable("ABD", needs) == tuple("ABD")
    assert subsets.is_runnable("AB", needs) and not subsets.is_runnable("AC", needs)
    assert subsets.tops("ABCD", needs) == tuple("CD") and subsets.needing("A", needs, "ABCD") == tuple("BC")
    assert subsets.one_less(("B", "D"), needs, "ABCD") == [tuple("AD"), tuple("AB")]
    assert subsets.one_less(("A",), needs, "ABCD") == []
    assert subsets.hidden_by(("B",), needs, "ABCD") == ("C",) and subsets.hidden_by(("B", "D"), needs, "ABCD") == ()


def test_what_is_left_without_culprits_holds_none_and_all_that_can_be_seen():
    fork = subsets.close({"F": "A", "G": "B", "H": "AB"})
    assert subsets.remainders("ABCD", [("A", "B")], {}) == [("C", "D")] and subsets.remainders("A", ["A"], {}) == []
    assert subsets.remainders("ABCFGH", [("A", "B")], fork) == [tuple("ACF"), tuple("BCG")]
    rng = random.Random(1)
    for _ in range(200):
        flags = FLAGS[: rng.randint(2, 11)]
        needs = random_needs(rng, flags)
        culprits = visible([rng.sample(flags, rng.randint(1, 2)) for _ in range(2)], needs, flags)
        rests = subsets.remainders(flags, culprits, needs)
        closed = [set(subsets.with_needed(culprit, needs, flags)) for culprit in culprits]
        assert all(subsets.is_runnable(rest, needs) for rest in rests)
        assert not any(culprit <= set(rest) for culprit in closed for rest in rests)
        hidden = {flag for culprit in culprits for flag in subsets.hidden_by(culprit, needs, flags)}
        seen = {flag for rest in rests for flag in rest}
        assert seen | hidden | {flag for culprit in culprits for flag in culprit} == set(flags) and not seen & hidden


def test_halves_are_runnable_and_make_up_the_set():
    rng = random.Random(2)
    for _ in range(300):
        flags = FLAGS[: rng.randint(2, 11)]
        needs = random_needs(rng, flags)
        some = rng.sample(flags, rng.randint(0, 3) if len(flags) > 3 else 0)
        held = subsets.with_needed(rng.sample(flags, rng.randint(0, len(flags) - 2)), needs, flags)
        part = subsets.minus(flags, held)
        if len(part) < 2:
            continue
        cuts = subsets.splits(part, (), some[:2], some[2:], needs)
        assert cuts
        for halves in cuts:
            assert all(0 < len(half) < len(part) for half in halves)
            assert all(subsets.is_runnable(subsets.union(half, held, order=flags), needs) for half in halves)
            assert len(halves) == 1 or subsets.union(*halves, order=part) == part
        first = subsets.needed_first(part, needs)
        assert sorted(first) == sorted(part)
        assert all(subsets.is_runnable((*held, *first[:cut]), needs) for cut in range(len(part)))


def test_the_best_cut_leaves_the_fewest_flags_but_suspects_come_first():
    needs = subsets.close({"E": "D", "D": "C", "C": "B", "B": "A"})
    assert {halves for halves in subsets.splits(tuple("ABCDE"), needs=needs)[:2]} == {(("A", "B"),), (("A", "B", "C"),)}
    assert subsets.splits(tuple("ABCDE"), suspects=("A",), needs=needs)[0] == (("A",),)
    fork = subsets.close({flag: "A" for flag in "BCDE"})
    assert subsets.splits(tuple("ABCDE"), needs=fork)[0] == (tuple("ABC"), tuple("ADE"))
    assert subsets.splits(tuple("BCDE"), needs=fork) == subsets.splits(tuple("BCDE"))  # what is needed is held on


# Explanations


@pytest.mark.parametrize("seed", range(4))
def test_explanations_that_no_run_tells_apart_are_one_with_the_prior_of_all(seed):
    rng = random.Random(seed)
    flags = FLAGS[:6]
    needs = random_needs(rng, flags)
    weights = np.array([rng.choice([0.02, 1.0, 20.0]) for _ in flags])
    every, distinct = Family.over(weights, KIND_PRIORS), Family.over(weights, KIND_PRIORS, as_matrix(needs, flags))
    rows = np.array([[flag in subset for flag in flags] for subset in runnable_subsets(flags, needs)])
    expected, size = {}, {}
    for number, says in enumerate(every.broken(rows).T):
        key = says.tobytes()
        expected[key] = expected.get(key, 0) + np.exp(every.log_prior[number])
        size[key] = min(sum(map(len, every.culprits(number))), size.get(key, 9))
    found = [says.tobytes() for says in distinct.broken(rows).T]
    assert len(set(found)) == len(found) == len(expected) < len(every)
    for number, key in enumerate(found):
        assert np.exp(distinct.log_prior[number]) == pytest.approx(expected[key])
        assert sum(map(len, distinct.culprits(number))) == size[key]


def test_without_needs_the_explanations_are_as_ever():
    plain, none = (Family.over(np.ones(5), KIND_PRIORS, needs) for needs in (None, np.zeros((5, 5), bool)))
    assert len(plain) == len(none) and (plain.log_prior == none.log_prior).all()


def test_a_flag_and_what_it_needs_are_one_explanation():
    family = Family.over(np.ones(2), KIND_PRIORS, as_matrix({"F": frozenset("A")}, "AF"))
    assert [family.culprits(number) for number in range(len(family))] == [(), ((0,),), ((1,),)]


def test_prior_evidence_of_a_set_that_cannot_be_trained_says_nothing():
    def log_prior(rows):
        known = {"needs": {"F": frozenset("A")}, "prior_evidence": {"m": rows}}
        return prior.expect(Question(("A", "F", "X"), {"m": {}}, **known), "m", ("A", "F", "X")).log_prior

    assert (log_prior({("F",): 3.0}) == log_prior({})).all()
    assert (log_prior({("A", "F"): 3.0}) != log_prior({})).any()


@pytest.mark.parametrize("needs", STRUCTURES.values(), ids=STRUCTURES)
def test_candidates_are_runnable(needs):
    matrix, rng = as_matrix(needs, FLAGS), np.random.default_rng(1)
    rows = candidates(FLAGS, [], rng.random(len(FLAGS)), matrix)
    near = neighbours(np.array(rows[:5]), matrix)
    sets = [tuple(flag for flag, on in zip(FLAGS, row) if on) for row in (*rows, *near)]
    assert all(subsets.is_runnable(subset, needs) for subset in sets)
    assert {(), FLAGS} <= set(sets) and {subsets.with_needed(flag, needs, FLAGS) for flag in FLAGS} <= set(sets)


# Whole searches


@cache
def runs_without_needs(search, culprits):
    return noiseless_runs(find(search).answer, FLAGS, 3, culprits)


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("search, step, most", [("bayes", 6, 1), ("halving", 1, 0.5), ("ddmin", 1, 2)])
def test_every_culprit_of_one_and_two_flags_is_named(search, step, most, name):
    """By bayes every sixth. ddmin finds one of several. most: runs more than without needs, on average."""
    needs, more = STRUCTURES[name], []
    cases = distinct_assignments(needs)
    for culprits in cases[::step] if len(cases) > 20 else cases:
        plan, runs = campaign(search, needs, breaks(culprits))
        assert named(plan) == list(culprits) or search == "ddmin" and named(plan)[0] in culprits
        assert not plan.unresolved and (plan.clean is not None) == (not culprits)
        for one in plan.culprits:
            whole = subsets.with_needed(one.flags, needs, FLAGS)
            assert one.confidence > 0.97 and one.needed == subsets.minus(whole, one.flags)
            assert one.evidence[0] == whole and set(one.evidence) <= set(runs)
        more.append(sum(runs.values()) - runs_without_needs(search, culprits))
    assert sum(more) / len(more) <= most
    assert search == "ddmin" or max(more) <= (3 if search == "bayes" else 8)


THREE = [(tuple("BEH"),), (("C", "K"), ("F",)), (("C",), ("F",), ("I",)), (("B", "D"), ("K",)), (tuple("CFI"),)]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", ["chain", "fork", "two needs", "one for all", "a diamond"])
def test_three_flags(search, name):
    needs = STRUCTURES[name]
    for culprits in THREE:
        plan, runs = campaign(search, needs, breaks(culprits), slots=2)
        truth = visible(culprits, needs)
        assert named(plan) == truth or search == "ddmin" and named(plan)[0] in truth
        assert sum(runs.values()) < 50


def test_what_needs_one_flag_of_a_pair_is_seen():
    """F needs A, of the pair A and B. With both off F could not be on; it breaks by itself, and is found."""
    needs = subsets.close({"F": "A", "G": "B"})
    for search in ("bayes", "halving"):
        assert named(campaign(search, needs, breaks([("A", "B"), ("F",)]))[0]) == [("A", "B"), ("F",)]
        plan, runs = campaign(search, needs, breaks([("A", "B")]))
        assert named(plan) == [("A", "B")]
        assert {subsets.minus(FLAGS, ("B", "G")), subsets.minus(FLAGS, ("A", "F"))} <= set(runs)


@pytest.mark.parametrize("search", SEARCHES)
def test_what_a_culprit_hides_is_not_named(search):
    needs = subsets.close({"F": "A", "G": "F"})
    plan, runs = campaign(search, needs, breaks([("A",), ("F",), ("G", "B")]))
    assert named(plan) == [("A",)] and plan.culprits[0].needed == ()
    plan, runs = campaign(search, needs, breaks([("F",)]))
    assert plan.culprits[0].flags == ("F",) and plan.culprits[0].needed == ("A",)
    assert search == "ddmin" or subsets.minus(FLAGS, ("F", "G")) in runs


@pytest.mark.parametrize("search", SEARCHES)
def test_random_needs_and_verdicts_that_mislead(search):
    """Whatever the runs say: nothing is asked for that is not runnable, and the search ends."""
    rng, right = random.Random(3), 0
    for number in range(60):
        flags = FLAGS[: rng.randint(2, 11)]
        needs = random_needs(rng, flags)
        culprits = [tuple(rng.sample(flags, rng.randint(1, 2))) for _ in range(number % 3)]
        noise = (0.0, 2.5, 8.0)[number // 3 % 3]
        crashing = rng.choice(flags) if number % 5 == 4 else None
        drawn = {}

        def verdict(subset, runs, culprits=culprits, noise=noise, crashing=crashing, drawn=drawn):
            if crashing in subset:
                return Verdict(CRASHED, runs)
            own = drawn.setdefault(subset, [])
            while len(own) < runs:
                broken = any(set(culprit) <= set(subset) for culprit in culprits)
                own.append(rng.gauss(5 if broken else -5, noise))
            odds = sum(own[:runs])
            return Verdict(BROKEN if odds > 3 else FINE if odds < -3 else UNDECIDED, runs, odds)

        order = Order(*(tuple(rng.sample(flags, min(len(flags), 2))) for _ in range(2))) if number % 2 else NO_ORDER
        plan, _ = campaign(search, needs, verdict, flags, slots=rng.choice([1, 3]), parity_order=order)
        right += named(plan) == visible(culprits, needs, flags)
    assert right > 30


@pytest.mark.parametrize("name", ["chain", "one for all", "a diamond"])
def test_real_noise_never_gives_a_wrong_name(name):
    """Runs drawn with the noise of real training and judged for real, all sets together."""
    needs, rng, right, wrong = STRUCTURES[name], random.Random(5), 0, 0
    cases = [(("K",),), (("C",), ("F",)), (("C", "F"),), (), (("B",),)]
    for number in range(10):
        culprits, values = cases[number % len(cases)], {}
        while True:
            table = {}
            if len(values.get((), ())) >= 3:
                table = judge.judge_all(values[()], {s: own for s, own in values.items() if s})
            out = () if table else tuple(s for s, own in values.items() for _ in own)
            answer = find("bayes").answer(Question(FLAGS, {"m": table}, out, 2, needs=needs))
            plan = answer.plans["m"]
            if plan.done:
                break
            for subset, _, _ in islice(missing(answer.requests, {s: len(own) for s, own in values.items()}), 2):
                assert subsets.is_runnable(subset, needs)
                mean = 0.7 - 0.1 * any(set(culprit) <= set(subset) for culprit in culprits)
                values.setdefault(subset, []).append(rng.gauss(mean, 0.02))
        truth = visible(culprits, needs)
        right += named(plan) == truth and not plan.unresolved
        wrong += any(name not in truth for name in named(plan)) or (plan.clean is not None and bool(truth))
    assert wrong == 0 and right >= 9


# Crashes, and more


def crashes_with(flag, culprits):
    clear = breaks(culprits)
    return lambda subset, runs: Verdict(CRASHED, runs) if flag in subset else clear(subset, runs)


def test_what_needs_a_flag_that_crashes_is_left_out_and_said():
    needs = subsets.close({"F": "C", "G": "F"})
    plan, runs = campaign("bayes", needs, crashes_with("C", [("J",)]))
    assert named(plan) == [("J",)]
    reason = "its runs crash; left out too, for they need it: F, G"
    assert [(one.flags, one.reason) for one in plan.unresolved] == [(("C",), reason)]
    plan, _ = campaign("halving", needs, crashes_with("C", [("J",)]))
    assert named(plan) == [("J",)] and plan.unresolved


@pytest.mark.parametrize("search", SEARCHES)
def test_where_all_flags_need_one_that_crashes_the_search_ends(search):
    plan, runs = campaign(search, STRUCTURES["one for all"], crashes_with("A", []))
    assert not plan.culprits and plan.clean is None and plan.unresolved
    assert sum(runs.values()) < 15


def test_of_a_pair_that_crashes_that_flag_is_left_out_which_fewer_need():
    needs = subsets.close({"F": "C", "G": "C"})
    rng = random.Random(1)
    table = {}
    for _ in range(80):
        subset = subsets.runnable([flag for flag in FLAGS if rng.random() < 0.6], needs)
        table[subset] = Verdict(CRASHED if {"B", "C"} <= set(subset) else FINE, 1)
    assert split_off_crashers(FLAGS, table, needs) == ((("B", "C"),), subsets.minus(FLAGS, ("B",)))
    assert split_off_crashers(FLAGS, table) == ((("B", "C"),), subsets.minus(FLAGS, ("C",)))


def test_the_worst_case_bounds_what_it_says():
    needs = subsets.close({"C": "B", "E": "A"})
    for search in ("bayes", "halving"):
        answer = find(search).answer
        most = worst_case_runs(answer, FLAGS[:5], 3, needs=needs)
        for culprits in [(("C",),), (("B", "D"),), (("A",), ("D",)), (("A", "E"),), (("B",), ("C",))]:
            assert noiseless_runs(answer, FLAGS[:5], 3, culprits, needs=needs) <= most


def test_a_verdict_on_a_set_that_is_not_runnable_is_no_evidence():
    """As of runs from before a need was declared."""
    table = {(): Verdict(BASELINE, 3), FLAGS: Verdict(BROKEN, 1, 6.0), ("F", "G"): Verdict(FINE, 1, -6.0)}
    for search in SEARCHES:
        answer = find(search).answer(Question(FLAGS, {"m": table}, needs=subsets.close({"F": "A"})))
        assert all(subsets.is_runnable(request.flags, {"F": frozenset("A")}) for request in answer.requests)
    odds = [
        find("bayes").answer(Question(FLAGS, {"m": one}, needs=subsets.close({"F": "A"}))).plans["m"].odds["F"]
        for one in (table, {subset: verdict for subset, verdict in table.items() if subset != ("F", "G")})
    ]
    assert odds[0] == odds[1]


@pytest.mark.parametrize("needs", STRUCTURES.values(), ids=STRUCTURES)
def test_that_nothing_breaks_is_as_likely_as_without_needs(needs):
    family = Family.over(np.ones(len(FLAGS)), KIND_PRIORS, as_matrix(needs, FLAGS))
    assert family.culprits(0) == () and np.exp(family.log_prior[0]) == pytest.approx(KIND_PRIORS[NOTHING])
    assert np.exp(family.log_prior).sum() == pytest.approx(1)
