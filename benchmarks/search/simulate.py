"""One simulated campaign: a real search and the real judge, over a Landscape, with asynchronous runs in some slots."""

import heapq
from collections import Counter
from itertools import islice
from typing import NamedTuple

from bisect_cli.campaign.state import ATTEMPTS
from bisect_cli.evidence import judge
from bisect_cli.run.schedule import missing
from bisect_cli.search import DEFAULT, Question, find

SEEDS = 3  # replicates of the baseline
SURE = 0.95  # of a culprit, from which on it counts as named
MOST_RUNS = 300  # a campaign that needs more has failed


class Statement(NamedTuple):
    """Culprits (none: nothing breaks), said to be so with a probability, whether they are, and after how many runs."""

    culprits: tuple
    probability: float
    right: bool
    runs: int


class Outcome(NamedTuple):
    """How a campaign ended.

    runs: attempts started, all of them. before: those that were neither baseline nor confirmation. rounds: its duration
    in units of a run. named: {metric: culprits, as a set of tuples of flags}. exact: all culprits of all metrics and
    nothing else. wrong: something named that is no culprit. inconclusive: said not to know. stated: Statements at the
    end. believed: {metric: Statements on the likeliest explanation, each time it was asked for}. since: {(metric,
    culprit): the runs that had ended when its probability came to SURE for good}. lines: (time, subset, why, values)
    of each run ended.
    """

    runs: int
    before: int
    rounds: float
    named: dict
    exact: bool
    wrong: bool
    inconclusive: bool
    stated: tuple = ()
    believed: dict = {}  # noqa: RUF012 - never written to
    since: dict = {}  # noqa: RUF012 - never written to
    lines: tuple = ()


class _Run(NamedTuple):
    """In flight; sorts by its end, then by its start. values: None if it will crash."""

    end: float
    number: int
    subset: tuple
    replicate: int
    why: str
    attempt: int
    values: object


def simulate(landscape, search=DEFAULT, slots=1, **known):
    """The Outcome of a campaign. search: the name of one of bisect_cli.search. known: what else the Question says, such
    as `suspects`.
    """
    return _Campaign(landscape, search, slots, known).run()


class _Campaign:
    def __init__(self, landscape, search, slots, known):
        self.landscape, self.search, self.slots, self.known = landscape, find(search), slots, known
        self.metrics = tuple(landscape.effects)
        self.begun = Counter()  # subset -> runs begun, ended ones included
        self.replicate = Counter()  # subset -> the next seed
        self.values = {metric: {} for metric in self.metrics}  # metric -> subset -> {replicate: value}, of runs ended
        self.crashed = Counter()
        self.verdicts = {metric: {} for metric in self.metrics}
        self.flying, self.time, self.attempts, self.ended, self.before = [], 0.0, 0, 0, 0
        self.believed = {metric: [] for metric in self.metrics}
        self.since, self.lines = {}, []

    def run(self):
        while True:
            answer = self.search.answer(self._question())
            self._note(answer.plans)
            if all(plan.done for plan in answer.plans.values()):
                return self._outcome(answer.plans, stuck=False)
            self._cancel(answer.cancel)
            self._fill(answer.requests)
            if not self.flying or self.attempts > MOST_RUNS:
                return self._outcome(answer.plans, stuck=True)
            self._collect()

    def _question(self):
        judged = any(self.verdicts.values())
        ended = () if judged else tuple(line[1] for line in self.lines)
        out = tuple(run.subset for run in sorted(self.flying, key=lambda run: run.number))
        free, one = self.slots - len(self.flying), self.landscape
        return Question(one.flags, self.verdicts, ended + out, free, SEEDS, groups=one.groups, **self.known)

    def _cancel(self, subsets):
        for subset in subsets:
            run = max((run for run in self.flying if run.subset == subset), key=lambda run: run.number)
            self.flying.remove(run)
            self.begun[subset] -= 1
        heapq.heapify(self.flying)

    def _fill(self, requests):
        for subset, _, why in islice(missing(requests, self.begun), self.slots - len(self.flying)):
            self.begun[subset] += 1
            self._start(subset, why, 1)

    def _start(self, subset, why, attempt):
        replicate = self.replicate[subset]
        values, duration = self.landscape.run(subset, replicate, self.attempts)
        self.replicate[subset] += 1
        self.attempts += 1
        self.before += bool(subset) and not why.startswith("confirm")
        heapq.heappush(self.flying, _Run(self.time + duration, self.attempts, subset, replicate, why, attempt, values))

    def _collect(self):
        """Lets the time go on to the next end of a run, and judges all that end at that moment."""
        self.time = self.flying[0].end
        while self.flying and self.flying[0].end == self.time:
            run = heapq.heappop(self.flying)
            self.ended += 1
            if run.values is None and run.attempt < ATTEMPTS:
                self._start(run.subset, run.why, run.attempt + 1)
                continue
            self.lines.append((self.time, run.subset, run.why, run.values))
            if run.values is None:
                self.crashed[run.subset] += 1
            for metric, value in (run.values or {}).items():
                self.values[metric].setdefault(run.subset, {})[run.replicate] = value
        for metric in self.metrics:
            self._judge(metric)

    def _judge(self, metric):
        alike = self.landscape.alike
        values = {subset: own if alike else list(own.values()) for subset, own in self.values[metric].items()}
        reference, crashed = values.pop((), []), dict(self.crashed)
        runs = len(reference) + crashed.pop((), 0)
        if runs >= SEEDS and reference:
            noise_prior = self.landscape.noise_priors.get(metric, judge.NoisePrior())
            table = judge.judge_all(reference, values, crashed, noise_prior=noise_prior)
            self.verdicts[metric] = {**table, (): table[()]._replace(runs=runs)}

    def _note(self, plans):
        for metric, plan in plans.items():
            if plan.beliefs:
                top = plan.beliefs[0]
                right = set(top.culprits) == self.landscape.truth(metric)
                self.believed[metric].append(Statement(top.culprits, top.probability, right, self.ended))
            sure = Counter()
            for belief in plan.beliefs:
                sure.update(dict.fromkeys(belief.culprits, belief.probability))
            sure = {(metric, culprit) for culprit, probability in sure.items() if probability >= SURE}
            kept = {key: runs for key, runs in self.since.items() if key[0] != metric or key in sure}
            self.since = {**dict.fromkeys(sure, self.ended), **kept}

    def _outcome(self, plans, stuck):
        truth = {metric: self.landscape.truth(metric) for metric in self.metrics}
        named = {metric: {culprit.flags for culprit in plan.culprits} for metric, plan in plans.items()}
        stated = []
        for metric, plan in plans.items():
            for culprit in plan.culprits:
                right = culprit.flags in truth[metric]
                stated.append(Statement((culprit.flags,), culprit.confidence, right, self.ended))
            if plan.clean is not None:
                stated.append(Statement((), plan.clean, not truth[metric], self.ended))
        unsure = stuck or any(
            plan.unresolved or not (plan.culprits or plan.clean is not None) for plan in plans.values()
        )
        return Outcome(
            self.attempts,
            self.before,
            self.time,
            named,
            exact=not unsure and named == truth,
            wrong=any(named[metric] - truth[metric] for metric in self.metrics),
            inconclusive=unsure,
            stated=tuple(stated),
            believed=self.believed,
            since=self.since,
            lines=tuple(self.lines),
        )
