"""The search that weighs explanations, against brute force, over tables of outcomes, and with real noise."""

import math
import os
import random
from collections import Counter
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pytest
from test_halving import ALL, read_table

from bisect_cli.campaign import subsets
from bisect_cli.evidence import judge
from bisect_cli.evidence.judge import BASELINE, BROKEN, CRASHED, FINE, Verdict
from bisect_cli.run.schedule import missing, noiseless_runs
from bisect_cli.search import Order, Question, find
from bisect_cli.search.bayes import crashes
from bisect_cli.search.bayes.hypotheses import ONE, Family
from bisect_cli.search.bayes.information import Outlook, bin_chances
from bisect_cli.search.bayes.metric_search import MetricSearch
from bisect_cli.search.bayes.posterior import (
    EXCEPTION_PROBABILITY,
    ONE_DROP_PROBABILITY,
    UNEXPLAINED_PRIOR,
    collect,
    weigh,
)
from bisect_cli.search.bayes.prior import KIND_PRIORS
from bisect_cli.trainers.maskrcnn import SPEC

GOLDEN = sorted((Path(__file__).parent / "golden" / "bayes").glob("*.txt"))
answer = find("bayes").answer


def clear(subset, runs, culprits, log_odds=6.0):
    broken = any(set(culprit) <= set(subset) for culprit in culprits)
    call = BROKEN if broken else FINE if subset else BASELINE
    return Verdict(call, runs, (log_odds if broken else -log_odds) * runs if subset else 0.0)


def campaign(flags, culprits, slots=1, verdict=clear, **known):
    """Runs a whole search in rounds; the final Plan, the subsets run in each round, and the table of verdicts."""
    runs, rounds = {}, []
    while True:
        done = runs.get((), 0) >= 3
        table = {subset: verdict(subset, number, culprits) for subset, number in runs.items()} if done else {}
        out = () if done else tuple(subset for subset, number in runs.items() for _ in range(number))
        found = ask(flags, {"segm": table}, out, slots, **known)
        if found.plans["segm"].done:
            return found.plans["segm"], rounds, table
        starts = [run.subset for run in islice(missing(found.requests, runs), slots)]
        for subset in starts:
            runs[subset] = runs.get(subset, 0) + 1
        assert starts and len(rounds) < 100, "the search does not end"
        rounds.append(starts)


def ask(flags, tables, in_flight=(), slots=1, **known):
    return answer(Question(flags, tables, in_flight, slots, groups=SPEC.blocks, **known))


def named(plan):
    return sorted(culprit.flags for culprit in plan.culprits)


def test_the_posterior_is_that_of_brute_force():
    """Every hypothesis over four flags, its prior and its likelihood, written out one by one."""
    flags, rng = "ABCD", random.Random(1)
    weights = [1.0, 6.0, 0.02, 1.0]
    pairs = list(combinations(range(4), 2))
    triples = list(combinations(range(4), 3))
    kinds = [
        (0.2, [()]),
        (0.4, [((i,),) for i in range(4)]),
        (0.16, [(pair,) for pair in pairs]),
        (0.16, [((a,), (b,)) for a, b in pairs]),
        (0.02, [(triple,) for triple in triples]),
        (0.03, [tuple((i,) for i in triple) for triple in triples]),
        (0.03, [(pair, (i,)) for pair in pairs for i in range(4) if i not in pair]),
    ]
    subsets = [s for size in range(1, 5) for s in combinations(range(4), size) if rng.random() < 0.6]
    odds = {subset: rng.gauss(0, 4) for subset in subsets}

    def likelihood(says_broken, log_odds):
        broken, fine = math.exp(log_odds), 1.0
        as_said, exception = (broken, fine) if says_broken else (fine, broken)
        return (1 - EXCEPTION_PROBABILITY) * as_said + EXCEPTION_PROBABILITY * exception

    expected = {}
    for prior, members in kinds:
        shares = [math.prod(weights[i] for one in member for i in one) for member in members]
        for member, share in zip(members, shares):
            p = (1 - UNEXPLAINED_PRIOR) * prior * share / sum(shares)
            for subset in subsets:
                p *= likelihood(any(set(one) <= set(subset) for one in member), odds[subset])
            expected[frozenset(member)] = p
    other = UNEXPLAINED_PRIOR
    for subset in subsets:
        broken, fine = (likelihood(says, odds[subset]) for says in (True, False))
        other *= broken if len(subset) == 4 else (broken + fine) / 2
    total = sum(expected.values()) + other

    table = {tuple(flags[i] for i in subset): Verdict(FINE, 1, odds[subset]) for subset in subsets}
    found = weigh(Family.over(np.array(weights), KIND_PRIORS), collect(flags, table, list(table)))
    assert len(found.family) == len(expected)
    for number, p in enumerate(found.probability):
        assert p == pytest.approx(expected[frozenset(found.family.culprits(number))] / total, rel=1e-4)
    assert found.other == pytest.approx(other / total, rel=1e-4)
    part = sum(p for member, p in expected.items() if any(1 in one for one in member)) / total
    assert found.family.takes_part(found.probability)[1] == pytest.approx(part, rel=1e-4)


