"""DATA_PIPELINE: every image once an epoch, in a new order, half of them flipped, with anchors drawn fairly."""

import dataclasses
from typing import NamedTuple

import numpy as np

from maskrcnn.data.coco import Dataset, Record
from maskrcnn.data.loading import normalised, padded_size
from maskrcnn.inputs import specs, unpack
from maskrcnn.parity.cases import generator
from maskrcnn.parity.checks import Check
from maskrcnn.parity.graphs import FORMS
from maskrcnn.parity.references import iou
from maskrcnn.parity.statistics import Inclusions, binomial_two_sided, poisson_tail

IMAGES = 12
EPOCHS = 20
IN_CROWD = 0.7  # an anchor of which this part lies in a crowd box is neither object nor background
ROUNDING = 1e-4  # overlaps this near a limit may fall on either side of it


class Batches(NamedTuple):
    """A number of steps at one batch size."""

    name: str
    batch: int
    steps: int


CASES = (
    Batches("one image", 1, 3),
    Batches("unequal", 3, 4),
    Batches("distribution", 2, IMAGES * EPOCHS // 2),
)
NOTE = (
    f"in {EPOCHS} epochs of {IMAGES} images a form, a flip rate within about 0.2 of its value is not seen, nor is "
    "a mild bias in the order; what that does, only training shows"
)


@dataclasses.dataclass(frozen=True)
class Drawn(Record):
    """A Record whose picture is in memory."""

    pixels: object = None
    drawn_masks: object = None

    def masks(self):
        return self.drawn_masks.copy()

    def image(self):
        return self.pixels.copy()


class Pipeline:
    """Tries out DATA_PIPELINE."""

    note = NOTE

    def __init__(self, flag, nobatch, batched, config):
        self._flag, self._config = flag, config
        self._forms = dict(zip(FORMS, (nobatch, batched)))
        self._identical = True

    def cases(self):
        return CASES

    def same_computation(self):
        """Whether all batches so far were the same, bit for bit, in both implementations."""
        return self._identical

    def checks(self, seed, cases):
        dataset = _dataset(np.random.default_rng([seed, 12]), self._config)
        return [check for case in cases for check in self._case(seed, case, dataset)]

    def _case(self, seed, case, dataset):
        # Epochs are distinguished by counting images; grouped by shape, some of an epoch come with the next one's.
        config = dataclasses.replace(self._config, batch=case.batch, group_aspect=False)
        number = int(generator(seed, self._flag, case.name).integers(2**31))
        found, packed = [], {}
        for form in FORMS:
            what = f"case '{case.name}'"
            name = f"{form}: images, objects and anchor labels, {what}"
            try:
                stream = iter(self._forms[form](dataset, config, number, 0))
                packed[form] = [next(stream) for _ in range(case.steps)]
            except Exception as e:  # a function of the user's own may fail in any way: a finding, not a crash
                if form == "nobatch":
                    raise
                found.append(Check(name, case.name, 1.0, worst=f"{type(e).__name__}: {e}, {what}"))
                continue
            watch = _Watch(dataset, config)
            problem = ""
            for step, arrays in enumerate(packed[form]):
                problem = problem or _well_formed(arrays, config) or watch.step(unpack(arrays))
                if problem:
                    problem = f"step {step}: {problem}"
                    break
            found.append(Check(name, case.name, float(bool(problem)), worst=f"{problem or form}, {what}"))
            if case.name == "distribution" and not problem:
                found += watch.distribution(form, case)
        self._identical &= len(packed) == 2 and all(
            len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b)) for a, b in zip(*packed.values())
        )
        return found


