"""What may break a metric: all explanations with few flags, as arrays.

A hypothesis is a list of culprits, and a culprit is a set of flags that breaks the metric wherever all of them are on.
A subset is broken if it holds all flags of one of the culprits. Shapes: H hypotheses, n flags, C subsets.

Where flags need others, hypotheses that agree on every subset that can be trained are one. If F needs A, then no run
tells "F" from "A and F interact", nor "A" from "A and F, independently"; were they two, neither would ever be likely
enough. The one that names the fewest flags stands for all, with the prior of all: what was likely stays so.
"""

from functools import lru_cache
from itertools import combinations, product

import numpy as np

from bisect_cli.evidence.judge import log_sum

# A kind of hypothesis: its culprits, written in columns of an index table of flags. So ((0, 1),) is one culprit of two
# flags, and ((0,), (1,)) are two culprits of one flag each.
NOTHING, ONE, PAIR, INDEPENDENT = (), ((0,),), ((0, 1),), ((0,), (1,))
TRIPLE, THREE_INDEPENDENT, PAIR_AND_ONE = ((0, 1, 2),), ((0,), (1,), (2,)), ((0, 1), (2,))


def as_rows(subsets, flags):
    """Subsets of these flags as an array, bool [C, n]."""
    column, rows = {flag: number for number, flag in enumerate(flags)}, np.zeros((len(subsets), len(flags)), bool)
    on = [(row, column[flag]) for row, subset in enumerate(subsets) for flag in subset if flag in column]
    if on:
        rows[tuple(np.transpose(on))] = True
    return rows


def as_matrix(needs, flags):
    """Question.needs among these flags, bool [n, n]: whether the flag of the row needs that of the column."""
    return as_rows([needs.get(flag, ()) for flag in flags], flags)


class Family:
    """Hypotheses over n flags. log_prior: [H], of probabilities that sum to 1."""

    def __init__(self, tables, log_prior, n):
        self.tables = tables  # (kind, [H of the kind, flags of the kind]) in the order of the hypotheses
        self.log_prior = log_prior
        self.n = n

    @classmethod
    def over(cls, weights, priors, needs=None):
        """All hypotheses of some kinds. weights: [n], how likely each flag is to take part, in any unit, > 0. priors:
        {kind: probability}; kinds that need more flags than there are get none. needs: of `as_matrix`; with a kind its
        parts have to be among the kinds then.
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
        every = cls(tables, log_prior - log_sum(log_prior), n)
        return every if needs is None or not needs.any() else every._distinct(needs)

    def _distinct(self, needs):
        """One of the hypotheses that agree on all runnable subsets, with the prior of all. self: all of some kinds."""
        number, start, numbers = np.arange(len(self)), 0, {}  # number: of the hypothesis that stands for each
        for kind, table in self.tables:
            if 1 <= table.shape[1] <= 2:
                numbers[kind] = start + _numbers(table, self.n)
            start += len(table)
        start = 0
        for kind, table in self.tables:
            says = _says_something(kind, table, needs)
            for columns in product((False, True), repeat=table.shape[1]):
                rows = np.flatnonzero((says == columns).all(axis=1))
                if len(rows) and not all(columns):
                    number[start + rows] = numbers[_part(kind, columns)][tuple(table[rows][:, columns].T)]
            start += len(table)
        prior = np.bincount(number, np.exp(self.log_prior), len(self))
        kept = number == np.arange(len(self))
        return self.kept(kept).with_prior(np.log(prior[kept]))

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


def _says_something(kind, table, needs):
    """Which flags of hypotheses make a difference to runnable subsets, bool [H of the kind, flags of the kind]: not one
    that another of its culprit needs, and none of a culprit that breaks nothing which another does not break.
    """

    def are_on(columns, culprit):
        """Whether flags of all these columns are on wherever a culprit is, which needs them."""
        return np.all([needs[table[:, culprit], table[:, [column]]].any(axis=1) for column in columns], axis=0)

    result = np.ones(table.shape, bool)
    for culprit in kind:
        others = [are_on(other, culprit) for other in kind if other != culprit]
        spare = np.any(others, axis=0) if others else False
        for column in culprit:
            result[:, column] = ~(spare | are_on((column,), culprit))
    return result


def _part(kind, columns):
    """The kind that is left of a kind with some of its columns, bool."""
    number = np.cumsum(columns) - 1
    parts = (tuple(int(number[column]) for column in culprit if columns[column]) for culprit in kind)
    return tuple(part for part in parts if part)


def _numbers(table, n):
    """Where in a table of one or two columns flags stand, in either order."""
    result = np.zeros((n,) * table.shape[1], int)
    for columns in (table.T, table.T[::-1]):
        result[tuple(columns)] = np.arange(len(table))
    return result
