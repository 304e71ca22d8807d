from peers.inconclusive import Inconclusive


def all_culprits(flags, fails, minimise):
    """Finds one culprit after another, each among the flags that are no part of those before, until the rest passes.

    This is how Go's bisect continues; it lets searches that minimise take part where there are several culprits.
    minimise: a function, flags that were seen to fail -> those that it cannot do without.
    """
    rest, found = list(flags), []
    while rest and fails(rest):
        culprit = minimise(rest)
        if not culprit:
            raise Inconclusive
        found.append(culprit)
        rest = [flag for flag in rest if flag not in culprit]
    return found
