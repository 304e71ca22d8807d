"""The search that weighs explanations: after every run the exact posterior, and next the run that tells most.

  1. For every metric, the posterior over what may break it (`hypotheses`, `posterior`).
  2. First run: the baseline, and the whole set beside it where slots are free. Then the subset with the most expected
     information, summed over the metrics whose search is not over (`information`, `candidates`), plus what is saved if
     it will be needed for a confirmation anyway; it may be the baseline. All free slots are filled that way, each given
     the runs in flight.
  3. A metric is settled when one hypothesis has STOP, and runs that it could be named without bear it out: each culprit
     alone is broken, and the set without the culprits is fine. That nothing breaks takes two runs of the whole set:
     both culprits of 2019 had first been recorded as converging.
  4. If no hypothesis fits, it says so: subsets whose verdict contradicts the best one are run again, and if that does
     not help, the metric is taken apart by `halving`, which assumes nothing but that runs can be repeated.
Runs that crash tell nothing, except where all runs of one flag crash: see `crashes`.
"""

import math

import numpy as np

from bisect_cli.evidence.judge import BROKEN, CRASHED, FINE, MOST_RUNS, VERDICT_ODDS, UNDECIDED
from bisect_cli.search import Answer, Asked, Belief, Culprit, Plan, Stake, Unresolved, Want, halving
from bisect_cli.search.bayes.candidates import candidates, plainness
from bisect_cli.search.bayes.crashes import crashing, posterior_of
from bisect_cli.search.bayes.hypotheses import KINDS, ONE_OF_SEVERAL, Family
from bisect_cli.search.bayes.information import Outlook
from bisect_cli.search.bayes.posterior import DIGITS, evidence, posterior, ranked
from bisect_cli.search.bayes.prior import told as having_heard

STOP = 0.985  # of the hypothesis named; drops near the smallest are named wrongly more often than others
ENOUGH = 0.9  # ... or, with that confidence stated, if no further run tells more
FAR = 1e-10  # of the likeliest: less than one subset, which speaks for at most 1/WRONG to one, can make up for
NAMED = 0.5  # of a hypothesis without one of its confirming subsets, for that one to count as fresh evidence
MANY = 60  # runs, twice what any family takes at 7 % of error, after which nothing is expected of hypotheses either
MISFIT = 0.5  # of something else, for giving up on hypotheses
CONFIRMS = 0.5  # of the hypotheses that would rest on a run, for it to be called a confirmation
SAVED = 0.2  # bits: what is saved by a run that a confirmation needs later anyway; .7 takes more runs
LEAST = 0.02  # bits below which a run in flight is cancelled, and needs for a confirmation count for nothing
LAST = 0.003  # ... and below which no further run is made
WORTH = 0.03  # the same, once what would be named is likely ENOUGH: thirty runs for a bit
SPARE = 0.1  # ... and below which a free slot stays free, and the rest of a run is not worth its time
MOST_BASELINE = 12  # runs of the baseline that a search asks for
ALIKE = 0.98  # share of the most information at which a subset that people recognise is taken instead
SUSPECT = 20.0  # prior odds of a flag that parity found to differ: all 12 recorded faults do, 5 of them cost AP plainly
PLACEBO = 0.02  # of one that builds the same graph on or off: only a mistake in the comparison makes it a culprit
TRUSTED = 0.05  # of one that the user trusts
FAINT = 24  # runs without a clearly broken one before an undecided whole set ends the search
SHOWN = 5  # beliefs in a Plan


def search(question):
    """What to run next, or the culprits, as `bisect_cli.search` describes."""
    return _Bayes(question).answer()


