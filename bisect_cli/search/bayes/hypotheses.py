"""What may break a metric: all explanations with few flags, as arrays.

A hypothesis is a list of culprits, and a culprit is a set of flags that breaks the metric wherever all of them are on.
A subset is broken if it holds all flags of one of the culprits. Shapes: H hypotheses, n flags, C subsets.
"""

from functools import lru_cache
from itertools import combinations

import numpy as np

from bisect_cli.evidence.judge import log_sum

# A kind of hypothesis, as its culprits written in columns of an index table. The priors of the kinds: a set is bisected
# because it failed, but what breaks one metric often leaves the other, so nothing is as likely as one flag. Of the two
# real culprits in 2019 each acted by itself, and a wrong adapter between two pieces is as real, so two flags together
# are as likely as two by themselves; three are rare. A wrong factor of two costs about one run, and in campaigns where
# something does break, nothing at .3 made its beliefs too high by a tenth.
NOTHING, ONE, TOGETHER, INDEPENDENT = (), ((0,),), ((0, 1),), ((0,), (1,))
THREE_TOGETHER, THREE_INDEPENDENT, PAIR_AND_ONE = ((0, 1, 2),), ((0,), (1,), (2,)), ((0, 1), (2,))
KINDS = {
    NOTHING: 0.2,
    ONE: 0.4,
    TOGETHER: 0.16,
    INDEPENDENT: 0.16,
    THREE_TOGETHER: 0.02,
    THREE_INDEPENDENT: 0.03,
    PAIR_AND_ONE: 0.03,
}
# Of several metrics, one may well be as it was: of the five faults that are plain in short training, two leave box AP
# alone (docs/fault-effects.md).
ONE_OF_SEVERAL = {NOTHING: 0.35}


class Family:
    """Hypotheses over n flags. log_prior: [H], of probabilities that sum to 1."""

    def __init__(self, blocks, log_prior, n):
        self.blocks = blocks  # (kind, [H of the kind, flags of the kind]) in the order of the hypotheses
        self.log_prior = log_prior
        self.n = n

    @classmethod
    def over(cls, weights, priors):
        """All hypotheses of some kinds. weights: [n], how likely each flag is to take part, in any unit, > 0. priors:
        {kind: probability}; kinds that need more flags than there are get none.
        """
        n = len(weights)
        log_weights = np.log(weights)
        blocks, logs = [], []
        for kind, prior in priors.items():
            table = _table(kind, n)
            if len(table):
                log = log_weights[table].sum(axis=1)
                blocks.append((kind, table))
                logs.append(np.log(prior) + log - log_sum(log))
        log_prior = np.concatenate(logs)
        return cls(blocks, log_prior - log_sum(log_prior), n)

    def __len__(self):
        return len(self.log_prior)

    @property
    def single(self):
        """Which hypotheses have one culprit, be it of several flags: bool [H]."""
        return np.concatenate([np.full(len(table), len(kind) == 1) for kind, table in self.blocks])

    def broken(self, subsets):
        """Which hypotheses say that which subsets are broken. subsets: bool [C, n]; returns bool [C, H]."""
        told, start = np.zeros((len(subsets), len(self)), bool), 0
        for kind, table in self.blocks:
            some = told[:, start : start + len(table)]
            for culprit in kind:
                every = subsets[:, table[:, culprit[0]]]
                for column in culprit[1:]:
                    every &= subsets[:, table[:, column]]
                some |= every
            start += len(table)
        return told

    def takes_part(self, probability):
        """The probability of each flag to be in a culprit, [n], given that of each hypothesis, [H]."""
        total, start = np.zeros(self.n), 0
        for _, table in self.blocks:
            mine = probability[start : start + len(table)]
            for column in table.T:
                total += np.bincount(column, mine, self.n)
            start += len(table)
        return total

    def culprits(self, number):
        """The culprits of a hypothesis, as tuples of flag numbers."""
        for kind, table in self.blocks:
            if number < len(table):
                return tuple(tuple(int(table[number, column]) for column in culprit) for culprit in kind)
            number -= len(table)
        raise IndexError("no such hypothesis")

    def holding(self, culprit):
        """Which hypotheses have exactly this culprit, flag numbers in their order, among theirs: bool [H]."""
        told = []
        for kind, table in self.blocks:
            found = np.zeros(len(table), bool)
            for columns in kind:
                if len(columns) == len(culprit):
                    found |= (table[:, columns] == culprit).all(axis=1)
            told.append(found)
        return np.concatenate(told)

    def kept(self, mask):
        """The hypotheses of a mask, [H], alone; their priors are as they were."""
        blocks, start = [], 0
        for kind, table in self.blocks:
            blocks.append((kind, table[mask[start : start + len(table)]]))
            start += len(table)
        return Family(blocks, self.log_prior[mask], self.n)


@lru_cache(maxsize=32)
def _table(kind, n):
    """Every assignment of n flags to the columns of a kind, each culprit list once: [H, columns]. Not to be written to:
    it is kept, as all planning steps of a campaign need it.
    """
    columns = sum(map(len, kind))
    if columns == 0:
        return np.zeros((1, 0), int)
    if columns > n:
        return np.zeros((0, columns), int)
    if columns == 1:
        return np.arange(n)[:, None]
    if columns == 2:
        return np.stack(np.triu_indices(n, 1), axis=1)
    triples = np.array(list(combinations(range(n), 3)))
    if kind != PAIR_AND_ONE:
        return triples
    return np.concatenate([triples[:, [0, 1, 2]], triples[:, [0, 2, 1]], triples[:, [1, 2, 0]]])
