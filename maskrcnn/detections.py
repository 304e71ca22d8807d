"""Detections of whole images: masks pasted from boxes, COCO's results format, and COCO's average precision."""

from contextlib import redirect_stdout
from io import StringIO
from typing import NamedTuple

import numpy as np
from pycocotools import mask as mask_util
from pycocotools.cocoeval import COCOeval

from maskrcnn.data.coco import coco_index

STATS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")  # the first six numbers of COCOeval
AREAS = {"AP_small": (0, 32**2), "AP_medium": (32**2, 96**2), "AP_large": (96**2, 1e10)}  # in pixels; COCOeval's


class Detection(NamedTuple):
    """One found object."""

    image_id: int
    label: int  # 1..K
    score: float  # 0..1
    box: tuple  # xyxy, continuous coordinates of the original image
    mask: dict  # COCO RLE of the whole image: size [height, width], counts str


def paste_masks(masks, boxes, height, width):
    """Masks of whole images from masks over boxes.

    masks [n,m,m] float: cell (i, j) is the value at the centre of the (i, j)-th of m x m equal parts of its box.
    boxes [n,4]: xyxy in continuous image coordinates; they may reach over the border.
    Returns [n,height,width] uint8: 1 where the centre (j + 1/2, i + 1/2) of a pixel lies in the box and the mask,
    interpolated bilinearly at exactly that point, is at least 1/2. Between the border of the box and the outermost
    cell centres the value is that of the outermost cells.
    """
    pasted = np.zeros((len(masks), height, width), np.uint8)
    for image, mask, (x1, y1, x2, y2) in zip(pasted, np.asarray(masks), np.asarray(boxes, np.float64)):
        rows = _Samples.over(y1, y2, height, len(mask))
        columns = _Samples.over(x1, x2, width, len(mask))
        if rows.count and columns.count:
            values = columns.of(rows.of(mask).T).T
            image[rows.start : rows.start + rows.count, columns.start : columns.start + columns.count] = values >= 0.5
    return pasted


class _Samples(NamedTuple):
    """Linear interpolation along one axis: pixel start + k lies between cells low[k] and high[k], at fraction[k]."""

    start: int
    count: int
    low: np.ndarray
    high: np.ndarray
    fraction: np.ndarray

    @classmethod
    def over(cls, a, b, size, cells):
        """The pixels of 0..size whose centres lie in [a, b), b > a, cut into that many cells."""
        start = int(np.clip(np.ceil(a - 0.5), 0, size))
        stop = int(np.clip(np.ceil(b - 0.5), start, size))
        centres = np.arange(start, stop) + 0.5
        at = np.clip((centres - a) / (b - a) * cells - 0.5, 0, cells - 1) if len(centres) else centres
        low = at.astype(int)
        return cls(start, stop - start, low, np.minimum(low + 1, cells - 1), (at - low).astype(np.float32))

    def of(self, values):
        """`values` [cells,...] interpolated at the pixels: [count,...]."""
        low, fraction = values[self.low], self.fraction[:, None]
        return low + fraction * (values[self.high] - low)


def encode(masks):
    """Masks [n,H,W] uint8 as COCO RLEs: n dicts that JSON can hold."""
    rles = mask_util.encode(np.asfortranarray(np.transpose(masks, (1, 2, 0)))) if len(masks) else []
    return [{"size": [int(s) for s in r["size"]], "counts": r["counts"].decode("ascii")} for r in rles]


def to_coco(detections, category_ids):
    """The detections in COCO's results format (a list for json.dump); `category_ids` are those of the Dataset."""
    return [
        {
            "image_id": int(d.image_id),
            "category_id": category_ids[d.label - 1],
            "bbox": [float(v) for v in (d.box[0], d.box[1], d.box[2] - d.box[0], d.box[3] - d.box[1])],
            "score": float(d.score),
            "segmentation": d.mask,
        }
        for d in detections
    ]


def from_coco(results, category_ids):
    """The inverse of `to_coco`."""
    label_of = {c: label for label, c in enumerate(category_ids, 1)}
    detections = []
    for r in results:
        x, y, w, h = r["bbox"]
        box = (x, y, x + w, y + h)
        detections.append(Detection(r["image_id"], label_of[r["category_id"]], r["score"], box, r["segmentation"]))
    return detections


def metric_names(areas):
    """The names of what `coco_metrics` gives where the objects to be found have these areas, in pixels."""
    areas = np.asarray(areas)
    there = {size: bool(((areas >= least) & (areas <= most)).any()) for size, (least, most) in AREAS.items()}
    return [f"{kind}/{name}" for kind in ("bbox", "segm") for name in STATS if there.get(name, True)]


def coco_metrics(dataset, detections):
    """COCO's average precision of `detections` over all images of `dataset`, in 0..1, by name: bbox/AP, bbox/AP50,
    bbox/AP75, bbox/AP_small, bbox/AP_medium, bbox/AP_large and the same with segm/. Sizes without any object have no
    value and are left out. Prints nothing."""
    truth = dataset.ground_truth()
    results = to_coco(detections, dataset.category_ids)
    mask_areas = mask_util.area([d.mask for d in detections]) if detections else []
    metrics = {}
    for kind in ("bbox", "segm"):
        areas = mask_areas if kind == "segm" else [r["bbox"][2] * r["bbox"][3] for r in results]
        # By hand what COCO.loadRes does, which takes the areas of the boxes for masks, too, and no empty list.
        found = [
            {**r, "id": i, "area": float(area), "iscrowd": 0} for i, (r, area) in enumerate(zip(results, areas), 1)
        ]
        found = coco_index(truth.dataset["images"], found, truth.dataset["categories"])
        with redirect_stdout(StringIO()):
            evaluation = COCOeval(truth, found, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        stats = zip(STATS, evaluation.stats.tolist())
        metrics.update({f"{kind}/{name}": value for name, value in stats if value >= 0})
    return metrics
