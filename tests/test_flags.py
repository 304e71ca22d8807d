import json

import pytest

from bisect_cli.campaign import subsets as sets
from bisect_cli.campaign.spec import Flag, Group, Metric, Spec
from bisect_cli.errors import UserError
from bisect_cli.trainers.maskrcnn import SPEC

ALL = SPEC.flag_names
GROUPS = {group.name: group for group in SPEC.groups}
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
        ("all", ALL),
        ("TOP", ALL),
    ],
)
def test_parse(text, wanted):
    assert SPEC.parse_flags(text) == wanted


@pytest.mark.parametrize("text, hint", [("RPN_LOS", "RPN_LOSS"), ("L2B6", "L2B"), ("BATCH_MASKLOSS", "MASK_LOSS")])
def test_unknown_names_are_answered_with_the_nearest(text, hint):
    with pytest.raises(UserError, match=f"unknown flag or group '{text}': did you mean .*{hint}"):
        SPEC.parse_flags(text)


@pytest.mark.parametrize("text", ["", " , "])
def test_an_empty_list_is_an_error(text):
    with pytest.raises(UserError, match="--flags is empty"):
        SPEC.parse_flags(text)


def test_every_group_is_a_run_of_neighbours():
    for block in SPEC.groups:
        start = ALL.index(block.flags[0])
        assert ALL[start : start + len(block.flags)] == block.flags


def test_splits_are_all_the_cuts():
    for size in range(2, len(ALL) + 1):
        flags = ALL[:size]
        cuts = sets.splits(flags, SPEC.blocks)
        assert len(cuts) == size - 1
        assert all(first and second and first + second == flags for first, second in cuts)


def test_splits_follow_the_blocks():
    first, second = sets.splits(ALL, SPEC.blocks)[0]
    assert second == (*GROUPS["L2B4"].flags, *GROUPS["L2B5"].flags)
    assert sets.splits(first, SPEC.blocks)[0][1] == GROUPS["L3B1"].flags
    assert sets.splits(second, SPEC.blocks)[0] == (GROUPS["L2B4"].flags, MASK_HEAD)
    assert sets.splits(MASK_HEAD, SPEC.blocks)[0] == (("ROI_ALIGN_MASK",), ("CROP_AND_RESIZE_MASK", "MASK_LOSS"))


def test_splits_are_never_lopsided_first():
    for size in range(2, len(ALL) + 1):
        first, second = sets.splits(ALL[-size:], SPEC.blocks)[0]
        assert min(len(first), len(second)) >= size // 3


def test_labels():
    assert SPEC.label((), ALL) == "baseline (all off)"
    assert SPEC.label(ALL, ALL) == "the whole set (11 flags)"
    assert SPEC.label(MASK_HEAD, ALL) == "ROI_ALIGN_MASK, CROP_AND_RESIZE_MASK, MASK_LOSS"
    assert SPEC.label(sets.minus(ALL, ("RPN_LOSS",)), ALL) == "all but RPN_LOSS"
    assert SPEC.label(sets.union(MASK_HEAD, ("RPN_HEAD", "RPN_LOSS"), order=ALL)) == "L2B2 + L2B5 (5 flags)"


# A trainer of another kind

OTHER = Spec(
    "other",
    flags=(Flag("fused_norm", "one kernel for all"), Flag("amp"), Flag("new_optimizer"), Flag("big_batch")),
    groups=(Group("kernels", ("fused_norm", "amp")),),
    metrics=(Metric("loss", "val/loss", higher_is_better=False), Metric("bleu", "bleu", low=0.0, high=100.0)),
    default_metrics=("loss",),
    options={"command": ["python", "train.py"]},
)


def test_names_of_any_trainer_are_looked_up_in_its_spec():
    assert OTHER.parse_flags("AMP,kernels") == ("fused_norm", "amp") and OTHER.parse_flags("all") == OTHER.flag_names
    with pytest.raises(UserError, match="unknown flag or group 'BATCH_amp'"):
        OTHER.parse_flags("BATCH_amp")  # the prefix is another trainer's
    assert OTHER.parse_metrics(["bleu,val/loss", "bleu"]) == ("bleu", "loss") and OTHER.parse_metrics([]) == ("loss",)
    with pytest.raises(UserError, match="unknown metric 'blue': did you mean bleu"):
        OTHER.metric("blue")


def test_a_spec_is_the_same_after_the_log():
    for spec in (OTHER, SPEC):
        assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert Spec.from_json({**OTHER.to_json(), "of_a_later_version": 1}) == OTHER
