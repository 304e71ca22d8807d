"""A folder in COCO format: read, checked, and held as one small record an image.

    annotations/instances_train*.json     beside     train*/      (the same suffix, such as 2017; it may be empty)
    annotations/instances_val*.json       beside     val*/

What is wrong is a UserError that names the file and the id. What COCO itself contains here and there is left out or
clipped, and counted in `Dataset.skipped`. All checks but those of the image files are made by `load`, too.
"""

import gc
import json
from collections import Counter
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from math import isfinite
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from maskrcnn.data.imagesize import image_size
from maskrcnn.errors import UserError

SPLITS = ("train", "val")
OVERHANG = 0.05  # a box may reach over the border by this part of the image's side (and 2 pixels); then it is clipped
NOT_RLE = "is not a valid RLE of its image"

NO_AREA = "box without area"
NO_MASK = "segmentation without area"
CLIPPED = "box clipped to its image"
CROWD = "crowd box ignored in training"
NO_OBJECT = "image without objects not used in training"


@dataclass(frozen=True)
class Record:
    """One image and its n objects. Boxes are float32 xyxy in continuous image coordinates, within the image."""

    image_id: int
    path: Path
    height: int
    width: int
    boxes: np.ndarray  # [n,4]
    labels: np.ndarray  # [n] int32 in 1..K
    areas: np.ndarray  # [n] float32, of the masks, as annotated
    segmentations: tuple  # n of COCO: a list of polygons, or an RLE
    crowd_boxes: np.ndarray  # [c,4]
    crowd_labels: np.ndarray  # [c] int32
    crowd_segmentations: tuple  # c of COCO

    def masks(self):
        """The objects' masks, [n,height,width] uint8 in {0, 1}. Raises UserError if an RLE cannot be decoded."""
        masks = np.zeros((len(self.segmentations), self.height, self.width), np.uint8)
        for mask, segmentation in zip(masks, self.segmentations):
            try:
                mask[...] = mask_util.decode(rle(segmentation, self.height, self.width))
            except ValueError:
                raise UserError(f"image {self.image_id} ({self.path}): a segmentation {NOT_RLE}.") from None
        return masks

    def image(self):
        """The pixels as stored, [height,width,3] uint8 RGB. Raises UserError if the file cannot be read."""
        pixels = cv2.imread(str(self.path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is None:
            raise UserError(f"cannot read the image {self.path}: not there, or no image.")
        if pixels.shape[:2] != (self.height, self.width):
            raise _wrong_size(self, *pixels.shape[:2])
        return np.ascontiguousarray(pixels[:, :, ::-1])


@dataclass(frozen=True)
class Dataset:
    """One split. Labels 1..K are the categories in the order of their COCO ids."""

    records: tuple  # of Record
    category_names: tuple  # K
    category_ids: tuple  # K, of the annotation file
    skipped: dict  # what was left out or clipped -> how often
    annotation_file: Path

    def ground_truth(self):
        """The records as a pycocotools COCO, for COCOeval: clipped boxes, categories and image ids of the file."""
        images, annotations = [], []
        for r in self.records:
            images.append({"id": r.image_id, "height": r.height, "width": r.width})
            crowd_areas = (r.crowd_boxes[:, 2:] - r.crowd_boxes[:, :2]).prod(1)
            groups = (
                (0, r.boxes, r.labels, r.areas, r.segmentations),
                (1, r.crowd_boxes, r.crowd_labels, crowd_areas, r.crowd_segmentations),
            )
            for crowd, *group in groups:
                for (x1, y1, x2, y2), label, area, segmentation in zip(*(map(_listed, group))):
                    annotations.append(
                        {
                            "id": len(annotations) + 1,  # from 1: to COCOeval a match with id 0 is no match
                            "image_id": r.image_id,
                            "category_id": self.category_ids[label - 1],
                            "bbox": [x1, y1, x2 - x1, y2 - y1],
                            "area": area,
                            "segmentation": segmentation,
                            "iscrowd": crowd,
                        }
                    )
        categories = [{"id": i, "name": name} for i, name in zip(self.category_ids, self.category_names)]
        return coco_index(images, annotations, categories)


def _listed(values):
    return values.tolist() if isinstance(values, np.ndarray) else values


def coco_index(images, annotations, categories):
    """A pycocotools COCO over these lists, which prints nothing."""
    coco = COCO()
    coco.dataset = {"images": images, "annotations": annotations, "categories": categories}
    with redirect_stdout(StringIO()):
        coco.createIndex()
    return coco


def rle(segmentation, height, width):
    """A COCO segmentation in any of its forms as one compressed RLE. Raises ValueError if it cannot be one."""
    if isinstance(segmentation, list):
        return mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return mask_util.frPyObjects(segmentation, height, width)
    return segmentation


def load(folder, split):
    """The Dataset of `folder` for split "train" or "val". Raises UserError when it is not sound COCO.

    Crowd annotations are kept apart in the records, for training to ignore and evaluation to forgive; records of
    the train split have at least one object.
    """
    annotation_file, image_folder = _layout(Path(folder), split)
    with _paused_collector():
        return _Reader(annotation_file, image_folder).dataset(training=split == "train")


@contextmanager
def _paused_collector():
    """Without the garbage collector, which would walk over millions of fresh and living objects again and again:
    reading COCO takes half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def check(folder):
    """The Datasets (train, val) of `folder`, once both are sound, have the same categories, each with an object to
    train on, and every image is there with the size its annotation file says (pixels are not decoded).
    Raises UserError, also all those of `load`."""
    train, val = (load(folder, split) for split in SPLITS)
    labels = {label for r in train.records for label in r.labels.tolist()}
    for label, (i, name) in enumerate(zip(train.category_ids, train.category_names), 1):
        if label not in labels:
            raise UserError(
                f"{train.annotation_file}: category {i} '{name}' has no object: annotate it or take it out."
            )
    ours, theirs = (dict(zip(d.category_ids, d.category_names)) for d in (train, val))
    for i in sorted(ours.keys() | theirs.keys()):
        if ours.get(i) != theirs.get(i):
            said = " and ".join(
                f"'{names[i]}' in {d.annotation_file.name}" if i in names else f"not in {d.annotation_file.name}"
                for names, d in ((ours, train), (theirs, val))
            )
            raise UserError(f"{folder}: category {i} is {said}; both must have the same categories.")
    for dataset in (train, val):
        for record in dataset.records:
            try:
                size = image_size(record.path)
            except OSError as e:
                raise UserError(
                    f"{dataset.annotation_file}: image {record.image_id}: cannot read {record.path}: {e.strerror}."
                ) from None
            if size is None:
                raise UserError(f"{dataset.annotation_file}: image {record.image_id}: {record.path} is no image.")
            if size != (record.height, record.width):
                raise _wrong_size(record, *size)
    return train, val


def annotation_files(folder):
    """The annotation files of `folder`, train and val. Raises UserError when it is not laid out as COCO."""
    return [_layout(Path(folder), split)[0] for split in SPLITS]


def _layout(folder, split):
    """The annotation file and the image folder of a split."""
    found = sorted(folder.glob(f"annotations/instances_{split}*.json"))
    if len(found) != 1:
        what = "no" if not found else "more than one"
        raise UserError(
            f"{folder} is not a COCO folder: {what} annotations/instances_{split}*.json; "
            f"it needs exactly one, beside a folder {split}* of images."
        )
    image_folder = folder / found[0].stem[len("instances_") :]
    if not image_folder.is_dir():
        raise UserError(f"{found[0]}: its images belong into the folder {image_folder}, which does not exist.")
    return found[0], image_folder


class _Reader:
    """One annotation file on its way to a Dataset. Plain loops over plain dicts and numpy over whole columns: the
    860,000 annotations of COCO take seconds."""

    def __init__(self, file, image_folder):
        self.file = file
        self.image_folder = image_folder
        self.skipped = Counter()

    def error(self, text):
        return UserError(f"{self.file}: {text}")

    def dataset(self, training):
        content = self._parse()
        categories = sorted(self._by_id(content, "categories", ("name",)).values(), key=lambda c: c["id"])
        label_of = {c["id"]: label for label, c in enumerate(categories, 1)}
        images = self._by_id(content, "images", ("file_name", "height", "width"))
        self._check_images(images)
        annotations = self._by_id(content, "annotations", ("image_id", "category_id", "bbox", "segmentation"))
        annotations = list(annotations.values())
        self._check_references(annotations, images, label_of)

        boxes = self._boxes(annotations, images)
        labels = np.array([label_of[a["category_id"]] for a in annotations], np.int32)
        of_image = {image_id: ([], []) for image_id in images}  # row numbers of its objects and of its crowds
        for row, (a, sound) in enumerate(zip(annotations, self._sound(annotations, boxes, images))):
            if sound:
                of_image[a["image_id"]][bool(a.get("iscrowd"))].append(row)

        records = []
        for image_id, (objects, crowds) in of_image.items():
            if training:
                self.skipped[CROWD] += len(crowds)
                self.skipped[NO_OBJECT] += not objects
            if objects or not training:
                records.append(self._record(images[image_id], annotations, boxes, labels, objects, crowds))
        if not records:
            raise self.error("no image has an object to train on.")
        names = tuple(c["name"] for c in categories)
        return Dataset(tuple(records), names, tuple(label_of), dict(+self.skipped), self.file)

    def _record(self, image, annotations, boxes, labels, objects, crowds):
        size = image["height"], image["width"]
        return Record(
            image["id"],
            self.image_folder / image["file_name"],
            *size,
            boxes[objects],
            labels[objects],
            np.array([_area(annotations[row], size) for row in objects], np.float32),
            tuple(annotations[row]["segmentation"] for row in objects),
            boxes[crowds],
            labels[crowds],
            tuple(annotations[row]["segmentation"] for row in crowds),
        )

    def _parse(self):
        try:
            content = json.loads(self.file.read_bytes())
        except OSError as e:
            raise self.error(f"cannot be read: {e.strerror}.") from None
        except ValueError as e:
            raise self.error(f"is not JSON: {e}.") from None
        for key in ("images", "annotations", "categories"):
            if not isinstance(content, dict) or not isinstance(content.get(key), list):
                raise self.error(f"is not COCO: it has no list '{key}'.")
            if not content[key]:
                raise self.error(f"'{key}' is empty.")
        return content

    def _by_id(self, content, key, fields):
        """The entries of a list by their id. Each must have an id of its own and these fields."""
        entries = {}
        for position, entry in enumerate(content[key]):
            if not isinstance(entry, dict) or not isinstance(entry.get("id"), int):
                raise self.error(f"entry {position} of '{key}' has no whole number as its 'id'.")
            for field in fields:
                if field not in entry:
                    raise self.error(f"{_one(key)} {entry['id']} has no '{field}'.")
            if entry["id"] in entries:
                raise self.error(f"two {key} have the id {entry['id']}.")
            entries[entry["id"]] = entry
        return entries

    def _check_images(self, images):
        for i, image in images.items():
            if not all(isinstance(image[k], int) and image[k] > 0 for k in ("height", "width")):
                raise self.error(f"image {i} has the size {image['width']} x {image['height']}.")
            if not isinstance(image["file_name"], str):
                raise self.error(f"image {i} has the file_name {image['file_name']}, which is no text.")

    def _check_references(self, annotations, images, categories):
        for a in annotations:
            if a["image_id"] not in images:
                raise self.error(f"annotation {a['id']} is of image {a['image_id']}, which is not in 'images'.")
            if a["category_id"] not in categories:
                raise self.error(f"annotation {a['id']} is of category {a['category_id']}, not in 'categories'.")

    def _boxes(self, annotations, images):
        """Boxes [n,4] float32 xyxy, clipped to their images. Raises UserError for one that lies outside."""
        try:
            boxes = np.array([a["bbox"] for a in annotations], float).reshape(-1, 4)
        except (ValueError, TypeError):
            bad = next(a for a in annotations if not _is_box(a["bbox"]))
            raise self.error(f"annotation {bad['id']}: bbox {bad['bbox']} is not [x, y, width, height].") from None
        sizes = [(images[a["image_id"]]["width"], images[a["image_id"]]["height"]) for a in annotations]
        sizes = np.tile(np.array(sizes, float), 2)
        boxes[:, 2:] += boxes[:, :2]
        clipped = np.clip(boxes, 0, sizes)
        over = np.abs(boxes - clipped) > _tolerance(sizes)
        bad = np.flatnonzero(over.any(1) | ~np.isfinite(boxes).all(1))
        if len(bad):
            a, (width, height) = annotations[bad[0]], sizes[bad[0], :2]
            raise self.error(
                f"annotation {a['id']}: bbox {a['bbox']} lies outside its image {a['image_id']} "
                f"of {width:.0f} x {height:.0f} pixels; bbox is [x, y, width, height] in pixels."
            )
        self.skipped[CLIPPED] += int((np.abs(boxes - clipped) > 0.01).any(1).sum())
        return clipped.astype(np.float32)

    def _sound(self, annotations, boxes, images):
        """For each annotation whether box and segmentation have an area; the others are counted."""
        has_area = (boxes[:, 2:] > boxes[:, :2]).all(1)
        for a, sound in zip(annotations, has_area.tolist()):
            if not sound:
                self.skipped[NO_AREA] += 1
            elif not self._has_mask(a, images[a["image_id"]]):
                self.skipped[NO_MASK] += 1
                sound = False
            yield sound

    def _has_mask(self, a, image):
        """Whether the segmentation has an area. Polygons of less than three corners are dropped from it.
        Raises UserError if it is no segmentation of this image."""
        height, width = image["height"], image["width"]
        segmentation = a["segmentation"]
        if isinstance(segmentation, list):
            for polygon in segmentation:
                self._check_polygon(a, polygon, height, width)
            a["segmentation"] = [polygon for polygon in segmentation if len(polygon) >= 6]
            return bool(a["segmentation"])
        runs = run_lengths(segmentation.get("counts")) if isinstance(segmentation, dict) else None
        if runs is None or segmentation.get("size") != [height, width] or sum(runs) != height * width:
            raise self.error(f"annotation {a['id']}: its segmentation {NOT_RLE}, {height} rows x {width} columns.")
        return sum(runs[1::2]) > 0

    def _check_polygon(self, a, polygon, height, width):
        try:
            x, y = polygon[0::2], polygon[1::2]
            sound = len(x) == len(y) and isfinite(sum(polygon))
            outside = sound and polygon and max(_overhang(x, width), _overhang(y, height)) > 0
        except TypeError:
            sound = outside = False
        if not sound:
            raise self.error(f"annotation {a['id']}: a polygon of its segmentation is not [x1, y1, x2, y2, ...].")
        if outside:
            raise self.error(
                f"annotation {a['id']}: a polygon lies outside its image {a['image_id']} of {width} x {height} pixels."
            )


def _area(a, size):
    area = a.get("area")
    return area if isinstance(area, (int, float)) else mask_util.area(rle(a["segmentation"], *size))


def run_lengths(counts):
    """The run lengths of an RLE from the `counts` of its list or its string form; None if they are not sound.

    pycocotools reads beyond the end of a broken string, so strings are read here before it sees them. A character
    holds 5 bits of a number, the lowest first, and whether more follow; from the fourth on a number is the difference
    to the one two before.
    """
    if isinstance(counts, list):
        return counts if all(type(c) is int and c >= 0 for c in counts) else None
    if not isinstance(counts, str) or not counts.isascii():
        return None
    chars = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    if not len(chars) or chars.min() < 0 or chars.max() > 63 or chars[-1] & 32:
        return None
    last = np.flatnonzero(~chars & 32)
    first = np.concatenate([[0], last[:-1] + 1])
    digits = last - first + 1
    if digits.max() > 6:  # more than 2^29 pixels
        return None
    place = np.arange(len(chars)) - np.repeat(first, digits)
    numbers = np.add.reduceat((chars & 31) << 5 * place, first)
    numbers -= np.where(chars[last] & 16, 1 << 5 * digits, 0)
    for parity in (1, 2):
        numbers[parity::2] = np.cumsum(numbers[parity::2])
    return numbers.tolist() if numbers.min() >= 0 else None


def _overhang(values, side):
    """How far coordinates reach over 0..side beyond what is tolerated; negative if they do not."""
    return max(-min(values), max(values) - side) - _tolerance(side)


def _tolerance(side):
    return 2 + OVERHANG * side


def _one(key):
    return {"images": "image", "annotations": "annotation", "categories": "category"}[key]


def _is_box(box):
    return isinstance(box, list) and len(box) == 4 and all(isinstance(v, (int, float)) for v in box)


def _wrong_size(record, height, width):
    return UserError(
        f"image {record.image_id} ({record.path}) is {width} x {height} pixels, "
        f"but its annotation file says {record.width} x {record.height}."
    )
