import json

import numpy as np
import pytest
from pycocotools import mask as mask_util

from maskrcnn.data import coco, shapes
from maskrcnn.detections import Detection, coco_metrics, encode, from_coco, metric_names, paste_masks, to_coco


def paste(mask, box, height=10, width=12):
    return paste_masks(np.array([mask], np.float32), np.array([box], np.float32), height, width)[0]


def rectangle(y1, y2, x1, x2, height=10, width=12):
    image = np.zeros((height, width), np.uint8)
    image[y1:y2, x1:x2] = 1
    return image


ONES = np.ones((4, 4))


def test_a_full_mask_fills_the_pixels_whose_centres_are_in_the_box():
    assert np.array_equal(paste(ONES, (2, 3, 7, 9)), rectangle(3, 9, 2, 7))
    # A left or upper border on a centre takes the pixel, a right or lower one does not: neighbours share no pixel.
    assert np.array_equal(paste(ONES, (2.5, 3.5, 7.5, 8.5)), rectangle(3, 8, 2, 7))
    assert np.array_equal(paste(ONES, (2.51, 3.49, 7.49, 8.51)), rectangle(3, 9, 3, 7))


def test_boxes_over_the_border_are_cut_not_squeezed():
    halves = np.zeros((4, 4))
    halves[:, 2:] = 1
    assert np.array_equal(paste(halves, (-4, -3, 8, 20)), rectangle(0, 10, 2, 8))
    assert np.array_equal(paste(halves, (6, -3, 18, 20)), rectangle(0, 0, 0, 0))
    assert np.array_equal(paste(halves, (5, -3, 17, 20)), rectangle(0, 10, 11, 12))
    assert not paste(ONES, (-8, -8, -1, -1)).any()
    assert not paste(ONES, (30, 3, 40, 9)).any()


def test_tiny_and_empty_boxes():
    assert np.array_equal(paste(ONES, (4.4, 4.4, 4.6, 4.6)), rectangle(4, 5, 4, 5))
    assert not paste(ONES, (4.6, 4.6, 5.4, 5.4)).any()  # between four centres
    assert not paste(ONES, (4.5, 4.5, 4.5, 4.5)).any()
    assert not paste(ONES, (6, 6, 3, 3)).any()
    assert paste_masks(np.zeros((0, 4, 4)), np.zeros((0, 4)), 10, 12).shape == (0, 10, 12)


def test_values_by_hand():
    """Cells 0 and 1 of a box of x 2..6 have their centres at 3 and 5; between them the value is linear."""

    def columns(left, right):
        return paste([[left, right]] * 2, (2, 0, 6, 10))[5].nonzero()[0].tolist()

    # At the pixel centres 2.5, 3.5, 4.5 and 5.5 the value is left, 3/4 left + 1/4 right, and so on.
    assert columns(0, 1) == [4, 5]  # 0 .25 .75 1
    assert columns(0.25, 1.25) == [3, 4, 5]  # .25 .5 1 1.25
    assert columns(0.75, 0) == [2, 3]  # .75 .5625 .1875 0
    assert columns(0.5, 0.5) == [2, 3, 4, 5]


