import json
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_util

from maskrcnn.data import coco
from maskrcnn.data.imagesize import image_size
from maskrcnn.errors import UserError

HEIGHT, WIDTH = 20, 30


def polygon(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def annotation(i, image=1, category=7, box=(2, 3, 10, 5), **changes):
    return {
        "id": i,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": box[2] * box[3],
        "iscrowd": 0,
        "segmentation": polygon(*box),
        **changes,
    }


def content():
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2)],
        "annotations": [annotation(0), annotation(1, image=2, category=3)],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    }


def write(root, train=None, val=None, suffix="2017"):
    (root / "annotations").mkdir(parents=True)
    for split, data in (("train", train or content()), ("val", val or content())):
        folder = root / f"{split}{suffix}"
        folder.mkdir()
        for i in (1, 2):
            pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            pixels[..., 0] = 200  # blue, to cv2
            cv2.imwrite(str(folder / f"{i}.png"), pixels)
        (root / "annotations" / f"instances_{split}{suffix}.json").write_text(json.dumps(data))
    return root


def rle_list(mask):
    flat = mask.ravel(order="F")
    change = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *change, len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def test_load(tmp_path):
    dataset = coco.load(write(tmp_path / "data"), "train")
    assert dataset.category_ids == (3, 7)
    assert dataset.category_names == ("dog", "cat")
    assert dataset.annotation_file.name == "instances_train2017.json"
    first, second = dataset.records
    assert (first.image_id, first.height, first.width) == (1, HEIGHT, WIDTH)
    assert first.boxes.tolist() == [[2, 3, 12, 8]] and first.boxes.dtype == np.float32
    assert first.labels.tolist() == [2] and second.labels.tolist() == [1]
    assert first.image().shape == (HEIGHT, WIDTH, 3)
    assert first.image()[0, 0].tolist() == [0, 0, 200]
    expected = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    expected[0, 3:8, 2:12] = 1
    assert np.array_equal(first.masks(), expected)


def test_layout_without_suffix(tmp_path):
    assert len(coco.load(write(tmp_path / "data", suffix=""), "val").records) == 2


def test_all_forms_of_segmentation_are_the_same_mask(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:8, 2:12] = 1
    compressed = mask_util.encode(np.asfortranarray(mask))
    data = content()
    forms = [
        polygon(2, 3, 10, 5),
        rle_list(mask),
        {"size": [HEIGHT, WIDTH], "counts": compressed["counts"].decode()},
        polygon(2, 3, 4, 5) + polygon(6, 3, 6, 5),
        [[1, 1, 2, 2], *polygon(2, 3, 10, 5)],  # with a degenerate polygon, as COCO has some
    ]
    data["annotations"] += [annotation(10 + i, segmentation=s) for i, s in enumerate(forms)]
    dataset = coco.load(write(tmp_path / "data", train=data), "train")
    for m in dataset.records[0].masks():
        assert np.array_equal(m, mask)
    assert [a["area"] for a in dataset.ground_truth().anns.values()] == [50] * 7


def test_area_is_optional(tmp_path):
    data = content()
    del data["annotations"][0]["area"], data["annotations"][0]["iscrowd"]
    assert coco.load(write(tmp_path / "data", train=data), "train").records[0].areas.tolist() == [50]


def test_crowds_are_kept_apart_and_given_to_the_evaluation(tmp_path):
    data = content()
    crowd = rle_list(np.ones((HEIGHT, WIDTH), np.uint8))
    data["annotations"].append(annotation(5, box=(0, 0, WIDTH, HEIGHT), iscrowd=1, segmentation=crowd))
    root = write(tmp_path / "data", train=data, val=data)
    record = coco.load(root, "train").records[0]
    assert len(record.boxes) == len(record.masks()) == 1
    assert record.crowd_boxes.tolist() == [[0, 0, WIDTH, HEIGHT]]
    assert coco.load(root, "train").skipped == {coco.CROWD: 1}
    truth = coco.load(root, "val").ground_truth()
    assert sorted(a["iscrowd"] for a in truth.anns.values()) == [0, 0, 1]
    assert 0 not in truth.anns


