"""What may break a metric: all explanations with few flags, as arrays.

A hypothesis is a list of culprits, and a culprit is a set of flags that breaks the metric wherever all of them are on.
A subset is broken if it holds all flags of one of the culprits. Shapes: H hypotheses, n flags, C subsets.
"""

from functools import lru_cache
from itertools import combinations

import numpy as np

from bisect_cli.evidence.judge import log_sum

# A kind of hypothesis: its culprits, written in columns of an index table of flags. So ((0, 1),) is one culprit of two
# flags, and ((0,), (1,)) are two culprits of one flag each.
NOTHING, ONE, PAIR, INDEPENDENT = (), ((0,),), ((0, 1),), ((0,), (1,))
TRIPLE, THREE_INDEPENDENT, PAIR_AND_ONE = ((0, 1, 2),), ((0,), (1,), (2,)), ((0, 1), (2,))


def as_rows(subsets, flags):
    """Subsets of these flags as an array, bool [C, n]."""
    return np.array([[flag in subset for flag in flags] for subset in subsets], bool).reshape(-1, len(flags))


class Family:
    """Hypotheses over n flags. log_prior: [H], of probabilities that sum to 1."""

    def __init__(self, tables, log_prior, n):
        self.tables = tables  # (kind, [H of the kind, flags of the kind]) in the order of the hypotheses
        self.log_prior = log_prior
        self.n = n

    @classmethod
    def over(cls, weights, priors):
        """All hypotheses of some kinds. weights: [n], how likely each flag is to take part, in any unit, > 0. priors:
        {kind: probability}; kinds that need more flags than there are get none.
        """
        n = len(weights)
        log_weights = np.log(weights)
        tables, logs = [], []
        for kind, prior in priors.items():
            table = _table(kind, n)
            if len(table):
                log = log_weights[table].sum(axis=1)
                tables.append((kind, table))
                logs.append(np.log(prior) + log - log_sum(log))
        log_prior = np.concatenate(logs)
        return cls(tables, log_prior - log_sum(log_prior), n)

    def __len__(self):
        return len(self.log_prior)

    @property
    def single(self):
        """Which hypotheses have one culprit, be it of several flags: bool [H]."""
        return np.concatenate([np.full(len(table), len(kind) == 1) for kind, table in self.tables])

    def broken(self, subsets):
        """Which hypotheses say that which subsets are broken. subsets: bool [C, n]; returns bool [C, H]."""
        result, start = np.zeros((len(subsets), len(self)), bool), 0
        for kind, table in self.tables:
            some = result[:, start : start + len(table)]
            for culprit in kind:
                every = subsets[:, table[:, culprit[0]]]
                for column in culprit[1:]:
                    every &= subsets[:, table[:, column]]
                some |= every
            start += len(table)
        return result

    def takes_part(self, probability):
        """The probability of each flag to be in a culprit, [n], given that of each hypothesis, [H]."""
        total, start = np.zeros(self.n), 0
        for _, table in self.tables:
            mine = probability[start : start + len(table)]
            for column in table.T:
                total += np.bincount(column, mine, self.n)
            start += len(table)
        return total

    def culprits(self, number):
        """The culprits of a hypothesis, as tuples of flag numbers."""
        for kind, table in self.tables:
            if number < len(table):
                return tuple(tuple(int(table[number, column]) for column in culprit) for culprit in kind)
            number -= len(table)
        raise IndexError("no such hypothesis")

    def holding(self, culprit):
        """Which hypotheses have exactly this culprit, flag numbers in their order, among theirs: bool [H]."""
        result = []
        for kind, table in self.tables:
            found = np.zeros(len(table), bool)
            for columns in kind:
                if len(columns) == len(culprit):
                    found |= (table[:, columns] == culprit).all(axis=1)
            result.append(found)
        return np.concatenate(result)

    def kept(self, mask):
        """The hypotheses of a mask, [H], alone; their priors are as they were."""
        tables, start = [], 0
        for kind, table in self.tables:
            tables.append((kind, table[mask[start : start + len(table)]]))
            start += len(table)
        return Family(tables, self.log_prior[mask], self.n)

    def with_prior(self, log_prior):
        """The same hypotheses with another prior, [H], which need not sum to 1."""
        return Family(self.tables, log_prior - log_sum(log_prior), self.n)


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