def judged(values):
    """The Evidence of runs {subset: values} of the flags A, B and C beside a baseline, judged for real."""
    table = judge.judge_all([0.40, 0.41, 0.385], values)
    return collect("ABC", table, list(values))


def entropy(joint, kept):
    sums = {}
    for key, p in joint.items():
        group = tuple(key[i] for i in kept)
        sums[group] = sums.get(group, 0) + p
    return -sum(p * math.log2(p) for p in sums.values() if p)


@pytest.mark.parametrize("next_run", [("B", "C"), ("A", "B"), ()])
def test_information_is_the_mutual_information_of_hypothesis_and_outcome(next_run):
    """Of a run of a subset that is new, of one that ran before, and of the baseline: over all hypotheses, grid points
    and bins, one by one.
    """
    values = {("A", "B", "C"): [0.34], ("A", "B"): [0.375]}
    posterior = weigh(Family.over(np.ones(3), KIND_PRIORS), judged(values))
    sample, joint = posterior.sample, {}
    fine, broken = bin_chances(sample.grid)
    subset = np.array([[flag in next_run for flag in "ABC"]])
    says = [*posterior.family.broken(subset)[0].astype(float), 0.5]
    wrong = EXCEPTION_PROBABILITY
    for h, weights in enumerate([*sample.weights, sample.other]):
        probability = np.append(posterior.probability, posterior.other)[h]
        for k, p in enumerate(probability * weights / weights.sum()):
            margin = sample.margins[list(values).index(next_run), k] if next_run in values else 0.0
            odds = [math.exp(margin) * wrong / (1 - wrong), math.exp(margin) * (1 - wrong) / wrong]
            behaves = [each / (1 + each) for each in odds] if next_run else [0.0, 0.0]
            share = says[h] * behaves[1] + (1 - says[h]) * behaves[0]
            for y in range(fine.shape[1]):
                joint[h, k, y] = p * (share * broken[k, y] + (1 - share) * fine[k, y])
    expected = entropy(joint, [0]) + entropy(joint, [2]) - entropy(joint, [0, 2])
    assert sum(joint.values()) == pytest.approx(1, abs=1e-5)
    assert expected > 0.001
    assert Outlook(posterior).information(subset)[0] == pytest.approx(expected, abs=1e-4)


def test_information_counts_what_runs_in_flight_will_say():
    """Of a second run, given that a first one is out, each above or below the cut."""
    posterior = weigh(Family.over(np.ones(3), KIND_PRIORS), judged({("A", "B", "C"): [0.34]}))
    first, second = np.array([[1, 1, 0]], bool), np.array([[0, 1, 1]], bool)
    outlook, joint = Outlook(posterior), {}
    if_fine, if_broken = (each[:, : outlook.cut].sum(axis=1) for each in outlook.untried)
    outlook.expect(first[0])
    for h, p in enumerate([*posterior.probability, posterior.other]):
        low = []
        for subset in (first, second):
            says = 0.5 if h == len(posterior.probability) else float(posterior.family.broken(subset)[0, h])
            low.append(says * if_broken[h] + (1 - says) * if_fine[h])
        for one in (0, 1):
            for two in (0, 1):
                joint[h, one, two] = p * (low[0] if one else 1 - low[0]) * (low[1] if two else 1 - low[1])
    # I(H; second | first) = H(first, second) - H(first) - H(H, first, second) + H(H, first)
    expected = entropy(joint, [1, 2]) - entropy(joint, [1]) - entropy(joint, [0, 1, 2]) + entropy(joint, [0, 1])
    assert outlook.information(second)[0] == pytest.approx(expected, abs=1e-4)


