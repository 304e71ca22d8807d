"""The nine pieces that draw nothing: both implementations against numpy in float64, and their gradients against one
another.
"""

from typing import Callable, NamedTuple, Optional

import numpy as np

from maskrcnn.parity.graphs import FORMS, Failure, PieceGraph

# isort: split
import tensorflow as tf

from maskrcnn.parity import references
from maskrcnn.parity.cases import CASES, Image, drawn_until, generator, stack
from maskrcnn.parity.checks import Check, relative_error
from maskrcnn.structures import BoxOutputs

TRAINING_AND_EVALUATION = ({"training": True}, {"training": False})
# The inputs behind which there is no weight: boxes drawn and chosen, and what the data say.
UNTRAINED = ("rois", "ground truth", "targets")
UNUSED_GRADIENTS = "gradients that reach no weight"
STEP = 1e-6  # of the differences; in float64 their rounding error is then about 1e-10 of the value


class Spec(NamedTuple):
    """How one piece is tried out. `inputs` and `outputs` name its arguments and results, for people."""

    inputs: tuple
    outputs: tuple
    arguments: Callable  # Image -> the arguments for that image
    reference: Callable  # hw, *arguments, config -> the outputs for that image
    paths: tuple = ({},)  # the keywords of each use
    clear: Optional[Callable] = None  # whether rounding decides nothing discrete in these arguments
    differentiable: bool = True


def _losses(image):
    truth = image.ground_truth()
    rois = image.labelled_rois(truth, foreground=False)
    k = image.config.classes
    n = len(rois.boxes)
    return BoxOutputs(image.rows(n, k + 1), image.rows(n, k, 4)), rois, truth


def _mask_rois(image):
    truth = image.ground_truth()
    return truth, image.labelled_rois(truth, foreground=True)


def _mask_losses(image):
    _, rois = _mask_rois(image)
    n, m = len(rois.boxes), 2 * image.config.mask_crop
    return image.rows(n, m, m, image.config.classes), image.mask_targets(n), rois


def _roi_align(size, reference):
    return Spec(
        ("features", "rois"),
        ("crops",),
        lambda image: (image.features(), image.rois()),
        reference,
        TRAINING_AND_EVALUATION,
        lambda hw, features, rois, *, config: references.samples_are_clear(
            features, rois, getattr(config, size), config
        ),
    )


SPECS = {
    "RPN_HEAD": Spec(("features",), ("rpn",), lambda image: (image.features(),), references.rpn_head),
    "RPN_LOSS": Spec(
        ("rpn", "targets"),
        ("objectness loss", "box loss"),
        lambda image: (image.rpn(), image.rpn_targets()),
        references.rpn_loss,
    ),
    "GENERATE_PROPOSALS": Spec(
        ("rpn",),
        ("proposals",),
        lambda image: (image.rpn(),),
        references.generate_proposals,
        TRAINING_AND_EVALUATION,
        references.proposals_are_clear,
        differentiable=False,
    ),
    "ROI_ALIGN_BOX": _roi_align("box_crop", references.roi_align_box),
    "FAST_RCNN_OUTPUTS": Spec(
        ("hidden", "rois"),
        ("outputs",),
        lambda image: (image.rows(image.proposals, 10), image.rois()),
        references.fast_rcnn_outputs,
    ),
    "FAST_RCNN_LOSSES": Spec(
        ("outputs", "rois", "ground truth"),
        ("classification loss", "box loss"),
        _losses,
        references.fast_rcnn_losses,
    ),
    "ROI_ALIGN_MASK": _roi_align("mask_crop", references.roi_align_mask),
    "CROP_AND_RESIZE_MASK": Spec(
        ("ground truth", "rois"),
        ("targets",),
        _mask_rois,
        references.crop_and_resize_mask,
        differentiable=False,
    ),
    "MASK_LOSS": Spec(("logits", "targets", "rois"), ("loss",), _mask_losses, references.mask_loss),
}


