"""Pieces of one's own, as a user would write them for `--plant FLAG=package.module:function`."""

# Two pieces that break masks only together, see truncated_masks.py; each as an argument of --plant.
PAIR = (
    "CROP_AND_RESIZE_MASK=maskrcnn.examples.truncated_masks:soft_targets",
    "MASK_LOSS=maskrcnn.examples.truncated_masks:integer_targets",
)
