"""Probabilistic delta debugging.

G. Wang, R. Shen, J. Chen, Y. Xiong, L. Zhang: Probabilistic delta debugging. ESEC/FSE 2021. Every flag has a
probability to be needed. The flags deleted next are those least likely needed, as many as make the expected number
deleted the largest; if the rest passes, at least one of them was needed, and their probabilities rise by Bayes' rule.
"""

import math

from peers.repeated import all_culprits

PRIOR = 0.1  # the paper's
CERTAIN = 1 - 1e-9


def search(flags, fails, seed):
    return all_culprits(flags, fails, lambda rest: minimise(rest, fails))


def minimise(flags, fails):
    """The flags of a failing set that could not be deleted."""
    needed = dict.fromkeys(flags, PRIOR)
    while True:
        deleted = _deletion(needed)
        if not deleted:
            return list(needed)
        kept = [flag for flag in needed if flag not in deleted]
        if kept and fails(kept):
            for flag in deleted:
                del needed[flag]
        else:
            one_of_them = 1 - math.prod(1 - needed[flag] for flag in deleted)
            for flag in deleted:
                needed[flag] /= one_of_them


def _deletion(needed):
    """The flags to delete: of all least likely ones, the number with the largest expected gain; empty once all are
    certain.
    """
    order = sorted((flag for flag in needed if needed[flag] < CERTAIN), key=needed.get)
    gain, best, chance = 0.0, 0, 1.0
    for number, flag in enumerate(order, 1):
        chance *= 1 - needed[flag]
        if number * chance > gain:
            gain, best = number * chance, number
    return order[:best]