class Deterministic:
    """Tries out one piece; its graphs serve any number of seeds."""

    def __init__(self, flag, nobatch, batched, config):
        self._flag, self._spec, self._config = flag, SPECS[flag], config
        self._forms = dict(zip(FORMS, (nobatch, batched)))
        self._graphs = {}

    def cases(self):
        return [c for c in CASES if not c.only or self._flag in c.only]

    def same_computation(self):
        """Whether batched and nobatch are one computation, at every batch size tried so far."""
        return all(graph.same_computation() for graph in self._graphs.values())

    def checks(self, seed, cases):
        """The Checks of some of `cases()`."""
        found, drawn = [], {}
        for case in cases:
            source = case.source or case.name
            if source not in drawn:
                drawn[source] = self._draw(seed, case)
            found += self._case(seed, case, drawn[source])
        return found

    def _draw(self, seed, case):
        """The images of a case: [(hw, arguments)]."""
        rng = generator(seed, self._flag, case.source or case.name)
        return [self._image(rng, case, *numbers) for numbers in case.images]

    def _image(self, rng, case, objects, proposals):
        def draw():
            image = Image(rng, self._config, objects, proposals, case.boxes)
            return image.hw, self._spec.arguments(image)

        def clear(found):
            hw, arguments = found
            return self._spec.clear is None or self._spec.clear(hw, *arguments, config=self._config)

        return drawn_until(clear, draw)

    def _case(self, seed, case, images):
        images = [images[i] for i in case.order or range(len(images))]
        hw = np.stack([size for size, _ in images])
        args = self._stacked(images, case.extra)
        graph = self._graph(case.batch, args)
        weights = _weights(seed, graph.weights())
        graph.load(weights)
        results = graph.run(hw, args, (seed, 1))
        expected = _leaves(self._expected(case, images, weights), self._spec.outputs)
        inside = tf.nest.map_structure(lambda a: None if a is None else a != 0, self._ones(images, case.extra))
        found = []
        for i, path in enumerate(self._spec.paths):
            what = f"case '{case.name}'" + _use(path)
            reference, own = results["nobatch", i], results["batched", i]
            name = "by hand" if case.boxes == "ramp" else "numpy"
            found.append(_compare(f"nobatch against {name}, {what}", case, reference.values, expected, "value of"))
            if isinstance(own, Failure):
                found.append(Check(f"batched, {what}", case.name, 1.0, worst=f"{own.message}, {what}"))
                continue
            found.append(_compare(f"batched against {name}, {what}", case, own.values, expected, "value of"))
            theirs, mine = (
                _named_gradients(args, self._spec.inputs, result.gradients, inside, weights)
                for result in (reference, own)
            )
            for name, unused in (("gradients", False), (UNUSED_GRADIENTS, True)):
                pairs = [(a, b) for (leaf, a), b in zip(mine, theirs) if leaf.startswith(UNTRAINED) == unused]
                if pairs:
                    values, expected_gradients = zip(*pairs)
                    text = "gradient with respect to"
                    found.append(_compare(f"{name}, {what}", case, values, expected_gradients, text))
        if case.name == "unequal" and self._spec.differentiable:
            found += self._differences(seed, case, images, weights, results["nobatch", 0], args)
        if case.boxes == "soft targets":
            found = [c._replace(beyond=True) for c in found]
        return found

    def _graph(self, b, args):
        if b not in self._graphs:
            self._graphs[b] = PieceGraph(self._forms, self._spec.paths, self._config, args, b)
        return self._graphs[b]

    def _stacked(self, images, extra=0):
        hw = np.stack([size for size, _ in images])
        return tuple(stack(column, hw, self._config, extra) for column in zip(*(args for _, args in images)))

    def _ones(self, images, extra):
        ones = [(hw, _mapped(np.ones_like, args)) for hw, args in images]
        return self._stacked(ones, extra)

    def _expected(self, case, images, weights):
        """What the piece should give for the batch, in float64."""
        config, more = self._config, {"weights": weights} if weights else {}
        found = []
        for hw, args in images:
            if case.boxes == "ramp":
                size = config.box_crop if self._flag == "ROI_ALIGN_BOX" else config.mask_crop
                found.append(references.ramp_crops(size, args[1], config))
            else:
                found.append(self._spec.reference(hw, *args, config=config, **more))
        return stack(found, np.stack([hw for hw, _ in images]), config, case.extra)

    def _differences(self, seed, case, images, weights, result, args):
        """The per-image implementation's gradients along a random direction, against differences of the numpy
        reference.
        """
        rng = generator(seed, self._flag, "differences")

        def total(images, weights):
            outputs = [np.asarray(o) for _, o in _leaves(self._expected(case, images, weights), self._spec.outputs)]
            outputs = [o for o in outputs if o.dtype.kind == "f"]
            return sum((o * c).sum() for o, c in zip(outputs, result.cotangents))

        def check(name, slope, along):
            scale = max(np.sqrt(sum((a**2).sum() for a in along)), abs(slope))
            error = abs(slope - sum(a.sum() for a in along)) / scale if scale else 0.0
            name = f"nobatch's gradient with respect to {name} against differences"
            return Check(f"{name}, case '{case.name}'", case.name, float(error), worst=f"{name}, case '{case.name}'")

        gradients = [g.astype(float) for g in result.gradients]
        found = []
        for k, name in enumerate(self._spec.inputs):

            def direction(leaf, own):
                is_float = own and leaf.dtype.kind == "f"
                return rng.normal(size=leaf.shape) if is_float else np.zeros_like(leaf)

            step = [
                tuple(_mapped(lambda leaf, own=i == k: direction(leaf, own), a) for i, a in enumerate(own))
                for _, own in images
            ]
            moved = []
            for sign in (STEP, -STEP):
                moved.append([(hw, _sum(own, d, sign)) for (hw, own), d in zip(images, step)])
            slope = (total(moved[0], weights) - total(moved[1], weights)) / (2 * STEP)
            stacked = self._stacked([(hw, d) for (hw, _), d in zip(images, step)])
            floats = [d for d, a in zip(tf.nest.flatten(stacked), tf.nest.flatten(args)) if _is_float(a)]
            along = [g * d for g, d in zip(gradients, floats)]
            if any(a.any() for a in along) or slope:
                found.append(check(name, slope, along))
        for name, g in zip(weights, gradients[len(gradients) - len(weights) :]):
            d = rng.normal(size=g.shape)
            moved = [{**weights, name: weights[name] + sign * d} for sign in (STEP, -STEP)]
            slope = (total(images, moved[0]) - total(images, moved[1])) / (2 * STEP)
            found.append(check(name, slope, [g * d]))
        return found


