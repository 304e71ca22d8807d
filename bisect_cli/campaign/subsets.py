"""Sets of flags, as tuples in the order of a larger set, each flag once; how they are cut in two, and named for people.

Groups are (name, flags), as `spec.Group`: runs of neighbours in that order, so a cut between two neighbours is what
splits a set in halves.
"""


def ordered(flags, order):
    """These flags in the order of a larger set, each once."""
    wanted = set(flags)
    return tuple(flag for flag in order if flag in wanted)


def union(*subsets, order):
    """All flags of several subsets, as one."""
    return ordered((flag for flags in subsets for flag in flags), order)


def minus(flags, others):
    """The set `flags` without those of `others`."""
    return tuple(flag for flag in flags if flag not in others)


def splits(flags, groups=(), suspects=(), placebos=()):
    """Ways to cut a set in two, best first: suspects from the others, suspects among themselves near the middle of
    their order, and others into two runs of neighbours.

    The best cut of others leaves at least a third on each side, tears the fewest groups apart and, of those, is nearest
    the middle. Placebos come after all neighbours and count for none of this.
    """
    named = tuple(flag for flag in suspects if flag in flags)
    if named and len(named) < len(flags):
        apart = (ordered(named, flags), minus(flags, named))
        return [apart, *(halves for halves in splits(flags, groups, (), placebos) if set(halves) != set(apart))]
    row = named or minus(flags, placebos) + tuple(flag for flag in flags if flag in placebos)
    weight = len(minus(row, placebos)) or len(row)

    def cost(cut):
        first, second = (set(minus(half, placebos)) for half in (row[:cut], row[cut:]))
        torn = sum(not first.isdisjoint(group.flags) and not second.isdisjoint(group.flags) for group in groups)
        lopsided = min(cut, weight - cut) < max(weight // 3, min(weight - 1, 1))
        return lopsided, 0 if named else torn, abs(2 * cut - weight)

    return [(ordered(row[:cut], flags), ordered(row[cut:], flags)) for cut in sorted(range(1, len(row)), key=cost)]


def label(flags, groups=(), whole=()):
    """A short name of a set for people: its flags if they are few, else its groups or what it lacks of `whole`."""
    if not flags:
        return "baseline (all off)"
    if len(flags) <= 3:
        return ", ".join(flags)
    if flags == whole:
        return f"the whole set ({len(flags)} flags)"
    lacking = minus(whole, flags)
    if set(flags) < set(whole) and len(lacking) <= 2:
        return f"all but {', '.join(lacking)}"
    return f"{' + '.join(_cover(flags, groups))} ({len(flags)} flags)"


def _cover(flags, groups):
    """A set as few names: groups that lie wholly inside it, the largest first, then the single flags left over."""
    left, names = set(flags), {}
    for group in sorted(groups, key=lambda group: -len(group.flags)):
        if left.issuperset(group.flags):
            left.difference_update(group.flags)
            names[group.flags[0]] = group.name
    names.update((flag, flag) for flag in left)
    return [names[flag] for flag in flags if flag in names]
