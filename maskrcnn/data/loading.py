"""One image as the model sees it: resized, normalised, padded. Shared by training and evaluation."""

from typing import NamedTuple

import cv2
import numpy as np

MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # of ImageNet, RGB, as the published ResNets were trained
STD = np.array([58.395, 57.12, 57.375], np.float32)


class Sample(NamedTuple):
    """pixels [h,w,3] float32, normalised; boxes [g,4], labels [g], masks [g,h,w] uint8, crowd_boxes [c,4];
    scale is the resized size over the original one, (x, y)."""

    image_id: int
    pixels: object
    boxes: object
    labels: object
    masks: object
    crowd_boxes: object
    scale: object


def resized_size(height, width, config):
    """The size (h, w) at which an image is used: short edge config.short_edge, long edge at most config.long_edge."""
    if not config.short_edge:
        return height, width
    factor = min(config.short_edge / min(height, width), config.long_edge / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def normalised(image, config):
    """An image [H,W,3] uint8 RGB -> pixels [h,w,3] float32, resized, of about zero mean and unit deviation."""
    h, w = resized_size(*image.shape[:2], config)
    if (h, w) != image.shape[:2]:
        image = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    return (image.astype(np.float32) - MEAN) / STD


def read(record, config):
    """A Record as a Sample. Raises UserError if its image cannot be read."""
    pixels = normalised(record.image(), config)
    h, w = pixels.shape[:2]
    masks = record.masks()
    if masks.shape[1:] != (h, w):
        masks = [cv2.resize(m, (w, h), interpolation=cv2.INTER_LINEAR) for m in masks * np.uint8(255)]
        masks = (np.stack(masks) >= 128).astype(np.uint8) if masks else np.zeros((0, h, w), np.uint8)
    scale = np.array([w / record.width, h / record.height], np.float32)
    both = np.tile(scale, 2)
    return Sample(record.image_id, pixels, record.boxes * both, record.labels, masks, record.crowd_boxes * both, scale)


def padded_size(hw, config):
    """The size (H, W) of a batch of images of sizes hw [B,2]: the largest, rounded up to a multiple of the stride of
    the backbone's last stage. A level of stride 64 is every second cell of that, and needs no more."""
    coarsest = min(config.strides[-1], 32)
    return tuple(int(n) for n in -(-np.max(hw, axis=0) // coarsest) * coarsest)


def stack_images(pixels, config):
    """Images [h,w,3] of unequal sizes -> (pixels [B,H,W,3] zero-padded, hw [B,2] int32)."""
    hw = np.array([p.shape[:2] for p in pixels], np.int32)
    out = np.zeros((len(pixels), *padded_size(hw, config), 3), np.float32)
    for row, p in zip(out, pixels):
        row[: p.shape[0], : p.shape[1]] = p
    return out, hw