def test_what_coco_itself_has_is_skipped_and_counted(tmp_path):
    data = content()
    data["annotations"] += [
        annotation(10, box=(5, 5, 0, 4)),
        annotation(11, box=(31, 5, 1, 4)),  # nothing is left of it once clipped
        annotation(12, segmentation=[[1, 1, 4, 4]]),
        annotation(13, segmentation=[]),
        annotation(14, segmentation={"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}),
        annotation(15, box=(-1.5, 3, 33, 5)),
    ]
    data["images"].append({"id": 3, "file_name": "3.png", "height": HEIGHT, "width": WIDTH})
    dataset = coco.load(write(tmp_path / "data", train=data, val=data), "train")
    assert dataset.skipped == {coco.NO_AREA: 2, coco.NO_MASK: 3, coco.CLIPPED: 2, coco.NO_OBJECT: 1}
    assert dataset.records[0].boxes.tolist() == [[2, 3, 12, 8], [0, 3, 30, 8]]
    assert [r.image_id for r in dataset.records] == [1, 2]
    empty = coco.load(tmp_path / "data", "val").records[2]
    assert (empty.boxes.shape, empty.labels.shape, empty.masks().shape) == ((0, 4), (0,), (0, HEIGHT, WIDTH))


def no_images(c):
    c["images"] = []


def no_list(c):
    c["annotations"] = {}


def set_annotation(**changes):
    return lambda c: c["annotations"][1].update(changes)


def set_image(**changes):
    return lambda c: c["images"][1].update(changes)


BROKEN = [
    (no_images, "'images' is empty"),
    (no_list, "it has no list 'annotations'"),
    (lambda c: c["categories"].append({"id": 3, "name": "cow"}), "two categories have the id 3"),
    (lambda c: c["annotations"].append(annotation(1)), "two annotations have the id 1"),
    (lambda c: c["images"].append(c["images"][0]), "two images have the id 1"),
    (lambda c: c["annotations"].append([]), "entry 2 of 'annotations' has no whole number as its 'id'"),
    (lambda c: c["annotations"][1].pop("segmentation"), "annotation 1 has no 'segmentation'"),
    (lambda c: c["images"][0].pop("height"), "image 1 has no 'height'"),
    (set_image(width=0), "image 2 has the size 0 x 20"),
    (set_annotation(image_id=99), "annotation 1 is of image 99"),
    (set_annotation(category_id=99), "annotation 1 is of category 99"),
    (set_annotation(bbox=[40, 5, 4, 4]), r"annotation 1: bbox \[40, 5, 4, 4\] lies outside its image 2 of 30 x 20"),
    (set_annotation(bbox=[1, 2, 3]), r"annotation 1: bbox \[1, 2, 3\] is not \[x, y, width, height\]"),
    (set_annotation(bbox=[1, 2, 3, None]), "annotation 1: bbox"),
    (set_annotation(bbox=[1, 2, 3, float("nan")]), "annotation 1: bbox"),
    (set_annotation(segmentation=polygon(2, 30, 5, 5)), "annotation 1: a polygon lies outside its image 2"),
    (set_annotation(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "annotation 1: a polygon of its segmentation is not"),
    (set_annotation(segmentation=[["1", "2"] * 3]), "annotation 1: a polygon of its segmentation is not"),
    (set_annotation(segmentation=[1, 2, 3, 4, 5, 6]), "annotation 1: a polygon of its segmentation is not"),
    (set_annotation(segmentation="no"), "annotation 1: its segmentation is not a valid RLE"),
    (set_annotation(segmentation={"size": [30, 20], "counts": [600]}), "annotation 1: .* 20 rows x 30 columns"),
    (set_annotation(segmentation={"size": [20, 30], "counts": [500, 50]}), "annotation 1: .* not a valid RLE"),
    (set_annotation(segmentation={"size": [20, 30], "counts": "hello world"}), "annotation 1: .* not a valid RLE"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[m[:40] for _, m in BROKEN])
def test_broken_annotations_are_named(tmp_path, change, message):
    data = content()
    change(data)
    root = write(tmp_path / "data", train=data)
    for read in (lambda: coco.load(root, "train"), lambda: coco.check(root)):
        with pytest.raises(UserError, match=message) as e:
            read()
        assert str(root / "annotations" / "instances_train2017.json") in str(e.value)
        assert "\n" not in str(e.value)


def test_a_category_without_objects_is_named_by_check(tmp_path):
    data = content()
    data["categories"].append({"id": 9, "name": "cow"})
    root = write(tmp_path / "data", train=data)
    with pytest.raises(UserError, match="instances_train2017.json: category 9 'cow' has no object"):
        coco.check(root)
    assert coco.load(root, "train").category_ids == (3, 7, 9)


def test_check_returns_both_splits(tmp_path):
    train, val = coco.check(write(tmp_path / "data"))
    assert train.annotation_file.name == "instances_train2017.json"
    assert val.annotation_file.name == "instances_val2017.json"


def test_no_folder_no_file_two_files_no_image_folder(tmp_path):
    with pytest.raises(UserError, match="nowhere is not a COCO folder: no annotations/instances_train"):
        coco.check(tmp_path / "nowhere")
    root = write(tmp_path / "data")
    (root / "annotations" / "instances_val2014.json").write_text("{}")
    with pytest.raises(UserError, match="more than one annotations/instances_val"):
        coco.check(root)
    (root / "annotations" / "instances_val2017.json").unlink()
    with pytest.raises(UserError, match="images belong into the folder .*val2014"):
        coco.check(root)


def test_broken_json(tmp_path):
    root = write(tmp_path / "data")
    file = root / "annotations" / "instances_val2017.json"
    file.write_text(file.read_text()[:-5])
    with pytest.raises(UserError, match="instances_val2017.json: is not JSON"):
        coco.check(root)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="instances_val2017.json: is not JSON"):
        coco.check(root)


def test_missing_wrong_and_resized_images(tmp_path):
    root = write(tmp_path / "data")
    image = root / "val2017" / "2.png"
    cv2.imwrite(str(image), np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    with pytest.raises(UserError, match=r"image 2 \(.*2.png\) is 20 x 30 pixels, .* says 30 x 20"):
        coco.check(root)
    with pytest.raises(UserError, match="is 20 x 30 pixels"):
        coco.load(root, "val").records[1].image()
    image.write_text("no image")
    with pytest.raises(UserError, match="instances_val2017.json: image 2: .*2.png is no image"):
        coco.check(root)
    image.unlink()
    with pytest.raises(UserError, match="instances_val2017.json: image 2: cannot read .*2.png"):
        coco.check(root)
    with pytest.raises(UserError, match="cannot read the image .*2.png"):
        coco.load(root, "val").records[1].image()


def test_splits_must_have_the_same_categories(tmp_path):
    data = content()
    data["categories"][0]["name"] = "cow"
    with pytest.raises(UserError, match="category 7 is 'cat' in instances_train2017.json and 'cow' in instances_val2"):
        coco.check(write(tmp_path / "data", val=data))


def test_image_size_without_decoding(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (37, 53, 3), np.uint8)
    for suffix in (".png", ".jpg", ".bmp"):
        path = tmp_path / f"image{suffix}"
        cv2.imwrite(str(path), pixels)
        assert image_size(path) == (37, 53)
    progressive = tmp_path / "progressive.jpg"
    cv2.imwrite(str(progressive), pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert image_size(progressive) == (37, 53)
    # A rotation written in the file does not turn its pixels; COCO's sizes and boxes ignore it.
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    jpeg = (tmp_path / "image.jpg").read_bytes()
    rotated = tmp_path / "rotated.jpg"
    rotated.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    assert cv2.imread(str(rotated)).shape[:2] == (53, 37)
    assert image_size(rotated) == (37, 53)
    for broken in (b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\x00\x10JFIF", b"\x89PNG\r\n\x1a\n"):
        rotated.write_bytes(broken)
        assert image_size(rotated) is None


def test_run_lengths_of_strings_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for _ in range(100):
        mask = (rng.random(rng.integers(1, 90, 2)) < rng.random()).astype(np.uint8)
        counts = mask_util.encode(np.asfortranarray(mask))["counts"].decode()
        assert coco.run_lengths(counts) == rle_list(mask)["counts"]
    for broken in ("", "\x7f", "o", "hello world", "ooooooo1", "é", None, [1, -1], [1.5]):
        assert coco.run_lengths(broken) is None


def test_data_needs_no_tensorflow():
    modules = "maskrcnn.data.coco, maskrcnn.data.shapes, maskrcnn.detections, maskrcnn.draw"
    code = f"import sys, {modules}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