class _Bayes:
    """One planning step."""

    def __init__(self, question):
        self.question = question
        self.begun = {}  # subset -> runs, ended or not
        self.out = [subset for subset in question.in_flight if subset]
        tables = [table for table in question.verdicts.values() if table]
        for table in tables[:1]:
            self.begun = {subset: verdict.runs for subset, verdict in table.items()}
        for subset in question.in_flight:
            self.begun[subset] = self.begun.get(subset, 0) + 1
        self.crashed = tables[0] if tables else {}
        self.crashers, self.flags = crashing(question.flags, self.crashed)
        self.metrics = {
            name: _Metric(question, self.flags, self.crashers, table, question.hearsay.get(name, {}))
            for name, table in question.verdicts.items()
        }
        self.wanted = {}

    def answer(self):
        open_metrics = [metric for metric in self.metrics.values() if metric.open]
        cancel = ()
        if open_metrics:
            self._baseline()
            for metric in open_metrics:
                for want in metric.needs:
                    self._want(want.flags, want.runs, want.why)
            weighed = [metric for metric in open_metrics if metric.weighs]
            if weighed:
                cancel = self._explore(weighed)
        wanted = tuple(self.wanted.values())
        plans = {name: metric.plan(wanted if metric.open else ()) for name, metric in self.metrics.items()}
        stakes = {
            subset: {name: metric.stake(subset) for name, metric in self.metrics.items() if metric.open}
            for subset in dict.fromkeys(self.out)
        }
        return Answer(plans, wanted, cancel, stakes)

    def _baseline(self):
        if any(not metric.table for metric in self.metrics.values()) or self.begun.get((), 0) < self.question.seeds:
            self._want((), self.question.seeds, "baseline")
            if self.flags not in self.begun:
                self._want(self.flags, 1, "the whole set")

    def _explore(self, metrics):
        """Wants what is in flight and still matters, then fills the free slots; returns what is in flight in vain."""
        worth = _Worth(metrics, self.flags, self.crashed)
        planned = [want.flags for want in self.wanted.values() if want.flags]
        useless = []
        for subset in dict.fromkeys(self.out):
            if subset in planned:
                continue
            if all(metric.table for metric in metrics) and worth.of(subset) < LEAST:
                useless.append(subset)
            else:
                self._want(subset, self.begun[subset], "in flight")
        for subset in self.out:
            if subset not in useless:
                worth.expect(subset)
        due = {want.flags: want.runs - self.begun.get(want.flags, 0) for want in self.wanted.values()}
        free = self.question.slots - sum(max(0, number) for number in due.values())
        for subset, number in due.items():
            for _ in range(max(0, number) if subset else 0):
                worth.expect(subset)
        least = WORTH if all(metric.sure >= ENOUGH for metric in metrics) else LAST
        while free > 0:
            spent = [subset for subset in {**self.begun, **self.wanted} if not self._may_run(subset)]
            chosen = worth.best(spent, SPARE if self.wanted else least)
            if chosen is None:
                break
            subset, why = chosen
            self._want(subset, self.begun.get(subset, 0) + self._more(subset) + 1, why)
            worth.expect(subset)
            free -= 1
        if free <= 0 and not self.wanted:  # what is worth a run has to wait for these
            for subset in useless:
                self._want(subset, self.begun[subset], "in flight")
            return ()
        if not self.wanted:
            for metric in metrics:
                for want in metric.settle():
                    self._want(want.flags, want.runs, want.why)
        return tuple(subset for subset in useless if subset not in self.wanted)

    def _more(self, subset):
        want = self.wanted.get(subset)
        return want.runs - self.begun.get(subset, 0) if want else 0

    def _may_run(self, subset):
        """Whether another run of a subset can be asked for."""
        runs = self.begun.get(subset, 0) + max(0, self._more(subset))
        crashed = subset in self.crashed and self.crashed[subset].call == CRASHED
        return runs < (2 if crashed else MOST_RUNS if subset else MOST_BASELINE)

    def _want(self, flags, runs, why):
        if flags not in self.wanted or self.wanted[flags].runs < runs:
            self.wanted[flags] = Want(flags, runs, why)


