"""Flags, and the named blocks of flags along which a set is split.

A set of flags is a tuple in the order of `maskrcnn.pieces.PIECES`, each flag once. That order follows the data through
the model, and every block is a run of neighbours in it, so a cut between two neighbours is what splits a set in halves.
"""

from typing import NamedTuple

from maskrcnn.errors import UserError, unknown
from maskrcnn.pieces import PIECES, PREFIX

ALL = tuple(PIECES)


class Block(NamedTuple):
    """Flags that were batched together: layer 1 holds single pieces, layers 2 and 3 neighbours, `top` all of them."""

    name: str
    layer: int
    flags: tuple


BLOCKS = {
    block.name: block
    for block in (
        *(Block(f"L1B{i}", 1, (flag,)) for i, flag in enumerate(ALL, 1)),
        Block("L2B1", 2, ("DATA_PIPELINE",)),
        Block("L2B2", 2, ("RPN_HEAD", "RPN_LOSS")),
        Block("L2B3", 2, ("SAMPLE_TARGETS", "ROI_ALIGN_BOX")),
        Block("L2B4", 2, ("FAST_RCNN_OUTPUTS", "FAST_RCNN_LOSSES")),
        Block("L2B5", 2, ("ROI_ALIGN_MASK", "CROP_AND_RESIZE_MASK", "MASK_LOSS")),
        Block("L3B1", 3, ("GENERATE_PROPOSALS", "SAMPLE_TARGETS", "ROI_ALIGN_BOX")),
        Block("L3B2", 3, ("FAST_RCNN_OUTPUTS", "FAST_RCNN_LOSSES", "ROI_ALIGN_MASK")),
        Block("top", 4, ALL),
    )
}
_BY_UPPER = {**{name.upper(): block.flags for name, block in BLOCKS.items()}, "ALL": ALL}
_NEIGHBOURS = tuple(block for block in BLOCKS.values() if block.layer in (2, 3) and len(block.flags) > 1)


def ordered(flags, order=ALL):
    """These flags as a set: in the order of the pieces, or of a larger set, each once."""
    wanted = set(flags)
    return tuple(flag for flag in order if flag in wanted)


def union(*sets, order=ALL):
    """All flags of several sets, as one set."""
    return ordered((flag for flags in sets for flag in flags), order)


def minus(flags, others):
    """The set `flags` without those of `others`."""
    return tuple(flag for flag in flags if flag not in others)


def parse(text):
    """A set from a comma-separated list of flags, with or without `BATCH_` and in any case, of blocks, or `all`.

    Raises UserError for an unknown name, with the nearest ones, and for an empty list.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError("--flags is empty: name the flags of the failing set, a block such as L2B5, or all.")
    found = set()
    for name in names:
        upper = name.upper()
        flag = upper[len(PREFIX) :] if upper.startswith(PREFIX) else upper
        if flag in PIECES:
            found.add(flag)
        elif upper in _BY_UPPER:
            found.update(_BY_UPPER[upper])
        else:
            raise unknown("flag or block", name, [*ALL, *BLOCKS, "all"])
    return ordered(found)


def splits(flags, suspects=(), placebos=()):
    """Ways to cut a set in two, best first: suspects from the others, suspects among themselves near the middle of
    their order, and others into two runs of neighbours.

    The best cut of others leaves at least a third on each side, tears the fewest named blocks apart and, of those, is
    nearest the middle. Placebos come after all neighbours and count for none of this.
    """
    named = tuple(flag for flag in suspects if flag in flags)
    if named and len(named) < len(flags):
        apart = (ordered(named, flags), minus(flags, named))
        return [apart, *(halves for halves in splits(flags, (), placebos) if set(halves) != set(apart))]
    row = named or minus(flags, placebos) + tuple(flag for flag in flags if flag in placebos)
    weight = len(minus(row, placebos)) or len(row)

    def cost(cut):
        first, second = (set(minus(half, placebos)) for half in (row[:cut], row[cut:]))
        torn = sum(not first.isdisjoint(block.flags) and not second.isdisjoint(block.flags) for block in _NEIGHBOURS)
        lopsided = min(cut, weight - cut) < max(weight // 3, min(weight - 1, 1))
        return lopsided, 0 if named else torn, abs(2 * cut - weight)

    return [(ordered(row[:cut], flags), ordered(row[cut:], flags)) for cut in sorted(range(1, len(row)), key=cost)]


def label(flags, whole=()):
    """A short name of a set for people: its flags if they are few, else its blocks or what it lacks of `whole`."""
    if not flags:
        return "baseline (all off)"
    if len(flags) <= 3:
        return ", ".join(flags)
    if flags == whole:
        return f"the whole set ({len(flags)} flags)"
    lacking = minus(whole, flags)
    if set(flags) < set(whole) and len(lacking) <= 2:
        return f"all but {', '.join(lacking)}"
    return f"{' + '.join(_cover(flags))} ({len(flags)} flags)"


def _cover(flags):
    """A set as few names: blocks that lie wholly inside it, the largest first, then the single flags left over."""
    left, names = set(flags), {}
    for block in sorted(_NEIGHBOURS, key=lambda block: -len(block.flags)):
        if left.issuperset(block.flags):
            left.difference_update(block.flags)
            names[block.flags[0]] = block.name
    names.update((flag, flag) for flag in left)
    return [names[flag] for flag in flags if flag in names]