def transcript(table):
    """The lines of a whole search over a table of outcomes, two runs at a time."""
    lines, number = [], 0
    while True:
        known = {subset: table.verdict(subset) for subset in table.runs} if table.runs.get((), 0) >= table.seeds else {}
        out = () if known else tuple(subset for subset, runs in table.runs.items() for _ in range(runs))
        given = {"seeds": table.seeds, "parity_order": table.order, "needs": table.needs}
        found = ask(table.flags, {"segm": known}, out, 2, **given)
        plan = found.plans["segm"]
        if known and plan.beliefs:
            best = plan.beliefs[0]
            explanation = " and ".join(" + ".join(one) for one in best.culprits) or "nothing breaks"
            lines.append(f"  likeliest: {explanation}, {best.probability:.3f}")
        if plan.done:
            return [*lines, *table.conclusion(plan)]
        number += 1
        assert number < 100, "the search does not end"
        lines.append(f"round {number}")
        assert all(subsets.is_runnable(request.flags, table.needs) for request in found.requests)
        starts = Counter((run.why, run.subset) for run in islice(missing(found.requests, table.runs), 2))
        for (why, subset), runs in starts.items():
            table.runs[subset] = table.runs.get(subset, 0) + runs
            lines.append(table.line(why, subset, runs))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_transcript(path):
    """Whole searches with two slots; UPDATE_GOLDEN=1 writes them anew."""
    head, _, body = path.read_text().partition("\n\n")
    lines = transcript(read_table(head))
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(head.rstrip("\n") + "\n\n" + "\n".join(lines) + "\n")
    else:
        assert "\n".join(lines) + "\n" == body


def test_transcripts_exist():
    assert len(GOLDEN) >= 8


def test_every_culprit_of_one_and_two_flags_is_named_in_fewer_runs_than_by_halving():
    """Clear verdicts, 11 flags, one run at a time; the mean of halving is 13.1, 19.5 and 17.8 runs."""
    kinds = {
        12: [((flag,),) for flag in ALL],
        17: [(pair,) for pair in combinations(ALL, 2)],
        17.5: [((a,), (b,)) for a, b in combinations(ALL, 2)],
    }
    for most, tables in kinds.items():
        runs = []
        for culprits in tables:
            plan, rounds, _ = campaign(ALL, culprits)
            assert named(plan) == sorted(culprits) and not plan.unresolved
            assert all(culprit.confidence > 0.97 for culprit in plan.culprits)
            runs.append(len(rounds))
        assert sum(runs) / len(runs) < most
    assert noiseless_runs(answer, ALL, 3, (), SPEC.blocks) == 6


def test_triples_are_named():
    a, b, c = "DATA_PIPELINE", "ROI_ALIGN_BOX", "MASK_LOSS"
    for culprits in (((a, b, c),), ((a,), (b,), (c,)), ((a, b), (c,))):
        assert named(campaign(ALL, culprits)[0]) == sorted(culprits)


@pytest.mark.parametrize("culprits", [((3,),), ((5, 40),), ((5,), (40,)), ((5, 40), (60,))])
def test_sixty_four_flags(culprits):
    flags = tuple(f"F{i:02d}" for i in range(64))
    culprits = tuple(tuple(flags[i] for i in one) for one in culprits)
    plan, rounds, _ = campaign(flags, culprits, slots=4)
    assert named(plan) == sorted(culprits)
    assert sum(map(len, rounds)) < 50


def test_free_slots_are_filled_with_different_subsets_and_save_rounds():
    pair = (("RPN_LOSS", "MASK_LOSS"),)
    plan, rounds, _ = campaign(ALL, pair, slots=8)
    assert named(plan) == list(pair)
    assert len(rounds[0]) == 8 and len(set(rounds[0])) == 6  # three of the baseline, and five sets
    assert 3 * len(rounds) <= len(campaign(ALL, pair)[1])


def test_the_same_verdicts_give_the_same_plan():
    table = {(): Verdict(BASELINE, 3), ALL: Verdict(BROKEN, 1, 4.0), ALL[:4]: Verdict(FINE, 1, -3.0)}
    question = Question(ALL, {"bbox": table, "segm": dict(table)}, (ALL[2:7],), 3, groups=SPEC.blocks)
    assert answer(question) == answer(question)


def test_a_right_test_order_of_parity_or_the_user_saves_runs():
    culprit = (("FAST_RCNN_OUTPUTS",),)
    ways = (
        lambda flag: {},
        lambda flag: {"parity_order": Order((flag,))},
        lambda flag: {"suspects": {flag: 6.0}},
    )
    plain, by_parity, by_user = (
        sum(sum(map(len, campaign(ALL, ((flag,),), **known(flag))[1])) for flag in ALL) for known in ways
    )
    assert by_parity == by_user < plain
    for wrong in ({"parity_order": Order(("RPN_HEAD",), culprit[0])}, {"trusts": culprit[0]}):
        assert named(campaign(ALL, culprit, **wrong)[0]) == list(culprit)


