"""What the data pipeline hands to the graph: a list of arrays a step, read as structures. Free of TensorFlow."""

from typing import NamedTuple

import numpy as np

from maskrcnn.structures import GroundTruth, Images, RpnTargets


class Batch(NamedTuple):
    """One step's data. `rpn_targets` has an RpnTargets for every FPN level; image_ids [B] int64."""

    images: Images
    ground_truth: GroundTruth
    rpn_targets: tuple
    image_ids: object


class InputSpec(NamedTuple):
    """A placeholder: its name, numpy dtype and shape (None where it varies from step to step)."""

    name: str
    dtype: type
    shape: tuple


def specs(config):
    """The InputSpecs of a training step, in the order of `pack`."""
    b, a = config.batch, len(config.anchor_ratios)
    found = [
        InputSpec("pixels", np.float32, (b, None, None, 3)),
        InputSpec("hw", np.int32, (b, 2)),
        InputSpec("gt_boxes", np.float32, (b, None, 4)),
        InputSpec("gt_labels", np.int32, (b, None)),
        InputSpec("gt_masks", np.uint8, (b, None, None, None)),
        InputSpec("gt_counts", np.int32, (b,)),
        InputSpec("image_ids", np.int64, (b,)),
    ]
    for stride in config.strides:
        found.append(InputSpec(f"rpn_labels_{stride}", np.int32, (b, None, None, a)))
        found.append(InputSpec(f"rpn_deltas_{stride}", np.float32, (b, None, None, a, 4)))
    return found


def pack(batch):
    """A Batch as a flat list."""
    flat = [*batch.images, *batch.ground_truth, batch.image_ids]
    for target in batch.rpn_targets:
        flat.extend(target)
    return flat


def unpack(tensors):
    """The inverse of `pack`, for arrays and for tensors."""
    targets = tensors[7:]
    return Batch(
        Images(*tensors[:2]),
        GroundTruth(*tensors[2:6]),
        tuple(RpnTargets(*targets[i : i + 2]) for i in range(0, len(targets), 2)),
        tensors[6],
    )
