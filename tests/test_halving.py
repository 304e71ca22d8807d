"""Whole searches over tables of outcomes. The transcripts in golden/ are documentation too; UPDATE_GOLDEN=1 writes them
anew.

A table is read from the head of its transcript: `flags:`, `seeds:`, and lines that say how runs end: `breaks: A, B`
(every subset with both), `undecided: A, B` and `crashes: A, B` (likewise), `misleads: A, B = broken` (the first run
only, of exactly that subset), `exactly: A, B = undecided` (all runs of exactly that subset). `suspects: A, B` and
`placebos: A, B` are the test order, `needs: A = B, C` is what A makes no sense without. golden/README.md shows how to
read one.
"""

import os
import random
from itertools import combinations
from pathlib import Path

import pytest

from bisect_cli.campaign import subsets
from bisect_cli.evidence import judge
from bisect_cli.evidence.judge import BASELINE, BROKEN, CRASHED, FINE, MOST_RUNS, UNDECIDED, Verdict
from bisect_cli.run.schedule import missing, worst_case_runs
from bisect_cli.search import Order, RunRequest, halving
from bisect_cli.trainers.maskrcnn import SPEC

ALL = SPEC.flag_names
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.txt"))
CLEAR = 6.0  # log odds of one clear run


class Table:
    """Outcomes by subset, and how often each was run. needs: (flag, those that it needs itself)."""

    def __init__(
        self,
        flags,
        breaks=(),
        undecided=(),
        crashes=(),
        misleads=(),
        exactly=(),
        seeds=3,
        suspects=(),
        placebos=(),
        needs=(),
    ):
        self.flags, self.seeds, self.order = flags, seeds, Order(tuple(suspects), tuple(placebos))
        self.needs = subsets.close(dict(needs))
        self.rules = [(CRASHED, crashes), (UNDECIDED, undecided), (BROKEN, breaks)]
        self.misleads, self.exactly = dict(misleads), dict(exactly)
        self.runs = {}

    def call(self, subset):
        if not subset:
            return BASELINE
        if self.runs[subset] == 1 and subset in self.misleads:
            return self.misleads[subset]
        if subset in self.exactly:
            return self.exactly[subset]
        return next((call for call, rule in self.rules if any(set(one) <= set(subset) for one in rule)), FINE)

    def verdict(self, subset):
        if subset not in self.runs:
            return None
        call, runs = self.call(subset), self.runs[subset]
        return Verdict(call, runs, {BROKEN: CLEAR, FINE: -CLEAR}.get(call, 0.0) * runs)

    def search(self):
        """The lines of a search, and its final plan."""
        lines, number = [], 0
        while True:
            plan = halving.plan(self.flags, self.verdict, self.seeds, self.order, SPEC.blocks, self.needs)
            if plan.done:
                return lines + self.conclusion(plan), plan
            number += 1
            assert number < 200, "the search does not end"
            lines.append(f"round {number}")
            for request in plan.requests:
                assert subsets.is_runnable(request.flags, self.needs)
                begun = self.runs.get(request.flags, 0)
                assert begun < request.runs <= max(MOST_RUNS, self.seeds), "a run made twice, or too many"
                self.runs[request.flags] = request.runs
            lines += [self.line(request.why, request.flags, request.runs) for request in plan.requests]

    def line(self, why, subset, runs):
        number = f"{runs} runs" if runs > 1 else "1 run"
        return f"  {why}: {SPEC.label(subset, self.flags)}: {number}: {self.call(subset)}"

    def conclusion(self, plan):
        lines = [f"culprit: {' + '.join(c.flags)}, confidence {c.confidence:.3f}" for c in plan.culprits]
        ran_with = [(" + ".join(c.flags), ", ".join(c.needed)) for c in plan.culprits if c.needed]
        lines += [f"  {flags} ran with what it needs: {needed}" for flags, needed in ran_with]
        lines += [f"  evidence: {SPEC.label(subset, self.flags)}" for c in plan.culprits for subset in c.evidence]
        lines += [f"unresolved: {SPEC.label(u.flags, self.flags)}: {u.reason}" for u in plan.unresolved]
        if plan.clean is not None:
            lines.append(f"nothing breaks, probability {plan.clean:.3f}")
        return [*lines, f"{sum(self.runs.values())} runs"]


def read_table(head):
    keys = ("breaks", "undecided", "crashes", "misleads", "exactly", "suspects", "placebos", "needs")
    given = {key: [] for key in keys}
    flags = seeds = None
    for line in head.splitlines():
        key, _, value = line.partition(": ")
        if key == "flags":
            flags = SPEC.parse_flags(value)
        elif key == "seeds":
            seeds = int(value)
        elif key in ("misleads", "exactly"):
            subset, call = value.split(" = ")
            given[key].append((SPEC.parse_flags(subset), call))
        elif key == "needs":
            flag, needed = value.split(" = ")
            given[key].append((flag, needed.split(", ")))
        elif key in ("suspects", "placebos"):
            given[key] = value.split(", ")
        elif key in given:
            given[key].append(SPEC.parse_flags(value))
        else:
            assert line.startswith("#"), line
    return Table(flags, seeds=seeds or 3, **given)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_transcript(path):
    head, _, body = path.read_text().partition("\n\n")
    lines, _ = read_table(head).search()
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(head.rstrip("\n") + "\n\n" + "\n".join(lines) + "\n")
    else:
        assert "\n".join(lines) + "\n" == body