def test_a_false_verdict_is_found_out():
    """One subset's first run misleads: the culprit is named all the same, as other subsets contradict it."""
    misled = []

    def lies(subset, runs, culprits):
        verdict = clear(subset, runs, culprits)
        if "MASK_LOSS" in subset and len(subset) < len(ALL) and not misled:
            misled.append(subset)
        return Verdict(FINE, 1, -4.0) if [subset] == misled and runs == 1 else verdict

    plan, _, _ = campaign(ALL, (("MASK_LOSS",),), verdict=lies)
    assert misled and named(plan) == [("MASK_LOSS",)]


def test_no_explanation_is_no_name():
    """Four flags together are not among the hypotheses: it says so, splits, and names them or nothing."""
    four = (ALL[1], ALL[4], ALL[7], ALL[10])
    plan, _, _ = campaign(ALL, (four,))
    assert named(plan) in ([four], []) and (plan.culprits or plan.unresolved)


def test_a_flag_that_hides_another_leads_to_no_wrong_name():
    """Non-monotone: RPN_LOSS breaks, but not where MASK_LOSS is on too; the whole set is broken by ROI_ALIGN_BOX."""

    def hides(subset, runs, culprits):
        broken = ("RPN_LOSS" in subset and "MASK_LOSS" not in subset) or "ROI_ALIGN_BOX" in subset
        return clear(subset, runs, [()] if broken and subset else [])

    plan, _, _ = campaign(ALL, (), verdict=hides)
    assert set(named(plan)) <= {("RPN_LOSS",), ("ROI_ALIGN_BOX",)}


def test_crashes_that_follow_a_flag_are_reported_and_the_others_searched():
    def crashing(subset, runs, culprits):
        return Verdict(CRASHED, runs) if "RPN_HEAD" in subset else clear(subset, runs, culprits)

    plan, rounds, _ = campaign(ALL, (("MASK_LOSS",),), verdict=crashing)
    assert named(plan) == [("MASK_LOSS",)]
    assert [(one.flags, one.reason) for one in plan.unresolved] == [(("RPN_HEAD",), "its runs crash")]
    assert sum(map(len, rounds)) < 25


def test_a_crash_now_and_then_is_no_flags_doing():
    table = {ALL: Verdict(FINE, 1, -5.0), ALL[:3]: Verdict(CRASHED, 1), ALL[:5]: Verdict(FINE, 1, -5.0)}
    assert crashes.split_off_crashers(ALL, table) == ((), ALL)


def test_a_set_without_a_verdict_ends_the_search():
    plan, rounds, _ = campaign(ALL, (), verdict=lambda subset, runs, _: Verdict("undecided", runs, 0.0))
    assert not plan.culprits and plan.clean is None and plan.unresolved
    assert sum(map(len, rounds)) < 60


def test_a_run_that_can_no_longer_matter_is_cancelled():
    culprit = (("RPN_LOSS",),)
    _, _, table = campaign(ALL, culprit)
    del table[("RPN_LOSS",)]  # the culprit's own run is still to come, and a useless one is under way
    useless = ALL[:2]
    found = ask(ALL, {"segm": table}, (useless,))
    assert found.cancel == (useless,)
    assert [request.flags for request in found.requests] == [("RPN_LOSS",)]


def test_a_run_that_another_metric_needs_is_kept():
    """In flight, it is of no use to a metric that is settled or all but, and is kept for the one that is not."""
    _, _, table = campaign(ALL, (("RPN_LOSS",),))
    subset = ALL[:2]
    for other in ({}, table):
        found = ask(ALL, {"segm": table, "bbox": other}, (subset,))
        assert found.cancel == () and list(found.relevance[subset]) == (["bbox"] if not other else [])
    del table[("RPN_LOSS",)]
    open_too = {(): table[()], ALL: Verdict(BROKEN, 1, 6.0)}
    found = ask(ALL, {"segm": table, "bbox": open_too}, (subset,))
    relevance = found.relevance[subset]
    assert relevance["bbox"].matters and not relevance["segm"].matters and found.cancel == ()
    assert relevance["segm"].log_odds < -3 < relevance["bbox"].log_odds < 3  # fine, as far as segm is concerned
    assert subset in [request.flags for request in found.requests]


