"""The eleven pieces of the model, by flag: where each lives and what it does. Free of TensorFlow."""

import importlib
from typing import NamedTuple

from maskrcnn.errors import unknown

PREFIX = "BATCH_"


class Piece(NamedTuple):
    """One stage of the model. `module` holds its two implementations, the functions `nobatch` and `batched`."""

    flag: str
    module: str
    summary: str

    def implementation(self, batched):
        """The function that computes this piece: its batched implementation, or its per-image one."""
        return getattr(importlib.import_module(self.module), "batched" if batched else "nobatch")


def _piece(flag, summary):
    return Piece(flag, f"maskrcnn.components.{flag.lower()}", summary)


PIECES = {
    p.flag: p
    for p in (
        _piece("DATA_PIPELINE", "draws, flips and pads the images of a batch, and assigns targets to the anchors"),
        _piece("RPN_HEAD", "objectness scores and box deltas for every anchor of every FPN level"),
        _piece("RPN_LOSS", "objectness and box regression losses over the sampled anchors"),
        _piece("GENERATE_PROPOSALS", "decodes, clips and filters the anchors into proposals"),
        _piece("SAMPLE_TARGETS", "draws foreground and background proposals and matches them to objects"),
        _piece("ROI_ALIGN_BOX", "crops FPN features for the box head"),
        _piece("FAST_RCNN_OUTPUTS", "class logits and box deltas of the box head"),
        _piece("FAST_RCNN_LOSSES", "classification and box regression losses of the box head"),
        _piece("ROI_ALIGN_MASK", "crops FPN features for the mask head"),
        _piece("CROP_AND_RESIZE_MASK", "crops ground-truth masks to the foreground boxes"),
        _piece("MASK_LOSS", "binary cross-entropy of the predicted masks"),
    )
}


def parse_flag(name):
    """A flag's name, written in any case and with or without `BATCH_`. Raises UserError with the nearest names."""
    flag = name.strip().upper()
    flag = flag[len(PREFIX) :] if flag.startswith(PREFIX) else flag
    if flag not in PIECES:
        raise unknown("flag", name.strip(), PIECES)
    return flag


def parse_flags(text):
    """A comma-separated list of flags as a tuple in the order of PIECES, each once; the empty text is no flag."""
    wanted = {parse_flag(name) for name in text.split(",") if name.strip()}
    return tuple(flag for flag in PIECES if flag in wanted)
