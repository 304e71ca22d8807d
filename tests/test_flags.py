import pytest

from bisect_cli.campaign import subsets as sets
from maskrcnn.errors import UserError

MASK_HEAD = ("ROI_ALIGN_MASK", "CROP_AND_RESIZE_MASK", "MASK_LOSS")


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("MASK_LOSS,RPN_LOSS", ("RPN_LOSS", "MASK_LOSS")),
        ("batch_mask_loss, BATCH_RPN_LOSS ,", ("RPN_LOSS", "MASK_LOSS")),
        ("L2B5", MASK_HEAD),
        ("l3b1", ("GENERATE_PROPOSALS", "SAMPLE_TARGETS", "ROI_ALIGN_BOX")),
        ("L2B1,L2B2,RPN_LOSS", ("DATA_PIPELINE", "RPN_HEAD", "RPN_LOSS")),
        ("L1B11", ("MASK_LOSS",)),
        ("all", sets.ALL),
        ("TOP", sets.ALL),
    ],
)
def test_parse(text, wanted):
    assert sets.parse(text) == wanted


@pytest.mark.parametrize("text, hint", [("RPN_LOS", "RPN_LOSS"), ("L2B6", "L2B"), ("BATCH_MASKLOSS", "MASK_LOSS")])
def test_unknown_names_are_answered_with_the_nearest(text, hint):
    with pytest.raises(UserError, match=f"unknown flag or block '{text}': did you mean .*{hint}"):
        sets.parse(text)


@pytest.mark.parametrize("text", ["", " , "])
def test_an_empty_list_is_an_error(text):
    with pytest.raises(UserError, match="--flags is empty"):
        sets.parse(text)


def test_every_block_is_a_run_of_neighbours():
    for block in sets.BLOCKS.values():
        start = sets.ALL.index(block.flags[0])
        assert sets.ALL[start : start + len(block.flags)] == block.flags


def test_splits_are_all_the_cuts():
    for size in range(2, len(sets.ALL) + 1):
        flags = sets.ALL[:size]
        cuts = sets.splits(flags)
        assert len(cuts) == size - 1
        assert all(first and second and first + second == flags for first, second in cuts)


def test_splits_follow_the_blocks():
    first, second = sets.splits(sets.ALL)[0]
    assert second == (*sets.BLOCKS["L2B4"].flags, *sets.BLOCKS["L2B5"].flags)
    assert sets.splits(first)[0][1] == sets.BLOCKS["L3B1"].flags
    assert sets.splits(second)[0] == (sets.BLOCKS["L2B4"].flags, MASK_HEAD)
    assert sets.splits(MASK_HEAD)[0] == (("ROI_ALIGN_MASK",), ("CROP_AND_RESIZE_MASK", "MASK_LOSS"))


def test_splits_are_never_lopsided_first():
    for size in range(2, len(sets.ALL) + 1):
        first, second = sets.splits(sets.ALL[-size:])[0]
        assert min(len(first), len(second)) >= size // 3


def test_labels():
    assert sets.label((), sets.ALL) == "baseline (all off)"
    assert sets.label(sets.ALL, sets.ALL) == "the whole set (11 flags)"
    assert sets.label(MASK_HEAD, sets.ALL) == "ROI_ALIGN_MASK, CROP_AND_RESIZE_MASK, MASK_LOSS"
    assert sets.label(sets.minus(sets.ALL, ("RPN_LOSS",)), sets.ALL) == "all but RPN_LOSS"
    assert sets.label(sets.union(MASK_HEAD, ("RPN_HEAD", "RPN_LOSS"))) == "L2B2 + L2B5 (5 flags)"
