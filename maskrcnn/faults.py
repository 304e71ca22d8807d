"""Real faults of batched pieces, by name. Free of TensorFlow; each is a function beside the piece it breaks."""

from typing import NamedTuple

from maskrcnn.errors import UserError, unknown
from maskrcnn.pieces import PIECES, parse_flag


class Fault(NamedTuple):
    """A way in which a batched piece was once wrong. `effect` is what was recorded then, in points of AP."""

    flag: str
    name: str
    recipe: str
    effect: str

    @property
    def target(self):
        """Where the broken implementation is, as "module:function"."""
        return f"{PIECES[self.flag].module}:{self.name}"


FAULTS = {
    (f.flag, f.name): f
    for f in (
        Fault("DATA_PIPELINE", "no_flip", "horizontal flips are lost", ""),
        Fault("DATA_PIPELINE", "fixed_batches", "the order of the first epoch is repeated for the whole run", ""),
        Fault(
            "RPN_LOSS",
            "reshape_for_transpose",
            "deltas are turned to channel-first by a reshape",
            "bbox -4 to -5, segm -2 to -3",
        ),
        Fault("RPN_LOSS", "sum_over_batch", "losses are summed over images, not averaged", ""),
        Fault("GENERATE_PROPOSALS", "no_joint_topk", "no choice of the best across levels", "small -0.5"),
        Fault("GENERATE_PROPOSALS", "topk_over_batch", "the best across levels are chosen over the whole batch", ""),
        Fault("GENERATE_PROPOSALS", "wrong_permutation", "deltas are permuted by [0,3,1,2]", ""),
        Fault(
            "SAMPLE_TARGETS",
            "no_shuffle",
            "the first boxes are taken instead of random ones",
            "bbox small -2, medium -1",
        ),
        Fault("ROI_ALIGN_BOX", "half_pixel", "boxes lack the half-cell correction, in training and evaluation", "none"),
        Fault(
            "FAST_RCNN_LOSSES", "fg_index_mixup", "foreground places of the batch are applied to one image's rows", ""
        ),
        Fault(
            "ROI_ALIGN_MASK",
            "half_pixel_train",
            "boxes lack the half-cell correction, in training only",
            "segm -3 to -8",
        ),
        Fault("CROP_AND_RESIZE_MASK", "keep_padding", "padding is not stripped before masks are looked up", ""),
    )
}


def parse_plant(text):
    """`FLAG=fault` or `FLAG=package.module:function` -> (flag, "module:function"). Raises UserError."""
    name, equals, what = text.partition("=")
    if not equals or not what:
        raise UserError(f"--plant '{text}': write it as FLAG=fault or FLAG=package.module:function.")
    flag = parse_flag(name)
    if ":" in what:
        return flag, what
    if (flag, what) not in FAULTS:
        known = [f.name for f in FAULTS.values() if f.flag == flag]
        if not known:
            raise UserError(f"--plant {text}: {flag} has no named fault; plant {flag}=package.module:function.")
        raise unknown(f"fault of {flag}", what, known)
    return flag, FAULTS[flag, what].target


def parse_plants(texts):
    """Several plants as {flag: "module:function"}; one a flag. Raises UserError."""
    plants = {}
    for text in texts:
        flag, target = parse_plant(text)
        if flag in plants:
            raise UserError(f"--plant {text}: {flag} is planted already; a flag takes one fault.")
        plants[flag] = target
    return plants