def test_a_run_that_a_conclusion_waits_for_matters_however_little_it_says():
    """The whole set again, for a metric that nothing breaks as far as is known; its culprit breaks the other one."""
    segm = {(): Verdict(BASELINE, 3, 0.0), ALL: Verdict(BROKEN, 1, 6.0), ("RPN_LOSS",): Verdict(BROKEN, 1, 6.0)}
    bbox = {subset: Verdict(FINE, 1, -7.0) if subset else verdict for subset, verdict in segm.items()}
    relevance = ask(ALL, {"segm": segm, "bbox": bbox}, (ALL,)).relevance[ALL]
    assert relevance["bbox"].matters and relevance["bbox"].log_odds < -4


@pytest.mark.parametrize("call, log_odds, names", [("undecided", -1.0, True), (FINE, -4.0, False)])
def test_a_culprit_whose_own_runs_stay_undecided_is_named_by_all_others(call, log_odds, names):
    one = ("RPN_LOSS",)
    with_it = [(*ALL[:2], *one), (*one, *ALL[5:7]), (*one, *ALL[7:]), (*ALL[:2], *one, *ALL[8:])]
    subsets = [(), ALL, *with_it, *([flag for flag in subset if flag not in one] for subset in (ALL, *with_it))]
    table = {tuple(subset): clear(tuple(subset), 3, [one]) for subset in subsets}
    table[one] = Verdict(call, judge.MOST_RUNS, log_odds)
    plan = ask(ALL, {"m": table}).plans["m"]
    assert plan.done and named(plan) == ([one] if names else []) and bool(plan.unresolved) != names


def test_no_run_is_requested_and_cancelled_at_once():
    rng, cancelled = random.Random(3), 0
    for number in range(40):
        subsets = [tuple(flag for flag in ALL if rng.random() < chance) for chance in [0.2, 0.5, 0.8] * 3]
        table = {subset: clear(subset, 1, [ALL[:1], ALL[4:6]][: number % 3]) for subset in ((), ALL, *subsets[:6])}
        table[()] = table[()]._replace(runs=3)
        out = tuple(subset for subset in subsets[6:] if subset)
        found = ask(ALL, {"m": table}, out, number % 2)
        assert set(found.cancel) <= set(out)
        assert not set(found.cancel) & {request.flags for request in found.requests}
        cancelled += len(found.cancel)
    assert cancelled > 10


def test_metrics_share_their_runs():
    runs = {}
    breaks = {"bbox": [("RPN_LOSS",)], "segm": [("RPN_LOSS",), ("MASK_LOSS",)]}
    while True:
        done = runs.get((), 0) >= 3
        tables = {m: {s: clear(s, k, c) for s, k in runs.items()} if done else {} for m, c in breaks.items()}
        out = () if done else tuple(s for s, k in runs.items() for _ in range(k))
        found = ask(ALL, tables, out)
        if all(plan.done for plan in found.plans.values()):
            break
        start = next(missing(found.requests, runs))
        runs[start.subset] = start.index + 1
    assert {metric: named(plan) for metric, plan in found.plans.items()} == {m: sorted(c) for m, c in breaks.items()}
    assert sum(runs.values()) < 24


# Mask AP of real runs, {set: {seed: value}}: CROP_AND_RESIZE_MASK with MASK_LOSS costs .51, without it .02 to .03.
GRADED = {
    (): {0: 0.628, 1: 0.662, 2: 0.638},
    ALL: {0: 0.125, 1: 0.138},
    ("ROI_ALIGN_MASK", "CROP_AND_RESIZE_MASK", "MASK_LOSS"): {0: 0.132, 1: 0.133},
    ("CROP_AND_RESIZE_MASK", "MASK_LOSS"): {0: 0.134, 1: 0.136},
    ("CROP_AND_RESIZE_MASK",): {0: 0.606, 1: 0.633, 2: 0.622, 3: 0.636},
    ("ROI_ALIGN_MASK", "CROP_AND_RESIZE_MASK"): {0: 0.607, 1: 0.631, 2: 0.618, 3: 0.633},
    tuple(flag for flag in ALL if flag != "MASK_LOSS"): {0: 0.602, 1: 0.632, 2: 0.618, 3: 0.628},
    tuple(flag for flag in ALL if flag != "CROP_AND_RESIZE_MASK"): {0: 0.639},
    ALL[:9]: {0: 0.639},
    ("MASK_LOSS",): {0: 0.628},
}


