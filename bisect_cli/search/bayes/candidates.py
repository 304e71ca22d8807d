"""Subsets worth looking at as the next run. Shapes: n flags, C subsets, bool [C, n]."""

import numpy as np

from bisect_cli.search.bayes.hypotheses import as_rows
from bisect_cli.search.bayes.posterior import ranked

RANDOM = 96  # random subsets
CHANCES = (0.2, 0.35, 0.5, 0.65, 0.8)  # that a flag is on in a random subset
LIVE_SHARE = 0.02  # of the likeliest flag's odds, below which a flag is not drawn at random


def with_needed(rows, needs):
    """Subsets with what their flags need, as `subsets.with_needed`. needs: bool [n, n], as `hypotheses.as_matrix`."""
    return rows | (rows @ needs)


def runnable(rows, needs):
    """Subsets without the flags that lack one they need, as `subsets.runnable`."""
    return rows & ~(~rows @ needs.T)


def neighbours(rows, needs):
    """Subsets with one flag more, and what it needs, or one less, and what needs it."""
    n = rows.shape[1]
    flips = (rows[:, None] ^ np.eye(n, dtype=bool)[None]).reshape(-1, n)
    if not needs.any():
        return flips
    more = ~rows.reshape(-1)
    flips[more] = with_needed(flips[more], needs)
    flips[~more] = runnable(flips[~more], needs)
    return np.unique(flips, axis=0)


def candidates(flags, blocks, odds, needs, more=()):
    """Candidate subsets, each once: blocks, their unions and complements, single flags and all but one, the likeliest
    culprits so far and all but those, random ones; and `more`. blocks: as `group_rows` returns. odds: [n], of each flag
    to take part. Where flags need others, each of these with what it needs, and what of it can run without more.
    """
    n = len(flags)
    pairs = [a | b for i, a in enumerate(blocks) for b in blocks[:i]]
    found = [*blocks, *pairs, *np.eye(n, dtype=bool), *more, np.ones(n, bool)]  # and, as its complement, the baseline
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
    live = odds > LIVE_SHARE * odds.max()  # the others stay off, or on: they make no difference
    for number in range(RANDOM):
        row = rng.random(n) < CHANCES[number % len(CHANCES)]
        found.append(row & live)
    found += [~row for row in found]
    if needs.any():
        found = [*with_needed(np.array(found), needs), *runnable(np.array(found), needs)]
    return list({row.tobytes(): row for row in found}.values())


def plainness(row, blocks):
    """How easily people recognise a subset, smaller is easier: blocks and single flags (or all but one), unions of two
    blocks, then by how many runs of neighbours it is made of, and its size. blocks: a set of rows, as bytes.
    """
    size = int(row.sum())
    if size in (1, len(row)) or row.tobytes() in blocks:
        return 0, 1, size
    if size == len(row) - 1 or (~row).tobytes() in blocks:
        return 1, 1, size
    pieces = int((row[1:] & ~row[:-1]).sum() + row[0])
    return 2, pieces, size


def group_rows(flags, groups):
    """The groups as subsets of these flags: what they have of each, where that is several flags and not all."""
    rows = as_rows([group.flags for group in groups], flags)
    return [row for row in rows if row.sum() > 1 and not row.all()]