def test_against_the_definition_point_by_point():
    """Random masks and boxes against a plain scalar implementation."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        m, height, width = rng.integers(1, 9), *rng.integers(3, 20, 2)
        mask = rng.random((m, m)).astype(np.float32)
        x1, y1 = rng.uniform(-6, 18, 2)
        x2, y2 = x1 + rng.uniform(0.1, 20), y1 + rng.uniform(0.1, 20)
        box = np.array([x1, y1, x2, y2], np.float32)
        pasted = paste(mask, box, height, width)
        for i, j in np.ndindex(height, width):
            x, y = j + 0.5, i + 0.5
            inside = box[0] <= x < box[2] and box[1] <= y < box[3]
            assert pasted[i, j] == (inside and _bilinear(mask, box.astype(float), x, y) >= 0.5)


def _bilinear(mask, box, x, y):
    m = len(mask)
    u = min(max((x - box[0]) / (box[2] - box[0]) * m - 0.5, 0), m - 1)
    v = min(max((y - box[1]) / (box[3] - box[1]) * m - 0.5, 0), m - 1)
    value = 0
    for i, j in np.ndindex(m, m):
        value += max(0, 1 - abs(u - j)) * max(0, 1 - abs(v - i)) * float(mask[i, j])
    return value


def test_shifting_a_box_by_one_pixel_shifts_its_mask_by_one_pixel():
    rng = np.random.default_rng(1)
    masks = rng.random((50, 14, 14)).astype(np.float32)
    boxes = np.concatenate([rng.uniform(2, 20, (50, 2)), rng.uniform(21, 37, (50, 2))], 1).astype(np.float32)
    boxes = np.round(boxes * 64) / 64  # so that box + 1 is exact
    here = paste_masks(masks, boxes, 40, 40)
    there = paste_masks(masks, boxes + 1, 40, 40)
    assert np.array_equal(there[:, 1:, 1:], here[:, :-1, :-1])
    assert not np.array_equal(there, here)


def test_encode_is_decoded_to_the_same_and_fits_into_json():
    masks = (np.random.default_rng(0).random((5, 17, 23)) > 0.5).astype(np.uint8)
    rles = json.loads(json.dumps(encode(masks)))
    assert np.array_equal(np.transpose(mask_util.decode(rles), (2, 0, 1)), masks)
    assert encode(np.zeros((0, 17, 23), np.uint8)) == []


def test_coco_results_and_back():
    rle = encode(np.ones((1, 4, 6), np.uint8))[0]
    detection = Detection(11, 2, 0.75, (1.0, 2.0, 3.5, 4.0), rle)
    results = json.loads(json.dumps(to_coco([detection], (3, 90))))
    expected = {"image_id": 11, "category_id": 90, "bbox": [1, 2, 2.5, 2], "score": 0.75, "segmentation": rle}
    assert results == [expected]
    assert from_coco(results, (3, 90)) == [detection]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return coco.load(shapes.ensure(tmp_path_factory.mktemp("data"), 1, 12, 0), "val")


def perfect(dataset, shift=0):
    detections = []
    for r in dataset.records:
        masks = np.roll(r.masks(), shift, axis=2)
        for label, box, rle in zip(r.labels, r.boxes, encode(masks)):
            detections.append(Detection(r.image_id, int(label), 0.9, tuple(box.tolist()), rle))
    return detections


def test_metrics_of_perfect_of_no_and_of_shifted_detections(dataset, capfd):
    names = {f"{kind}/{name}" for kind in ("bbox", "segm") for name in ("AP", "AP50", "AP75", "AP_small", "AP_medium")}
    metrics = coco_metrics(dataset, perfect(dataset))
    assert metrics == dict.fromkeys(names, 1.0)  # no shape is large: no AP_large
    areas = np.concatenate([record.areas for record in dataset.records])
    assert set(metric_names(areas)) == set(metric_names(shapes.AREAS)) == names
    assert set(metric_names([*areas, 1e5])) - names == {"bbox/AP_large", "segm/AP_large"}
    assert coco_metrics(dataset, []) == dict.fromkeys(names, 0.0)
    shifted = coco_metrics(dataset, perfect(dataset, shift=2))
    assert shifted["bbox/AP"] == 1 and shifted["segm/AP"] < 0.8
    assert shifted["segm/AP_small"] < shifted["segm/AP_medium"]
    assert capfd.readouterr().out == ""


def test_metrics_are_those_of_pycocotools_own_loader(dataset):
    from contextlib import redirect_stdout
    from io import StringIO

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)
    detections = [
        d._replace(score=float(rng.random()), box=tuple(np.array(d.box) + rng.normal(0, 1.5, 4)))
        for d in perfect(dataset, shift=1)
        if rng.random() < 0.8
    ]
    metrics = coco_metrics(dataset, detections)
    with redirect_stdout(StringIO()):
        truth = COCO(str(dataset.annotation_file))
        for kind, field in (("bbox", "segmentation"), ("segm", "bbox")):
            results = to_coco(detections, dataset.category_ids)
            for r in results:
                del r[field]
            evaluation = COCOeval(truth, truth.loadRes(results), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            assert metrics[f"{kind}/AP"] == pytest.approx(evaluation.stats[0], abs=1e-9)
            assert metrics[f"{kind}/AP_small"] == pytest.approx(evaluation.stats[3], abs=1e-9)
            assert 0 < metrics[f"{kind}/AP"] < 1
