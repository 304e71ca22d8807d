"""What a run is worth to the metrics whose search is not over, and which subset is worth most."""

import numpy as np

from bisect_cli.search.bayes.candidates import candidates, group_rows, neighbours, plainness, with_needed
from bisect_cli.search.bayes.crashes import weigh_crashes
from bisect_cli.search.bayes.hypotheses import as_matrix, as_rows
from bisect_cli.search.bayes.information import Outlook
from bisect_cli.search.bayes.posterior import DIGITS, ranked

# How many bits a run must add, at least:
SPARE_SLOT_BITS = 0.1  # to take a free slot where other runs are requested, or for the rest of it to be worth its time
LIKELY_RUN_BITS = 0.03  # to be made, once what would be named is likely enough: thirty runs for a bit
CANCEL_BITS = 0.02  # not to be cancelled while in flight; and for a confirmation that it is due for to count
LAST_RUN_BITS = 0.003  # to be made at all

CONFIRMATION_BITS = 0.2  # saved by a run that a confirmation needs later anyway; .7 takes more runs
CONFIRMATION_PROBABILITY = 0.5  # of the hypotheses that would rest on a run, for it to be called a confirmation
NEARLY_BEST_SHARE = 0.98  # of the most information, at which a subset that people recognise is taken instead
HYPOTHESES, HYPOTHESES_IF_SAMPLED = 6000, 4200  # the likeliest, which plans are made with; of 64 flags all pairs
CRASH_COST = 0.95  # share of its information that a run loses if it crashes
IMPROVEMENTS = 3  # rounds of local improvement: one flag on or off


class Worth:
    """What runs are worth to MetricSearches, given those expected already."""

    def __init__(self, searches, flags, groups, needs, table, sampled=False):
        """groups, needs: as in Question. table: {subset: Verdict} of any metric, for what crashed. sampled: as of an
        Outlook; fewer hypotheses are weighed then, which is as good for many runs at once, and quicker.
        """
        most = HYPOTHESES_IF_SAMPLED if sampled else HYPOTHESES
        self.flags = flags
        self.needs = as_matrix(needs, flags)
        posteriors = [search.metric.posterior for search in searches]
        crash = weigh_crashes(flags, table, needs)
        self.crash = crash and crash.likeliest()
        self.outlooks = [
            Outlook(one.likeliest(most=most), sampled) for one in (*posteriors, *([crash] if crash else []))
        ]
        self.due, self.confirmations, rows = {}, {}, []
        for search in searches:
            for subset, share in search.confirmations.items():
                rows.append(self.row(subset))
                key = rows[-1].tobytes()
                self.confirmations[key] = max(share, self.confirmations.get(key, 0))
                self.due[key] = self.due.get(key, 0) + search.due.get(subset, 0)
        odds = np.max([one.family.takes_part(one.probability) for one in posteriors], axis=0)
        blocks = group_rows(flags, groups)
        self.candidates = np.array(candidates(flags, blocks, odds, self.needs, rows))
        self._broken = None  # of each outlook, the candidates that its hypotheses say are broken
        if self.needs.any():  # a group or a flag with what it needs is as easily recognised
            blocks += list(with_needed(np.array([*blocks, *np.eye(len(flags), dtype=bool)]), self.needs))
        self.blocks = {row.tobytes() for row in blocks}

    def row(self, subset):
        return as_rows([subset], self.flags)[0]

    def add_candidates(self, rows):
        """Further subsets to look at, bool [n] each."""
        if rows:
            self.candidates, self._broken = np.concatenate([self.candidates, rows]), None

    def expect(self, subset):
        """One more run in flight."""
        row = self.row(subset)
        for outlook in self.outlooks:
            outlook.expect(row)
        self.due.pop(row.tobytes(), None)

    def score(self, subset):
        """What a run of a subset is worth, in bits."""
        return float(self._scores(self.row(subset)[None])[0][0])

    def score_candidates(self, which):
        """Score and information of some of the candidates, bool [C] or their numbers."""
        if self._broken is None:
            self._broken = [outlook.says_broken(self.candidates) for outlook in self.outlooks]
        return self._scores(self.candidates[which], [broken[which] for broken in self._broken])

    def _scores(self, rows, broken=None):
        """Score and information, each [C]. broken: [C, H - 1] of each outlook, where it is known."""
        known = broken or [None] * len(self.outlooks)
        bits = sum(outlook.information(rows, known) for outlook, known in zip(self.outlooks, known))
        if self.crash:
            bits = bits * (1 - CRASH_COST * self.crash.probability @ self.crash.family.broken(rows).T)
        saved = CONFIRMATION_BITS * np.array([self.due.get(row.tobytes(), 0.0) for row in rows])
        return np.round(bits + saved * (bits > CANCEL_BITS), DIGITS), bits

    def best(self, spent, least):
        """The subset most worth a run, and why; None if none but those `spent` is worth `least` bits."""
        known = {self.row(subset).tobytes() for subset in spent}
        fresh = np.array([row.tobytes() not in known for row in self.candidates], bool)
        if not fresh.any():
            return None
        rows, scores, bits = self._improve(self.candidates[fresh], *self.score_candidates(fresh), known)
        nearly_best = np.flatnonzero(scores >= scores.max() * NEARLY_BEST_SHARE)
        chosen = min(nearly_best, key=lambda i: (plainness(rows[i], self.blocks), -scores[i]))
        if bits[chosen] < least:
            return None
        confirms = self.confirmations.get(rows[chosen].tobytes(), 0.0) >= CONFIRMATION_PROBABILITY
        subset = tuple(flag for flag, on in zip(self.flags, rows[chosen]) if on)
        return subset, f"{'confirm the likeliest' if confirms else 'most informative'}: {bits[chosen]:.2f} bits"

    def _improve(self, rows, scores, bits, known):
        """These subsets and neighbours of the best, with their scores and information: (rows, scores, bits)."""
        for _ in range(IMPROVEMENTS):
            flips = neighbours(rows[ranked(scores)[:2]], self.needs)
            known.update(row.tobytes() for row in rows)
            new = np.array([row for row in flips if row.tobytes() not in known])
            if not len(new):
                break
            new_scores, new_bits = self._scores(new)
            better = new_scores.max() > scores.max() * (2 - NEARLY_BEST_SHARE)
            rows, scores, bits = np.concatenate([rows, new]), np.append(scores, new_scores), np.append(bits, new_bits)
            if not better:
                break
        return rows, scores, bits