def _dataset(rng, config):
    """Noise with boxes of objects in it: unequal sizes, some images without objects, some with crowds."""
    records = []
    for i in range(IMAGES):
        h, w = (int(n) for n in rng.integers(40, 97, 2))
        n = int(rng.integers(1, 5)) if i % 4 else 0
        boxes, crowds = _boxes(rng, h, w, n), _boxes(rng, h, w, i % 3 // 2, (40, 60))
        masks = np.zeros((n, h, w), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().astype(int)):
            mask[y1:y2, x1:x2] = rng.random((y2 - y1, x2 - x1)) < 0.7
        labels = rng.integers(1, config.classes + 1, n).astype(np.int32)
        pixels = rng.integers(0, 256, (h, w, 3), np.uint8)
        own = dict(pixels=pixels, drawn_masks=masks, areas=np.ones(n, np.float32), segmentations=({},) * n)
        crowd = dict(crowd_boxes=crowds, crowd_labels=np.ones(len(crowds), np.int32), crowd_segmentations=())
        records.append(Drawn(i + 1, None, h, w, boxes, labels, **own, **crowd))
    names = tuple(f"class {k}" for k in range(1, config.classes + 1))
    return Dataset(tuple(records), names, tuple(range(1, len(names) + 1)), {}, None)


def _boxes(rng, h, w, n, sizes=(8, 50)):
    half = rng.uniform(*sizes, (n, 2)) / 2
    centre = rng.random((n, 2)) * [w, h]
    return np.clip(np.concatenate([centre - half, centre + half], axis=1), 0, [w, h, w, h]).astype(np.float32)


def _well_formed(arrays, config):
    """What is wrong with the types or shapes of one step's arrays, or ""."""
    wanted = specs(config)
    if len(arrays) != len(wanted):
        return f"{len(arrays)} arrays instead of {len(wanted)}"
    for array, spec in zip(arrays, wanted):
        array = np.asarray(array)
        fits = array.ndim == len(spec.shape) and all(n in (None, m) for n, m in zip(spec.shape, array.shape))
        if not fits or array.dtype != spec.dtype:
            return f"{spec.name} is {array.dtype} {array.shape}, not {np.dtype(spec.dtype)} {spec.shape}"
    return ""


class _Watch:
    """Looks at one step after the other, and remembers what was drawn."""

    def __init__(self, dataset, config):
        self._config = config
        self._records = {r.image_id: r for r in dataset.records}
        self._n = len(dataset.records)
        self._groups = (
            len(config.strides) * len(config.anchor_ratios) * 4
        )  # of anchors: level, ratio, quarter of the image
        self._ids, self._flips, self._batches = [], [], []
        self._anchors = {label: Inclusions(self._groups) for label in (0, 1)}

    def step(self, batch):
        """What is wrong with a step, or ""."""
        hw = batch.images.hw
        size = padded_size(hw, self._config)
        if batch.images.pixels.shape[1:3] != size:
            return f"padded to {batch.images.pixels.shape[1:3]}, not {size}"
        for i, image_id in enumerate(batch.image_ids):
            problem = self._image(batch, i, int(image_id))
            if problem:
                return f"image {i}: {problem}"
        self._batches.append(frozenset(int(i) for i in batch.image_ids))
        return ""

    def _image(self, batch, i, image_id):
        record = self._records.get(image_id)
        if record is None:
            return f"there is no image {image_id}"
        h, w = record.height, record.width
        if tuple(batch.images.hw[i]) != (h, w):
            return f"hw is {tuple(batch.images.hw[i])}, not {(h, w)}"
        pixels, truth = batch.images.pixels[i], batch.ground_truth
        own = normalised(record.image(), self._config)
        flip = bool(np.abs(pixels[:h, :w] - own).max() > 1e-4)
        mirror = slice(None, None, -1 if flip else 1)
        if np.abs(pixels[:h, :w] - own[:, mirror]).max() > 1e-4:
            return "pixels are neither the image nor its mirror image"
        if pixels[h:].any() or pixels[:, w:].any():
            return "the padding is not zero"
        n = len(record.boxes)
        boxes = record.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [w, 0, w, 0] if flip else record.boxes
        if truth.counts[i] != n or np.abs(truth.boxes[i, :n] - boxes).max(initial=0) > 1e-3:
            return "boxes are not those of the image"
        if (truth.labels[i, :n] != record.labels).any() or (truth.labels[i, n:] != -1).any():
            return "labels are not those of the image, or not -1 in the padding"
        masks = truth.masks[i]
        if (masks[:n, :h, :w] != record.drawn_masks[:, :, mirror]).any() or masks.sum() != record.drawn_masks.sum():
            return "masks are not those of the image"
        crowds = record.crowd_boxes
        crowds = crowds[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [w, 0, w, 0] if flip else crowds
        self._ids.append(image_id)
        self._flips.append(flip)
        return self._targets(batch.rpn_targets, i, (h, w), boxes, crowds)

    def _targets(self, targets, i, hw, boxes, crowds):
        """Anchors by their overlaps: which labels are allowed, how many are kept, and where the deltas lead."""
        config = self._config
        anchors, labels, deltas, groups = [], [], [], []
        for k, (stride, target) in enumerate(zip(config.strides, targets)):
            h, w = (-(-n // stride) for n in hw)
            if (target.labels[i][h:] != -1).any() or (target.labels[i][:, w:] != -1).any():
                return f"anchors of stride {stride} are sampled outside the image"
            y, x, a = np.meshgrid(np.arange(h), np.arange(w), np.arange(len(config.anchor_ratios)), indexing="ij")
            side, ratio = config.anchor_scale * stride, np.array(config.anchor_ratios)[a]
            half = np.stack([side / np.sqrt(ratio), side * np.sqrt(ratio)], axis=-1) / 2
            centre = np.stack([x + 0.5, y + 0.5], axis=-1) * stride
            anchors.append(np.concatenate([centre - half, centre + half], axis=-1).reshape(-1, 4))
            labels.append(target.labels[i, :h, :w].ravel())
            deltas.append(target.deltas[i, :h, :w].reshape(-1, 4))
            groups.append((((k * len(config.anchor_ratios) + a) * 2 + (2 * y >= h)) * 2 + (2 * x >= w)).ravel())
        anchors, labels, deltas, groups = map(np.concatenate, (anchors, labels, deltas, groups))
        overlaps = np.pad(iou(anchors, boxes), [(0, 0), (0, 1)])
        best, top = overlaps.max(1), overlaps.max(0)
        nearly = overlaps >= np.maximum(top - ROUNDING, 1e-9)  # of an object, the anchors that overlap it most
        may = (best >= config.rpn_fg_iou - ROUNDING) | nearly.any(1)
        alone = nearly & (nearly.sum(0) == 1) & (top > ROUNDING)  # which of equals counts as most, rounding decides
        must = (best >= config.rpn_fg_iou + ROUNDING) | alone.any(1)
        far = [best < config.rpn_bg_iou + d for d in (ROUNDING, -ROUNDING)]
        if len(crowds):
            size = np.minimum(anchors[:, None, 2:], crowds[:, 2:]) - np.maximum(anchors[:, None, :2], crowds[:, :2])
            part = np.maximum(size, 0).prod(-1).max(1) / (anchors[:, 2:] - anchors[:, :2]).prod(1)
            far = [f & (part < IN_CROWD + d) for f, d in zip(far, (ROUNDING, -ROUNDING))]
        fg, bg = labels == 1, labels == 0
        if not may[fg].all():
            return "an anchor is labelled an object that overlaps none enough"
        if not far[0][bg].all():
            return "an anchor is labelled background that overlaps an object or a crowd"
        if not np.isin(labels, (-1, 0, 1)).all():
            return "a label is none of -1, 0 and 1"
        most = int(config.rpn_samples * config.rpn_fg_fraction)
        if not min(most, must.sum()) <= fg.sum() <= min(most, may.sum()):
            return f"{fg.sum()} anchors are labelled objects, of {may.sum()} that could be"
        room = config.rpn_samples - fg.sum()
        if not min(room, (far[1] & ~may).sum()) <= bg.sum() <= min(room, far[0].sum()):
            return f"{bg.sum()} anchors are labelled background instead of {room}"
        size = anchors[fg, 2:] - anchors[fg, :2]
        middle = (anchors[fg, :2] + anchors[fg, 2:]) / 2 + deltas[fg, :2] * size
        size = size * np.exp(deltas[fg, 2:])
        decoded = np.concatenate([middle - size / 2, middle + size / 2], axis=1)
        nearest = overlaps[fg] >= overlaps[fg].max(1, keepdims=True, initial=0) - ROUNDING
        off = np.abs(decoded[:, None] - np.concatenate([boxes, np.full((1, 4), np.inf)])).max(-1)
        if fg.any() and np.where(nearest, off, np.inf).min(1).max() > 1e-2:
            return "deltas do not lead from an anchor to the object it overlaps most"
        for label, allowed in ((1, must), (0, far[1] & ~may)):
            counts = [
                np.bincount(groups[m], minlength=self._groups).astype(float)
                for m in (allowed, allowed & (labels == label))
            ]
            self._anchors[label].add(*counts)
        return ""

    def distribution(self, form, case):
        """The Checks of what was drawn over whole epochs."""
        epochs = np.array(self._ids[: len(self._ids) // self._n * self._n]).reshape(-1, self._n)
        once = all(len(set(epoch)) == self._n for epoch in epochs)
        n = len(self._flips)
        rate = 0.5 if self._config.flip else 0.0
        flips = binomial_two_sided(sum(self._flips), n) if rate else float(not any(self._flips))
        returns = int((epochs[1:] == epochs[:-1]).sum())
        steps = self._n // case.batch
        batches = [set(self._batches[i : i + steps]) for i in range(0, len(self._batches), steps)]
        again = sum(len(a & b) for a, b in zip(batches, batches[1:]))
        later = len(epochs) - 1
        # A random order has one image in its old place on average, and n / 2 pairs of 1 / (n - 1) chance each to meet
        # again; both counts are Poisson but for a difference that vanishes with n.
        p_values = {
            f"{sum(self._flips)} of {n} images are flipped": flips,
            f"{returns} times in {later} epochs an image has its place of the epoch before": poisson_tail(
                returns, later
            ),
            f"{again} batches in {later} epochs are as in the epoch before": poisson_tail(
                again, later * steps / (self._n - 1)
            ),
            "how often objects' anchors are drawn": self._anchors[1].p_value(),
            "how often background anchors are drawn": self._anchors[0].p_value(),
        }
        name = f"{form}: every image once an epoch"
        found = [Check(name, case.name, float(not once), worst=f"{name}, case '{case.name}'")]
        for name, p in p_values.items():
            found.append(Check(f"{form}: {name}", case.name, p_value=p, worst=f"{form}: {name}"))
        return found
