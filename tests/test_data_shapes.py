import hashlib
import json

import numpy as np
import pytest
from pycocotools import mask as mask_util

from maskrcnn.data import coco, shapes
from maskrcnn.errors import UserError


def digest(folder, pattern="**/*"):
    files = sorted(p for p in folder.glob(pattern) if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shapes.ensure(tmp_path_factory.mktemp("data"), 60, 10, 0)


def test_same_seed_same_bytes_another_seed_other_images(folder, tmp_path):
    again = shapes.ensure(tmp_path, 60, 10, 0)
    assert again.name == folder.name
    assert digest(again) == digest(folder)
    other = shapes.ensure(tmp_path, 60, 10, 1)
    assert other != again
    assert digest(other, "train/*")["train/000001.png"] != digest(again, "train/*")["train/000001.png"]


def test_val_does_not_depend_on_train_nor_an_image_on_their_number(folder, tmp_path):
    fewer = shapes.ensure(tmp_path, 5, 10, 0)
    assert digest(fewer, "**/*val*") == digest(folder, "**/*val*")
    assert digest(fewer, "val/*") == digest(folder, "val/*")
    assert digest(fewer, "train/*").items() <= digest(folder, "train/*").items()
    assert not set(digest(folder, "train/*").values()) & set(digest(folder, "val/*").values())


def test_a_finished_folder_is_kept_and_nothing_else_is_left(folder):
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert shapes.ensure(folder.parent, 60, 10, 0) == folder
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_an_interrupted_generation_leaves_no_folder(tmp_path, monkeypatch):
    real = shapes.scene
    drawn = []

    def scene(rng, first_label):
        drawn.append(rng)
        if len(drawn) == 3:
            raise OSError(28, "No space left on device")
        return real(rng, first_label)

    monkeypatch.setattr(shapes, "scene", scene)
    with pytest.raises(UserError, match="No space left on device"):
        shapes.ensure(tmp_path, 5, 1, 0)
    assert list(tmp_path.iterdir()) == []


def test_whoever_is_later_uses_the_folder_of_the_faster(tmp_path, monkeypatch):
    real = shapes._write_split

    def write_split(folder, split, count, seed):
        monkeypatch.setattr(shapes, "_write_split", real)
        shapes.ensure(tmp_path, 2, 1, 0)  # another process, in the middle of ours
        real(folder, split, count, seed)

    monkeypatch.setattr(shapes, "_write_split", write_split)
    folder = shapes.ensure(tmp_path, 2, 1, 0)
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]
    assert len(coco.load(folder, "train").records) == 2


def test_unwritable_place_and_negative_seed_are_the_users_mistakes(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the generated images to .*file"):
        shapes.ensure(tmp_path / "file", 1, 1, 0)
    with pytest.raises(UserError, match="data_seed=-1"):
        shapes.ensure(tmp_path, 1, 1, -1)


def test_what_is_drawn(folder):
    train, val = coco.check(folder)
    assert train.category_names == shapes.CATEGORIES
    assert (len(train.records), len(val.records)) == (60, 10)
    assert train.skipped == {}
    sizes = {(r.height, r.width) for r in train.records}
    assert {side for size in sizes for side in size} == set(shapes.SIDES)
    assert len(sizes) > 4
    counts = [len(r.labels) for r in train.records]
    assert min(counts) >= 2 and max(counts) == 6
    extents = np.concatenate([(r.boxes[:, 2:] - r.boxes[:, :2]).max(1) for r in train.records])
    assert extents.min() > 5 and extents.max() < 64.05  # written to a hundredth of a pixel
    small = np.concatenate([r.areas for r in train.records]) < 32**2
    assert 0.5 < small.mean() < 0.85
    assert set(np.concatenate([r.labels for r in train.records])) == set(range(1, 6))


def test_both_forms_of_segmentation_occur_and_overlap_is_the_exception(folder):
    annotations = json.loads((folder / "annotations" / "instances_train.json").read_text())["annotations"]
    no_ring = [a for a in annotations if a["category_id"] != 1 + shapes.CATEGORIES.index("ring")]
    covered = np.mean([isinstance(a["segmentation"], dict) for a in no_ring])
    assert 0.1 < covered < 0.4
    assert all(a["area"] > 0 for a in annotations)


def test_masks_are_disjoint_and_within_their_boxes(folder):
    """Modal masks of a picture cannot overlap, but for polygons' rounding along a common border."""
    for record in coco.load(folder, "train").records:
        masks = record.masks()
        assert (masks.sum(0) > 1).mean() < 0.002
        for mask, (x1, y1, x2, y2) in zip(masks, record.boxes):
            rows, columns = np.nonzero(mask)
            assert columns.min() >= x1 - 1 and columns.max() + 1 <= x2 + 1
            assert rows.min() >= y1 - 1 and rows.max() + 1 <= y2 + 1
            assert columns.min() - x1 < 2.5 and x2 - columns.max() - 1 < 2.5


def centroid(weights):
    rows, columns = np.mgrid[: weights.shape[0], : weights.shape[1]] + 0.5
    return np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()


def test_polygon_mask_and_picture_agree_far_below_a_pixel():
    """Mean offset of centroid and of outline (area over perimeter), against the exact polygon."""
    rng = np.random.default_rng(3)
    offsets, growths = [], []
    for index in range(500):
        shape = shapes._random_shape(rng, 1 + index % 4, 128, 128)  # all but the ring
        coverage = np.zeros((128, 128))
        coverage[shape.window] = np.clip(0.5 - shape.distance, 0, 1)
        mask = np.zeros((128, 128))
        mask[shape.window] = shape.distance < 0
        polygon = mask_util.decode(mask_util.frPyObjects([shape.outline.ravel().tolist()], 128, 128))[..., 0]

        corners, following = shape.outline, np.roll(shape.outline, -1, axis=0)
        cross = corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]
        exact = ((corners + following) * cross[:, None]).sum(0) / (3 * cross.sum())
        perimeter = np.linalg.norm(following - corners, axis=1).sum()
        drawn = (coverage, mask, polygon)
        offsets.append([centroid(d) - exact for d in drawn])
        growths.append([(d.sum() - abs(cross.sum()) / 2) / perimeter for d in drawn])
    offsets, growths = np.abs(np.mean(offsets, 0)), np.abs(np.mean(growths, 0))
    assert offsets[:2].max() < 0.01  # what is drawn, and its mask
    assert offsets[2].max() < 0.06  # pycocotools rounds polygons up by .04 of a pixel
    assert growths.max() < 0.01


def test_objects_stand_out_from_what_is_around_them():
    """Median colour inside against the ring of pixels around the object, in grey levels (noise has 6)."""
    import cv2

    contrasts = []
    for index in range(40):
        pixels, annotations = shapes.scene(np.random.default_rng([0, 0, index]), 1 + index % 5)
        for a in annotations:
            mask = mask_util.decode(coco.rle(a["segmentation"], *pixels.shape[:2]))
            ring = cv2.dilate(mask, np.ones((5, 5), np.uint8)) & ~cv2.dilate(mask, np.ones((3, 3), np.uint8))
            inside, around = (np.median(pixels[m.astype(bool)], axis=0) for m in (mask, ring))
            contrasts.append(np.linalg.norm(inside - around))
    assert np.quantile(contrasts, 0.02) > 60
    assert np.median(contrasts) > 120


def test_few_images_have_every_category(tmp_path):
    for seed in range(5):
        train, val = coco.check(shapes.ensure(tmp_path, 6, 6, seed))
        assert all(len({label for r in d.records for label in r.labels}) == 5 for d in (train, val))
