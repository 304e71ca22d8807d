"""Sets of flags, as tuples in the order of a larger set, each flag once; how they are cut in two, and named for people.

Groups are (name, flags), as `spec.Group`: runs of neighbours in that order, so a cut between two neighbours is what
splits a set in halves.

needs, everywhere: {flag: frozenset of all flags that it needs, also through others}, as `close` makes it. A flag makes
sense only with these on, so a set can be trained only if it holds all that its flags need: it is runnable.
"""

from bisect_cli.errors import UserError

NO_NEEDS = {}  # never written to


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


def close(needs):
    """What each flag needs, also through others: {flag: frozenset}, of those that need any. needs: {flag: those that it
    needs itself}.

    Raises UserError for flags that need each other: they are on and off together, so no run can tell them apart. Rather
    than to name one for the other, they have to be declared as the one flag that they are.
    """
    closed = {flag: set(direct) for flag, direct in needs.items() if direct}
    for through, more in closed.items():
        for needed in closed.values():
            if through in needed:
                needed |= more
    for flag, needed in closed.items():
        if flag in needed:
            others = sorted(other for other in needed - {flag} if flag in closed.get(other, ()))
            if not others:
                raise UserError(f"{flag} needs itself: leave that out.")
            names = " and ".join([flag, *others])
            raise UserError(f"{names} need each other, so no run can tell them apart: make them one flag.")
    return {flag: frozenset(needed) for flag, needed in closed.items()}


def with_needed(flags, needs, order):
    """These flags and what they need, in the order of a larger set: the smallest runnable set that holds them. A needed
    flag outside `order` is left out, and the set is not runnable; so whoever sets up a search refuses a flag that needs
    one outside the whole set, which is off in all runs.
    """
    return union(flags, *(needs.get(flag, ()) for flag in flags), order=order)


def runnable(flags, needs):
    """These flags without those of which a needed one is not among them: the largest runnable set that they hold."""
    on = set(flags)
    return tuple(flag for flag in flags if on.issuperset(needs.get(flag, ())))


def is_runnable(flags, needs):
    """Whether a set holds all that its flags need."""
    return len(runnable(flags, needs)) == len(flags)


def tops(flags, needs):
    """Those of these flags that none of the others needs. They say all: with what they need they are the same set."""
    needed = {other for flag in flags for other in needs.get(flag, ())}
    return tuple(flag for flag in flags if flag not in needed)


def needing(flags, needs, order):
    """The flags of a larger set that need one of these: without these they cannot be trained."""
    return tuple(flag for flag in order if not needs.get(flag, frozenset()).isdisjoint(flags))


def hidden_by(culprit, needs, order):
    """The flags of a larger set that can be on only where a whole culprit is: whether they break anything themselves no
    run can tell, so to name the culprit says nothing of them.
    """
    whole = set(with_needed(culprit, needs, order))
    above = minus(order, culprit)
    return tuple(flag for flag in above if whole.issubset(with_needed((flag,), needs, order)))


def one_less(flags, needs, order):
    """What is left of these flags and what they need, without one of the tops: the largest runnable sets below it. The
    other flags cannot be left out by themselves. The empty set is none.
    """
    whole = with_needed(flags, needs, order)
    return [minus(whole, (flag,)) for flag in tops(flags, needs) if len(whole) > 1]


def remainders(flags, culprits, needs):
    """The runnable sets that show whether anything else is broken: none holds a culprit, and together they hold every
    flag that can be on without one. culprits: tuples of flags.

    Mostly it is one set, all flags without the culprits'. A flag that needs one flag of a culprit of several is lost
    there, and is seen with another of the culprit's flags off. What a culprit hides is seen nowhere (`hidden_by`).
    """
    whole = [set(with_needed(culprit, needs, flags)) for culprit in culprits]
    apart = {flag for culprit in culprits for flag in culprit}
    rest = runnable(minus(flags, apart), needs)
    found = [set(rest)]
    for flag in minus(flags, (*rest, *apart)):
        for seen in (*found, set(rest)):
            more = seen.union(with_needed((flag,), needs, flags))
            if not any(culprit <= more for culprit in whole):
                found = [*(other for other in found if other is not seen), more]
                break
    return [ordered(seen, flags) for seen in found if seen]


def needed_first(flags, needs):
    """These flags in an order in which each comes after those that it needs, and as soon after as may be: what stands
    before any cut is runnable, and of what stands behind it few flags need one before it.
    """
    row = {}
    for flag in tops(flags, needs):
        below = [other for other in flags if other in needs.get(flag, ())]
        row.update(dict.fromkeys([*sorted(below, key=lambda other: len(needs.get(other, ()))), flag]))
    return tuple(row)


def splits(flags, groups=(), suspects=(), placebos=(), needs=NO_NEEDS):
    """Ways to cut a set in two, best first: suspects from the others, suspects among themselves near the middle of
    their order, and others into two runs of neighbours.

    The best cut of others leaves at least a third on each side, tears the fewest groups apart and, of those, is nearest
    the middle. Placebos come after all neighbours and count for none of this.

    Where flags need others of the set, each half gets what it needs, so halves may share flags. A half that is the
    whole set then is left out, and the other one stands alone: it is a split of one half. The best are those that leave
    the fewest flags to search, but suspects still come first.
    """
    inside = {flag: needs[flag].intersection(flags) for flag in flags if needs.get(flag)}
    if not any(inside.values()):
        return _cuts(flags, groups, suspects, placebos, NO_NEEDS)
    found = {}
    for number, cut in enumerate(_cuts(flags, groups, suspects, placebos, inside)):
        both = (with_needed(half, inside, flags) for half in cut)
        halves = tuple(half for half in both if half != flags)
        if halves:
            found.setdefault(halves, number)
    apart = 0 < len(ordered(suspects, flags)) < len(flags)  # then the first cut is suspects from the others

    def cost(halves):
        sizes = [len(half) for half in halves]
        left = max(*sizes, len(flags) - sizes[0])
        return not (apart and found[halves] == 0), left, max(sum(sizes), len(flags))

    return sorted(found, key=cost)


def _cuts(flags, groups, suspects, placebos, needs):
    named = tuple(flag for flag in suspects if flag in flags)
    if named and len(named) < len(flags):
        apart = (ordered(named, flags), minus(flags, named))
        return [apart, *(halves for halves in _cuts(flags, groups, (), placebos, needs) if set(halves) != set(apart))]
    row = named or minus(flags, placebos) + tuple(flag for flag in flags if flag in placebos)
    weight = len(minus(row, placebos)) or len(row)
    row = needed_first(row, needs)

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