class _Worth:
    """What runs are worth to the metrics, given those expected already."""

    def __init__(self, metrics, flags, crashed):
        self.flags = flags
        self.metrics = metrics
        told = [metric.posterior for metric in metrics]
        crash = posterior_of(flags, crashed)
        self.crash = crash and crash.likeliest()
        self.outlooks = [Outlook(one.likeliest()) for one in (*told, *([crash] if crash else []))]
        self.needed, self.bearing, rows = {}, {}, []
        for metric in metrics:
            for subset, share in metric.bearing.items():
                rows.append(self._row(subset))
                key = rows[-1].tobytes()
                self.bearing[key] = max(share, self.bearing.get(key, 0))
                self.needed[key] = self.needed.get(key, 0) + metric.due.get(subset, 0)
        odds = np.max([one.family.takes_part(one.probability) for one in told], axis=0)
        self.candidates = candidates(flags, odds, rows)

    def _row(self, subset):
        return np.array([flag in subset for flag in self.flags], bool)

    def expect(self, subset):
        """One more run in flight."""
        row = self._row(subset)
        for outlook in self.outlooks:
            outlook.add(row)
        self.needed.pop(row.tobytes(), None)

    def of(self, subset):
        return float(self._scores(self._row(subset)[None])[0][0])

    def _scores(self, rows):
        """Score and information, each [C]."""
        bits = sum(outlook.information(rows) for outlook in self.outlooks)
        if self.crash:
            bits = bits * (1 - 0.95 * self.crash.probability @ self.crash.family.broken(rows).T)
        extra = SAVED * np.array([self.needed.get(row.tobytes(), 0.0) for row in rows])
        return np.round(bits + extra * (bits > LEAST), DIGITS), bits

    def best(self, spent, least):
        """The subset most worth a run, and why; None if none but those `spent` is worth `least` bits."""
        known = {self._row(subset).tobytes() for subset in spent}
        rows = np.array([row for row in self.candidates if row.tobytes() not in known])
        if not len(rows):
            return None
        scores, bits = self._scores(rows)
        for _ in range(3):  # local improvement: one flag on or off
            top = rows[ranked(scores)[:2]]
            flips = (top[:, None] ^ np.eye(len(self.flags), dtype=bool)[None]).reshape(-1, len(self.flags))
            known.update(row.tobytes() for row in rows)
            new = np.array([row for row in flips if row.tobytes() not in known])
            if not len(new):
                break
            new_scores, new_bits = self._scores(new)
            better = new_scores.max() > scores.max() * (2 - ALIKE)
            rows, scores, bits = np.concatenate([rows, new]), np.append(scores, new_scores), np.append(bits, new_bits)
            if not better:
                break
        alike = np.flatnonzero(scores >= scores.max() * ALIKE)
        chosen = min(alike, key=lambda i: (plainness(self.flags, rows[i]), -scores[i]))
        if bits[chosen] < least:
            return None
        confirms = self.bearing.get(rows[chosen].tobytes(), 0.0) >= CONFIRMS
        subset = tuple(flag for flag, on in zip(self.flags, rows[chosen]) if on)
        return subset, f"{'confirm the likeliest' if confirms else 'tells most'}: {bits[chosen]:.2f} bits"


