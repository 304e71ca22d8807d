"""A generated set of drawn shapes in COCO format: small enough to learn from scratch in minutes.

An image is a smooth background, 2 to 6 shapes on top of one another, and noise over everything. All geometry is
in continuous image coordinates (pixel (i, j) covers [j, j+1] x [i, i+1]). A shape is its signed distance at the
pixel centres: coverage = clip(1/2 - distance, 0, 1) draws it anti-aliased, distance < 0 is its mask, so that
picture and mask have the same outline by construction. Masks are modal, as in COCO: what is covered is not in them.
"""

import hashlib
import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as mask_util

from maskrcnn.errors import UserError

VERSION = 4  # of what is drawn: raise it whenever the same parameters draw other images
CATEGORIES = ("circle", "square", "triangle", "cross", "ring")
SIDES = (96, 112, 128)  # possible heights and widths
DIAMETERS = (16.0, 64.0)  # of the circle around a shape; COCO calls an area below 32^2 small, below 96^2 medium
AREAS = tuple(math.pi / 4 * diameter**2 for diameter in DIAMETERS)  # of the smallest and the largest object, about
OBJECTS = (2, 6)
OVERLAPPING = 0.4  # the part of the images whose shapes may cover one another
MIN_VISIBLE = 0.4  # the smallest part of a shape that others may leave visible
ATTEMPTS = 20  # placements tried in one image for more shapes than the fewest
RING_HOLE = 0.5  # inner over outer radius
BACKGROUND = (15, 85)  # grey levels of each colour channel: dark behind bright makes outlines quick to learn
FOREGROUND = (110, 250)
NOISE = 6.0  # standard deviation, in grey levels
STREAMS = {"train": 0, "val": 1}  # independent random streams: the val images never depend on the train images


def ensure(root, train_images, val_images, seed):
    """The folder `root`/shapes-... with the generated set in COCO layout, made now unless it is there.

    The same arguments give the same bytes; image i of a split does not depend on how many images there are. The
    folder appears complete or not at all, and processes that make it at the same time do not disturb one another.
    Raises UserError when the seed is negative or the folder cannot be written.
    """
    if seed < 0:
        raise UserError(f"data_seed={seed}: must be 0 or greater.")
    root = Path(root)
    folder = root / folder_name(train_images, val_images, seed)
    if folder.is_dir():
        return folder
    partial = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=root))
        _write_split(partial, "train", train_images, seed)
        _write_split(partial, "val", val_images, seed)
        partial.chmod(0o755)
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster: the same bytes
                raise
    except OSError as e:
        raise UserError(
            f"cannot write the generated images to {root}: {e.strerror}; free or choose a folder."
        ) from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def folder_name(train_images, val_images, seed):
    """The name of the folder that `ensure` makes of these; equal names hold equal bytes."""
    return f"shapes-{train_images}-{val_images}-seed{seed}-{_fingerprint()}"


def _fingerprint():
    drawn = (VERSION, CATEGORIES, SIDES, DIAMETERS, OBJECTS, OVERLAPPING, MIN_VISIBLE, ATTEMPTS, RING_HOLE, NOISE)
    return hashlib.sha256(json.dumps(drawn).encode()).hexdigest()[:8]


