"""The algorithm of Go's bisect, golang.org/x/tools/cmd/bisect (R. Cox, D. Chase, K. Randall, 2023).

Every change has a hash. A failing set is split by the next bit of the hashes, and the search goes down into the first
half that fails by itself. If neither does, both are needed: one half stays on while the other is searched, and then
what was found there stays on while the first is searched. A culprit runs once more, is taken out, and the search goes
on as long as the rest fails. With a count, every set runs so often, and all must agree.
"""

import random

from peers.inconclusive import Inconclusive
from peers.repeated import all_culprits

BITS = 64


def search(flags, fails, seed, count=1):
    rng = random.Random(f"hashes {seed}")
    hashes = {flag: rng.getrandbits(BITS) for flag in flags}

    def agreed(subset):
        outcomes = {fails(subset) for _ in range(count)}
        if len(outcomes) > 1:
            raise Inconclusive
        return outcomes.pop()

    def minimise(rest):
        culprit = _search(rest, [], 0, hashes, agreed)
        agreed(culprit)  # the confirmation: bisect reports a pass of it, and continues
        return culprit

    return all_culprits(flags, agreed, minimise)


def _search(part, added, bit, hashes, fails):
    """The flags of `part` needed for a failure together with `added`, with which all of it was seen to fail."""
    if len(part) == 1:
        return part
    halves = [[flag for flag in part if hashes[flag] >> bit & 1 == value] for value in (0, 1)]
    if not all(halves):
        return _search(part, added, bit + 1, hashes, fails)
    zero, one = halves
    for half in halves:
        if fails(half + added):
            return _search(half, added, bit + 1, hashes, fails)
    if not fails(zero + added + one):
        raise Inconclusive
    first = _search(zero, added + one, bit + 1, hashes, fails)
    if not fails(one + added + first):
        raise Inconclusive
    return first + _search(one, added + first, bit + 1, hashes, fails)