class _Metric:
    """What is known about one metric.

    open: its search is not over. weighs: its next runs are chosen by information. needs: runs it must have, as Wants.
    bearing: {subset: probability} of what the result will rest on; due: the same of what has yet to be run for it.
    """

    def __init__(self, question, flags, crashers, table, hearsay):
        self.question, self.flags, self.table = question, flags, table
        self.stuck = self.lost = False
        self.unresolved = tuple(Unresolved(one, "its runs crash") for one in crashers)
        self.tried = [subset for subset in table if subset and self._counts(subset)]
        self.evidence = evidence(flags, table, self.tried)
        self.weights = np.array([_weight(question, flag) for flag in flags])
        kinds = KINDS if len(question.verdicts) == 1 else {**KINDS, **ONE_OF_SEVERAL}
        self.family = having_heard(Family.over(self.weights, kinds), flags, hearsay)
        self.posterior = posterior(self.family, self.evidence)
        self.culprits = self._named(self.posterior.best)
        self.sure = float(self.posterior.probability[self.posterior.best])
        self.needs, self.bearing, self.due, self.fallback = (), {}, {}, None
        self.open, self.weighs = True, True
        if table:
            self._look()

    def _counts(self, subset):
        return self.table[subset].call != CRASHED and set(subset) <= set(self.flags)

    def _named(self, number):
        return tuple(tuple(self.flags[i] for i in one) for one in self.family.culprits(number))

    def _look(self):
        """Whether the search is over, and what it needs if not."""
        runs = sum(self.table[subset].runs for subset in self.tried)
        if self.posterior.other > MISFIT or runs > MANY and self.sure < STOP:
            self._misfit()
            return
        if self._faint():
            return
        whole, base = self.table.get(self.flags), self.table[()]
        unclear = whole and whole.call == UNDECIDED and self.sure < STOP
        if unclear and base.runs < self.question.seeds + whole.runs - 1:
            self.needs = (Want((), base.runs + 1, "the whole set is undecided: more of the baseline"),)
        for number in ranked(self.posterior.probability)[:8]:
            share, culprits = float(self.posterior.probability[number]), self._named(number)
            for subset, _, _ in self._confirming(culprits):
                self.bearing[subset] = self.bearing.get(subset, 0) + share
                if subset not in self.table or not culprits and self.table[subset].runs < halving.CONFIRMED:
                    self.due[subset] = self.due.get(subset, 0) + share
        if self.sure >= STOP:
            missing = tuple(self._unconfirmed())
            self.open = bool(missing)
            self.needs = missing

    def _confirming(self, culprits):
        """The subsets that bear out a hypothesis, as (subset, call, why)."""
        if not culprits:
            return [(self.flags, FINE, "confirm the whole set")]
        rest = tuple(flag for flag in self.flags if not any(flag in one for one in culprits))
        told = [(one, BROKEN, "confirm the culprit") for one in culprits]
        return told + ([(rest, FINE, "confirm the set without the culprit")] if rest else [])

    def _unconfirmed(self):
        """The runs that are missing before the best hypothesis is the result."""
        culprits = self.culprits
        subsets = self._confirming(culprits)
        enough = bool(culprits) or self.sure >= STOP
        for subset, call, why in subsets:
            verdict = self.table.get(subset)
            runs = 1 if culprits and self._named_without(subset) else halving.CONFIRMED
            if verdict is None or verdict.runs < runs:
                yield Want(subset, runs, why)
            elif verdict.call != call and not (verdict.runs >= halving.CONFIRMED and enough and _leans(verdict, call)):
                if verdict.runs < MOST_RUNS:
                    yield Want(subset, verdict.runs + 1, f"{why}: another seed")
                elif verdict.call != UNDECIDED or not enough:
                    told = {CRASHED: "its runs crashed"}.get(verdict.call, f"{verdict.call} after {verdict.runs} runs")
                    self.unresolved += (Unresolved(subset, told),)

    def stake(self, subset):
        """The Stake of this metric in another run of a subset."""
        row = np.array([[flag in subset for flag in self.flags]], bool)
        told = self.posterior
        broken = float(told.probability @ told.family.broken(row)[0]) + told.other / 2
        log_odds = math.log(max(broken, 1e-9) / max(1 - broken, 1e-9))
        due = [want.flags for want in self.needs] + [one for one, _, _ in self._confirming(self.culprits)]
        if not self.table or subset in due:  # however little it tells, the search does not end without it
            return Stake(True, log_odds)
        bits = Outlook(told.likeliest()).information(row)[0] if self.weighs else 0.0
        return Stake(bool(bits >= SPARE), log_odds)

    def settle(self):
        """Makes do with the best hypothesis, as no further run would tell more, if it is likely enough; gives up else.
        Returns the runs that still have to bear it out.
        """
        if self.sure < ENOUGH:
            self.stuck = True
            return ()
        missing = tuple(self._unconfirmed())
        self.open = bool(missing)
        return missing

    def _named_without(self, subset):
        """Whether all other subsets name the best hypothesis too, so that the run of this one is fresh evidence."""
        others = [i for i, other in enumerate(self.tried) if other != subset]
        probability, best = self.posterior.probability, self.posterior.best
        near = probability > FAR * probability[best]
        told = posterior(self.family.kept(near), self.evidence.only(others))
        return told.probability[near[:best].sum()] >= NAMED

    def _faint(self):
        """The whole set stays undecided and nothing else is clearly broken: its parts would be no clearer."""
        whole = self.table.get(self.flags)
        runs = sum(self.table[subset].runs for subset in self.tried)
        if whole and whole.call != UNDECIDED or runs < FAINT or self.sure >= STOP:
            return False
        if any(self.table[subset].call == BROKEN for subset in self.tried):
            return False
        if not whole or whole.runs < MOST_RUNS:
            runs = whole.runs if whole else 0
            self.needs = (Want(self.flags, runs + 1, "nothing is clear: the whole set"),)
            self.weighs = False
            return True
        self.unresolved += (Unresolved(self.flags, f"undecided after {whole.runs} runs"),)
        self.open = False
        return True

    def _misfit(self):
        """No hypothesis explains the verdicts: repeats what contradicts the best one, then splits."""
        self.weighs, self.lost = False, True
        says_broken = self.family.broken(self.evidence.subsets)[:, self.posterior.best]
        log_odds = np.array([self.table[subset].log_odds for subset in self.tried])
        against = np.where(says_broken, -log_odds, log_odds) > math.log(VERDICT_ODDS)
        again = [subset for subset, wrong in zip(self.tried, against) if wrong and self.table[subset].runs < 2]
        if again:
            self.needs = tuple(Want(subset, 2, "contradicts the others: once more") for subset in again)
            return
        plan = halving.plan(self.flags, self.table.get, self.question.seeds, self.question.order)
        self.fallback = plan
        self.needs = plan.wanted
        self.open = bool(plan.wanted)

    def plan(self, wanted):
        """The Plan to report."""
        told = self.posterior
        order = [int(i) for i in ranked(told.probability)[:SHOWN] if told.probability[i] > 0.001]
        beliefs = tuple(Belief(self._named(i), float(told.probability[i])) for i in order)
        odds = dict(zip(self.flags, told.family.takes_part(told.probability).tolist()))
        asked = tuple(Asked(subset, None, "") for subset in self.tried)
        if self.stuck:
            reason = f"no further run would tell more; the likeliest explanation has {self.sure:.0%}"
            stuck = (Unresolved(self.flags, reason),)
            return Plan((), (), (*self.unresolved, *stuck), (), asked, None, beliefs, odds)
        if self.lost:
            note = (
                f"no explanation with up to three flags fits the verdicts ({told.other:.0%} for something else, "
                f"{self.sure:.0%} for the likeliest): they are repeated, then the set is split"
            )
            if self.fallback is None:
                return Plan(wanted, (), self.unresolved, (), asked, None, beliefs, odds, note)
            return self.fallback._replace(
                wanted=wanted, unresolved=(*self.unresolved, *self.fallback.unresolved), odds=odds, note=note
            )
        if self.open:
            likely = tuple(flag for flag in self.flags if odds[flag] >= 0.1)
            suspects = ((likely, ()),) if self.table.get(self.flags) and likely else ()
            return Plan(wanted, (), self.unresolved, suspects, asked, None, beliefs, odds)
        clean = self.sure if not self.culprits and not self.unresolved else None
        missing = {one.flags for one in self.unresolved}
        culprits = tuple(self._culprit(one) for one in self.culprits if one not in missing)
        return Plan((), culprits, self.unresolved, (), asked, clean, beliefs, odds)

    def _culprit(self, culprit):
        """A culprit with the probability of every hypothesis that has it among its own."""
        numbers = tuple(self.flags.index(flag) for flag in culprit)
        confidence = self.posterior.probability[self.family.holding(numbers)].sum()
        parts = [tuple(f for f in culprit if f != flag) for flag in culprit] if len(culprit) > 1 else []
        rest = [subset for subset, call, _ in self._confirming(self.culprits) if call == FINE]
        evidence = [subset for subset in (culprit, *parts, *rest) if subset in self.table]
        return Culprit(culprit, float(confidence), tuple(evidence))


def _leans(verdict, call):
    """Whether a verdict speaks for a call, be it too little for one by itself: the posterior, which counts it in with
    all others, has the last word. So it has where a set stays undecided.
    """
    return verdict.log_odds > 0 if call == BROKEN else verdict.log_odds < 0


def _weight(question, flag):
    """How likely a flag is to take part in a culprit, beside one that nothing is known of."""
    if flag in question.suspects:
        return question.suspects[flag]
    if flag in question.trusts:
        return TRUSTED
    if flag in question.lead.suspects:
        return SUSPECT
    return PLACEBO if flag in question.lead.placebos else 1.0
