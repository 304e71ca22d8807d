"""ddmin, with a majority of 3 runs for every outcome.

A. Zeller, R. Hildebrandt: Simplifying and isolating failure-inducing input. IEEE TSE 28(2), 2002.
"""

from peers.repeated import all_culprits


def search(flags, fails, seed):
    def majority(subset):
        first, second = fails(subset), fails(subset)
        return first if first == second else fails(subset)

    return all_culprits(flags, majority, lambda rest: minimise(rest, majority))


def minimise(flags, fails):
    """A 1-minimal part of flags that fails. flags fails itself; of each part the first outcome is remembered."""
    memory = {(): False}

    def test(subset):
        key = tuple(subset)
        if key not in memory:
            memory[key] = fails(subset)
        return memory[key]

    config, granularity = list(flags), 2
    while len(config) > 1:
        parts = _split(config, granularity)
        rests = [[flag for flag in config if flag not in part] for part in parts]
        part = next((part for part in parts if test(part)), None)
        rest = next((rest for rest in rests if test(rest)), None) if part is None else None
        if part is not None:
            config, granularity = part, 2
        elif rest is not None:
            config, granularity = rest, max(granularity - 1, 2)
        elif granularity < len(config):
            granularity = min(2 * granularity, len(config))
        else:
            break
    return config


def _split(config, parts):
    cuts = [len(config) * i // parts for i in range(parts + 1)]
    return [config[start:end] for start, end in zip(cuts, cuts[1:])]
