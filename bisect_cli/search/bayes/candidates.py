"""Subsets worth looking at as the next run. Shapes: n flags, C subsets, bool [C, n]."""

import numpy as np

from bisect_cli.campaign.subsets import BLOCKS
from bisect_cli.search.bayes.posterior import ranked

RANDOM = 96
CHANCES = (0.2, 0.35, 0.5, 0.65, 0.8)  # that a flag is on in a random subset


def candidates(flags, odds, more=()):
    """Candidate subsets, each once: named blocks, their unions and complements, single flags and all but one, the
    likeliest culprits so far and all but those, random ones; and `more`. odds: [n], of each flag to take part.
    """
    n = len(flags)
    found = [*named(flags), *np.eye(n, dtype=bool), *more, np.ones(n, bool)]  # and, as its complement, the baseline
    order = ranked(odds)
    for size in range(1, n):
        prefix = np.zeros(n, bool)
        prefix[order[:size]] = True
        found.append(prefix)
    for start in range(n):  # runs of neighbours
        for size in {1, 2, n // 8, n // 4, n // 3, n // 2} - {0}:
            row = np.zeros(n, bool)
            row[start : start + size] = True
            found.append(row)
    rng = np.random.default_rng(n)
    live = odds > 0.02 * odds.max()  # the others stay off, or on: they make no difference
    for number in range(RANDOM):
        row = rng.random(n) < CHANCES[number % len(CHANCES)]
        found.append(row & live)
    found += [~row for row in found]
    return list({row.tobytes(): row for row in found}.values())


def named(flags):
    """The named blocks among these flags, and the unions of two of them."""
    single = _blocks(flags)
    return [*single, *(a | b for i, a in enumerate(single) for b in single[:i])]


def plainness(flags, row):
    """How easily people recognise a subset, smaller is easier: blocks and single flags (or all but one), unions of two
    blocks, then by how many runs of neighbours it is made of, and its size.
    """
    size = int(row.sum())
    blocks = _blocks(flags)
    if size in (1, len(row)) or any((row == block).all() for block in blocks):
        return 0, 1, size
    if size == len(row) - 1 or any((~row == block).all() for block in blocks):
        return 1, 1, size
    pieces = int((row[1:] & ~row[:-1]).sum() + row[0])
    return 2, pieces, size


def _blocks(flags):
    rows = [np.array([flag in block.flags for flag in flags]) for block in BLOCKS.values() if len(block.flags) > 1]
    return [row for row in rows if row.sum() > 1 and not row.all()]