def weigh_graded(noise_prior):
    """The posterior of the GRADED runs: {culprits: probability}."""
    sets = {subset: GRADED[subset] for subset in GRADED if subset}
    table = judge.judge_all(GRADED[()], sets, noise_prior=noise_prior)
    found = weigh(Family.over(np.ones(len(ALL)), KIND_PRIORS), collect(ALL, table, list(sets)))
    names = (tuple(tuple(ALL[i] for i in one) for one in found.family.culprits(h)) for h in range(len(found.family)))
    return dict(zip(names, found.probability))


def test_a_piece_that_costs_little_by_itself_is_not_the_culprit_of_much():
    pair, alone = (("CROP_AND_RESIZE_MASK", "MASK_LOSS"),), (("CROP_AND_RESIZE_MASK",),)
    usual = weigh_graded(judge.NoisePrior())
    assert usual[pair] > 0.99 > 1000 * usual[alone]
    finer = weigh_graded(judge.NoisePrior(smallest_drop=0.02, beside=0.0))
    assert finer[alone] > usual[alone]  # whoever asks for .02 gets it


def test_one_culprit_is_expected_to_cost_the_same_everywhere(monkeypatch):
    """A alone and with C lost .045, with B .25: all due to A by itself, or only the latter to A and B together?"""
    values = {("A", "B", "C"): [0.15], ("A", "B"): [0.15], ("A",): [0.355], ("A", "C"): [0.355], ("B",): [0.40]}
    odds = []
    for one_drop in (0.5, ONE_DROP_PROBABILITY):
        monkeypatch.setattr("bisect_cli.search.bayes.posterior.ONE_DROP_PROBABILITY", one_drop)
        found = weigh(Family.over(np.ones(3), KIND_PRIORS), judged(values))
        alone, pair = (found.probability[found.family.holding(culprit)].sum() for culprit in ((0,), (0, 1)))
        odds.append(alone / pair)
    assert odds[1] < odds[0] / 2


def test_the_second_run_of_a_fine_whole_set_is_worth_what_it_saves():
    """It will be needed before nothing is said to break, so it comes before equally informative parts of the set."""
    for runs, due in ((1, True), (2, False)):
        table = {(): Verdict(BASELINE, 3), ALL: Verdict(FINE, runs, -3.0 * runs)}
        search = MetricSearch(Question(ALL, {"m": table}), "m", ALL, ())
        assert (search.due.get(ALL, 0) > 0.3) == due and search.confirmations[ALL] > 0.3


def test_real_noise_never_gives_a_wrong_name():
    """Runs drawn with the noise of real training and judged for real, all sets together."""
    rng, right, wrong = random.Random(5), 0, 0
    cases = [(("ROI_ALIGN_MASK",),), (("RPN_LOSS",), ("MASK_LOSS",)), (("RPN_HEAD", "ROI_ALIGN_MASK"),), ()]
    for number in range(12):
        culprits, values = cases[number % len(cases)], {}
        while True:
            table = {}
            if len(values.get((), ())) >= 3:
                table = judge.judge_all(values[()], {s: own for s, own in values.items() if s})
            out = () if table else tuple(s for s, own in values.items() for _ in own)
            found = ask(ALL, {"m": table}, out, 2)
            plan = found.plans["m"]
            if plan.done:
                break
            starts = list(islice(missing(found.requests, {s: len(own) for s, own in values.items()}), 2))
            for subset, _, _ in starts:
                mean = 0.7 - 0.1 * any(set(culprit) <= set(subset) for culprit in culprits)
                values.setdefault(subset, []).append(rng.gauss(mean, 0.02))
            assert starts
        right += named(plan) == sorted(culprits) and not plan.unresolved
        wrong += any(name not in culprits for name in named(plan)) or (plan.clean is not None and bool(culprits))
    assert wrong == 0 and right >= 11


def test_the_prior_of_a_kind_is_shared_out_by_weight():
    family = Family.over(np.array([1.0, 3.0]), KIND_PRIORS)
    table = dict(zip(map(family.culprits, range(len(family))), np.exp(family.log_prior)))
    assert table[((1,),)] == pytest.approx(3 * table[((0,),)])
    assert sum(table.values()) == pytest.approx(1)
    possible = sum(prior for kind, prior in KIND_PRIORS.items() if sum(map(len, kind)) <= 2)
    assert table[((0,),)] + table[((1,),)] == pytest.approx(KIND_PRIORS[ONE] / possible)