def test_transcripts_exist():
    assert len(GOLDEN) >= 10


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_culprit_of_up_to_three_flags_is_found_exactly(size):
    for culprit in combinations(ALL, size):
        _, plan = Table(ALL, breaks=[culprit]).search()
        assert [c.flags for c in plan.culprits] == [culprit]
        assert not plan.unresolved
        assert plan.culprits[0].confidence > 0.98


def test_every_two_independent_culprits_are_found():
    for a, b in combinations(ALL, 2):
        _, plan = Table(ALL, breaks=[(a,), (b,)]).search()
        assert sorted(c.flags for c in plan.culprits) == sorted([(a,), (b,)])


def test_disjoint_pairs_are_found():
    pairs = list(combinations(ALL[:6], 2))
    for first, second in combinations(pairs, 2):
        if not set(first) & set(second):
            _, plan = Table(ALL[:6], breaks=[first, second]).search()
            assert sorted(c.flags for c in plan.culprits) == sorted([first, second])


def test_single_culprits_cost_few_runs():
    worst = 0
    for flag in ALL:
        table = Table(ALL, breaks=[(flag,)])
        table.search()
        worst = max(worst, sum(table.runs.values()))
    assert worst <= 3 + 1 + 2 * 4 + 3  # baseline, the set, a pair of halves for each of 4 levels, confirmation


def test_confidence_comes_from_the_odds(monkeypatch):
    sure = Table(("RPN_LOSS", "MASK_LOSS"), breaks=[("RPN_LOSS",)])
    _, plan = sure.search()
    monkeypatch.setattr("test_halving.CLEAR", 3.0)
    _, doubtful = Table(("RPN_LOSS", "MASK_LOSS"), breaks=[("RPN_LOSS",)]).search()
    assert 0.9 < doubtful.culprits[0].confidence < plan.culprits[0].confidence < 1
    # both rest on two runs of the culprit alone and two of the set without it
    right = 1 / (1 + 2.718281828**-6)
    assert doubtful.culprits[0].confidence == pytest.approx(right * right)


def test_worst_case_runs_bounds_what_it_says():
    most = worst_case_runs(halving.answer, ALL[:5], 3, SPEC.blocks)
    for pair in combinations(ALL[:5], 2):
        table = Table(ALL[:5], breaks=[pair])
        table.search()
        assert sum(table.runs.values()) <= most


def test_missing_runs_are_those_beyond_what_has_begun_most_urgent_first():
    requests = (RunRequest(("B",), 2, "half"), RunRequest((), 3, "baseline"), RunRequest(("A",), 1, "in flight"))
    begun = {(): 1, ("A",): 1}
    found = []
    for run in missing(requests, begun):
        begun[run.subset] = run.index + 1  # as who starts them does
        found.append(tuple(run))
    assert found == [(("B",), 0, "half"), (("B",), 1, "half"), ((), 1, "baseline"), ((), 2, "baseline")]
    assert not list(missing(requests, begun))


def test_queries_hang_below_what_they_were_split_off():
    _, plan = Table(ALL, breaks=[("RPN_HEAD", "MASK_LOSS")]).search()
    for one in plan.queries:
        assert one.parent is None or set(one.flags) < set(one.parent)


def test_real_noise_seldom_misleads_a_whole_search():
    """Runs drawn with the noise of real training and judged for real: the search names what breaks, and little else."""
    rng, right, runs = random.Random(7), 0, 0
    cases = [(("ROI_ALIGN_MASK",),), (("RPN_LOSS",), ("MASK_LOSS",)), (("RPN_HEAD", "ROI_ALIGN_MASK"),), ()]
    for campaign in range(40):
        culprits = cases[campaign % len(cases)]
        values = {}

        def verdict(subset, values=values):
            if len(values.get((), ())) < 3 or subset not in values:
                return None
            return judge.judge(values[()], values[subset]) if subset else judge.baseline(values[()])

        while True:
            plan = halving.plan(ALL, verdict, 3, groups=SPEC.blocks)
            if plan.done:
                break
            for subset, _, _ in missing(plan.requests, {subset: len(own) for subset, own in values.items()}):
                mean = 0.7 - 0.15 * any(set(culprit) <= set(subset) for culprit in culprits)
                values.setdefault(subset, []).append(rng.gauss(mean, 0.02))
        right += sorted(c.flags for c in plan.culprits) == sorted(culprits) and not plan.unresolved
        runs += sum(map(len, values.values()))
    assert right >= 36
    assert runs / 40 < 22