def _weights(seed, shapes):
    """Random numbers of few bits: with inputs of few bits, every sum up to the ReLU is exact, whatever its order; and
    odd multiples of 2^-12 keep all of them off its kink."""
    found = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng([seed, *name.encode()])
        drawn = rng.normal(size=shape)
        few_bits = np.round(25 * drawn) / 2**8 if len(shape) > 1 else (2 * np.round(200 * drawn) + 1) / 2**12
        found[name] = few_bits.astype(np.float32)
    return found


def _use(path):
    return {True: ", training", False: ", evaluation"}.get(path.get("training"), "")


def _is_float(array):
    return array is not None and array.dtype.kind == "f"


def _mapped(function, structure):
    return tf.nest.map_structure(lambda a: None if a is None else function(np.asarray(a)), structure)


def _sum(args, direction, factor):
    def moved(a, d):
        return a if not _is_float(a) else a.astype(float) + factor * d

    return tf.nest.map_structure(moved, args, direction)


def _leaves(structure, names):
    """[(name, array)] of outputs or arguments, where `names` are those of the items of `structure`."""
    items = (structure,) if len(names) == 1 else structure
    return [leaf for name, item in zip(names, items) for leaf in _flat(name, item)]


def _flat(name, item):
    """In the order of tf.nest.flatten, without None."""
    if not isinstance(item, tuple):
        return [] if item is None else [(name, item)]
    fields = getattr(item, "_fields", [f"level {i}" for i in range(len(item))])
    return [leaf for field, part in zip(fields, item) for leaf in _flat(f"{name} {field}", part)]


def _named_gradients(args, names, gradients, inside, weights):
    """[(name, gradient)], zero outside the images' true extents, where nothing is promised."""
    if len(names) == 1:
        args, inside = args[0], inside[0]
    floats = [name for name, a in _leaves(args, names) if _is_float(a)]
    real = [m for (_, m), (_, a) in zip(_leaves(inside, names), _leaves(args, names)) if _is_float(a)]
    cut = [g * m for g, m in zip(gradients, real)]
    return list(zip([*floats, *weights], [*cut, *gradients[len(cut) :]]))


def _compare(name, case, values, expected, what):
    """The Check of a list of arrays against named ones."""
    where = name[name.index("case") :]
    if len(values) != len(expected):
        text = f"{len(values)} outputs instead of {len(expected)}, {where}"
        return Check(name, case.name, 1.0, worst=text)
    worst, error = "", -1.0
    for value, (leaf, wanted) in zip(values, expected):
        e = relative_error(value, wanted)
        if e > error:
            shapes = "" if value.shape == np.shape(wanted) else f" (shape {value.shape}, not {np.shape(wanted)})"
            worst, error = f"{what} {leaf}{shapes}, {where}", e
    return Check(name, case.name, max(error, 0.0), worst=worst)
