"""From images to scored detections, with the graph in the loop as any function."""

import numpy as np

from maskrcnn.data.loading import normalised, stack_images
from maskrcnn.detections import Detection, encode, paste_masks

INPUT_NAMES = ["pixels", "hw"]
OUTPUT_NAMES = ["detection_boxes", "detection_counts", "detection_labels", "detection_scores", "detection_masks"]


def detect_dataset(predict, dataset, config):
    """The Detections of every image of `dataset`, a list.

    `predict(pixels [B,H,W,3], hw [B,2])` returns arrays as OUTPUT_NAMES lists them, where B is config.batch: boxes
    [R,5] sorted by image, counts [B], labels [R], scores [R], masks [R,m,m].
    """
    records = dataset.records
    found = []
    for start in range(0, len(records), config.batch):
        batch = records[start : start + config.batch]
        images = [(r.image_id, r.image()) for r in batch]
        found += detect_images(predict, images, config)
    return found


def detect_images(predict, images, config):
    """The Detections of at most config.batch images, (image_id, [H,W,3] uint8 RGB) each, in their own coordinates."""
    resized = [normalised(pixels, config) for _, pixels in images]
    # The graph is built for one batch size; what fills up the last batch is thrown away.
    resized += resized[:1] * (config.batch - len(resized))
    boxes, counts, labels, scores, masks = predict(*stack_images(resized, config))
    found, start = [], 0
    for (image_id, pixels), small, n in zip(images, resized, counts):
        rows = slice(start, start + n)
        start += n
        height, width = pixels.shape[:2]
        scale = np.array([width / small.shape[1], height / small.shape[0]] * 2, np.float32)
        own = boxes[rows, 1:] * scale
        rles = encode(paste_masks(masks[rows], own, height, width))
        for label, score, box, rle in zip(labels[rows], scores[rows], own, rles):
            found.append(Detection(image_id, int(label), float(score), tuple(box.tolist()), rle))
    return found
