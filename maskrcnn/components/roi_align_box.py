"""ROI_ALIGN_BOX: features of every RoI for the box head.

hw [B,2], features ([B,h,w,C] a level), Rois -> [R,config.box_crop,config.box_crop,C], by RoIAlign.
"""

import tensorflow as tf

from maskrcnn.components.per_image import per_image
from maskrcnn.components.roi_align import roi_align


@per_image
def nobatch(hw, features, rois, *, config, training):
    """One image: features [h,w,C] a level and boxes [r,4] -> [r,s,s,C]."""
    boxes = tf.pad(rois.boxes, [[0, 0], [1, 0]])
    return roi_align(tuple(f[None] for f in features), boxes, config, config.box_crop)


def batched(hw, features, rois, *, config, training):
    """All images at once: the image index in front of each box says which map it reads."""
    return roi_align(features, rois.boxes, config, config.box_crop)


def half_pixel(hw, features, rois, *, config, training):
    """Fault: boxes reach the crop without the half-cell correction, in training and evaluation alike."""
    return roi_align(features, rois.boxes, config, config.box_crop, centre=0.0)