def _write_split(folder, split, count, seed):
    (folder / split).mkdir()
    (folder / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
    for index in range(count):
        pixels, objects = scene(np.random.default_rng([seed, STREAMS[split], index]), index % len(CATEGORIES) + 1)
        name = f"{index + 1:06d}.png"
        _, png = cv2.imencode(".png", pixels[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        (folder / split / name).write_bytes(png.tobytes())
        height, width = pixels.shape[:2]
        images.append({"id": index + 1, "file_name": name, "height": height, "width": width})
        for annotation in objects:
            ids = {"id": len(annotations) + 1, "image_id": index + 1, "iscrowd": 0}
            annotations.append({**ids, **annotation})
    categories = [{"id": i + 1, "name": name, "supercategory": "shape"} for i, name in enumerate(CATEGORIES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


class _Shape(NamedTuple):
    """A placed shape: label 1..5, signed distance [h,w] in pixels at the pixel centres of its window (two slices of
    the image), those centres x [w] and y [h,1] from the shape's centre in radii, and the corners [k,2] of its outline
    in the image (None for a ring, which has a hole)."""

    label: int
    distance: np.ndarray
    x: np.ndarray
    y: np.ndarray
    window: tuple
    outline: np.ndarray


def scene(rng, first_label):
    """One image [H,W,3] uint8 RGB and its annotations in COCO format, without ids. Its first object has
    `first_label`, so that a few images already have every category."""
    height, width = (int(side) for side in rng.choice(SIDES, 2))
    shapes, visible = _arrange(rng, height, width, first_label)

    # A 4x4 grid of colours, blown up: gradients in every direction. Each shape's colour is far from the earlier ones.
    grid = rng.uniform(*BACKGROUND, 3) + rng.normal(0, 14, (4, 4, 3))
    pixels = cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    colours = [grid.mean((0, 1))]
    for shape in shapes:
        colours.append(_distinct_colour(rng, colours))
        tilt = rng.normal(0, 12, 2)
        colour = colours[-1] + (tilt[0] * shape.x + tilt[1] * shape.y)[..., None]
        coverage = np.clip(0.5 - shape.distance, 0, 1)[..., None]
        pixels[shape.window] += coverage * (colour - pixels[shape.window])
    pixels += NOISE * rng.standard_normal(pixels.shape, dtype=np.float32)
    pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return pixels, [_annotation(shape, seen, height, width) for shape, seen in zip(shapes, visible)]


def _arrange(rng, height, width, first_label):
    """Shapes from the bottom one to the top one, and the visible mask [H,W] bool of each."""
    wanted = rng.integers(OBJECTS[0], OBJECTS[1] + 1)
    least = MIN_VISIBLE if rng.random() < OVERLAPPING else 1
    shapes, visible = [], []
    attempts = 0
    while len(shapes) < OBJECTS[0] or (len(shapes) < wanted and attempts < ATTEMPTS):
        attempts += 1
        label = int(rng.integers(1, len(CATEGORIES) + 1)) if shapes else first_label
        shape = _random_shape(rng, label, height, width)
        mask = np.zeros((height, width), bool)
        mask[shape.window] = shape.distance < 0
        uncovered = [seen & ~mask for seen in visible]
        if all(left.sum() >= least * (below.distance < 0).sum() for left, below in zip(uncovered, shapes)):
            shapes.append(shape)
            visible = [*uncovered, mask]
    return shapes, visible


def _random_shape(rng, label, height, width):
    radius = np.sqrt(rng.uniform(*np.square(DIAMETERS))) / 2  # uniform in the area: large ones find no place more often
    centre = rng.uniform(radius + 1, np.array([width, height]) - radius - 1)
    angle = rng.uniform(0, 2 * np.pi)

    x1, y1 = np.floor(centre - radius).astype(int) - 1
    x2, y2 = np.ceil(centre + radius).astype(int) + 1
    window = np.s_[max(y1, 0) : y2, max(x1, 0) : x2]
    x = (np.arange(max(x1, 0), min(x2, width)) + 0.5 - centre[0]) / radius
    y = (np.arange(max(y1, 0), min(y2, height))[:, None] + 0.5 - centre[1]) / radius

    name = CATEGORIES[label - 1]
    from_centre = np.hypot(x, y)
    if name == "ring":
        distance = np.abs(from_centre - (1 + RING_HOLE) / 2) - (1 - RING_HOLE) / 2
        return _Shape(label, distance * radius, x, y, window, None)
    outline = OUTLINES[name] @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    distance = from_centre - 1 if name == "circle" else _polygon_distance(x, y, outline)
    return _Shape(label, distance * radius, x, y, window, outline * radius + centre)


def _spokes(radii):
    """The polygon [k,2] whose corners are at equal angles and at these distances from the origin."""
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii)
    return np.array(radii)[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)


def _cross(arm):
    """A plus sign inside the unit circle; `arm` is the half width of its bars over their half length."""
    corner = np.array([[1, -arm], [1, arm], [arm, arm]]) / np.hypot(1, arm)
    turn = np.array([[0, 1], [-1, 0]])
    return np.concatenate([corner @ np.linalg.matrix_power(turn, k) for k in range(4)])


_CIRCLE_CORNERS = 48
# Outlines inside the unit circle. The polygon that stands for the circle has the circle's area.
_CIRCLE_RADIUS = np.sqrt(2 * np.pi / (_CIRCLE_CORNERS * np.sin(2 * np.pi / _CIRCLE_CORNERS)))
OUTLINES = {
    "circle": _spokes([_CIRCLE_RADIUS] * _CIRCLE_CORNERS),
    "square": _spokes([1] * 4),
    "triangle": _spokes([1] * 3),
    "cross": _cross(0.36),
}


def _polygon_distance(x, y, corners):
    """Signed distance of the points x [w], y [h,1] to the polygon with corners [k,2], negative inside."""
    squared, inside = np.inf, False
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0)):
        dx, dy = bx - ax, by - ay
        px, py = x - ax, y - ay
        along = np.clip((px * dx + py * dy) / (dx * dx + dy * dy), 0, 1)
        squared = np.minimum(squared, (px - along * dx) ** 2 + (py - along * dy) ** 2)
        crosses = (y >= ay) != (y >= by)
        inside = inside ^ (crosses & ((px * dy < py * dx) == (dy > 0)))
    return np.where(inside, -1, 1) * np.sqrt(squared)


def _distinct_colour(rng, others):
    """Of a few random colours, the one whose nearest among `others` is farthest."""
    candidates = rng.uniform(*FOREGROUND, (24, 3))
    nearest = np.linalg.norm(candidates[:, None] - np.array(others), axis=-1).min(1)
    return candidates[nearest.argmax()]


def _annotation(shape, visible, height, width):
    """A whole outline is written as a polygon; what has a hole or is partly covered as RLE."""
    rle = mask_util.encode(np.asfortranarray(visible.astype(np.uint8)))
    if shape.outline is not None and visible.sum() == (shape.distance < 0).sum():
        segmentation = [[round(float(v), 2) for v in shape.outline.ravel()]]
        low, high = shape.outline.min(0), shape.outline.max(0)
        box = [*low, *(high - low)]
    else:
        segmentation = {"size": [height, width], "counts": rle["counts"].decode("ascii")}
        box = mask_util.toBbox(rle)
    return {
        "category_id": shape.label,
        "bbox": [round(float(v), 2) for v in box],
        "area": int(mask_util.area(rle)),
        "segmentation": segmentation,
    }
