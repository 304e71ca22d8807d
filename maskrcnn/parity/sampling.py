"""SAMPLE_TARGETS: what is drawn must be allowed, as many as meant, and every candidate equally often."""

import numpy as np

from maskrcnn.parity.cases import CASES, Case, Image, drawn_until, generator, stack
from maskrcnn.parity.checks import Check
from maskrcnn.parity.graphs import FORMS, Failure, PieceGraph
from maskrcnn.parity.references import candidates, targets_are_clear
from maskrcnn.parity.statistics import Inclusions

DRAWS = 400
# Room for a choice in both groups, with chances of being drawn that are neither near 0 nor near 1.
DISTRIBUTION = Case("distribution", ((5, 16), (3, 14), (2, 12)))
NOTE = (
    f"in {DRAWS} draws a form, chances that are off by less than about a fifth are not seen, nor is whether boxes are "
    "drawn independently of one another; what that does, only training shows"
)


class Sampling:
    """Tries out SAMPLE_TARGETS; its graphs serve any number of seeds."""

    note = NOTE

    def __init__(self, flag, nobatch, batched, config):
        self._flag, self._config = flag, config
        self._forms = dict(zip(FORMS, (nobatch, batched)))
        self._graphs = {}

    def cases(self):
        # Huge objects, cut off at the image's border, are equal; and which of equals a box is matched to is open.
        return [*(c for c in CASES if not c.only and c.boxes != "extreme"), DISTRIBUTION]

    def same_computation(self):
        return all(graph.same_computation() for graph in self._graphs.values())

    def checks(self, seed, cases):
        return [check for case in cases for check in self._case(seed, case)]

    def _case(self, seed, case):
        config = self._config
        rng = generator(seed, self._flag, case.source or case.name)
        images = [self._image(rng, case, *numbers) for numbers in case.images]
        images = [images[i] for i in case.order or range(len(images))]
        hw = np.stack([size for size, _, _ in images])
        proposals, truths = ([image[i] for image in images] for i in (1, 2))
        args = (stack(proposals, hw, config, case.extra), stack(truths, hw, config, case.extra))
        graph = self._graph(case.batch, args)
        pools = [candidates(p, t, config) for p, t in zip(proposals, truths)]
        draws = [rng.integers(0, 2**31, 2).astype(np.int32) for _ in range(DRAWS if case is DISTRIBUTION else 1)]
        wrong = {form: [] for form in FORMS}
        frequencies = {(form, kind): Inclusions(sum(map(_size, pools))) for form in FORMS for kind in (True, False)}
        for k, draw in enumerate(draws):
            results = graph.run(hw, args, (seed, 1), draw, only_values=k > 0)
            for form in FORMS:
                result = results[form, 0]
                if isinstance(result, Failure):
                    wrong[form].append(result.message)
                    continue
                values = result if k else result.values
                if k == 0 and any(g.any() for g in result.gradients):
                    wrong[form].append("a gradient flows through the boxes drawn")
                problem, places = _judge(values, pools, truths, config)
                wrong[form] += [problem] if problem else []
                if case is DISTRIBUTION and places is not None:
                    _count(places, pools, frequencies, form)
        what = f"case '{case.name}'"
        found = [
            Check(f"{form}: what is drawn, {what}", case.name, float(bool(w)), worst=f"{w[0] if w else form}, {what}")
            for form, w in wrong.items()
        ]
        if case is DISTRIBUTION:
            for (form, kind), frequency in frequencies.items():
                name = f"{form}: how often each {'foreground' if kind else 'background'} candidate is drawn"
                found.append(Check(name, case.name, p_value=frequency.p_value(), worst=name))
        return found

    def _image(self, rng, case, objects, number):
        def draw():
            image = Image(rng, self._config, objects, number, case.boxes)
            truth, proposals = image.ground_truth(), image.rois()
            # Half of the proposals lie about objects, as the RPN's do.
            near = rng.permutation(number)[: number // 2] if objects else []
            for i in near:
                box = truth.boxes[rng.integers(objects)]
                size = np.tile(box[2:] - box[:2], 2)
                proposals.boxes[i] = box + rng.normal(size=4) * 0.12 * size
            return image.hw, proposals, truth

        return drawn_until(lambda found: targets_are_clear(*found, config=self._config), draw)

    def _graph(self, b, args):
        if b not in self._graphs:
            self._graphs[b] = PieceGraph(self._forms, ({},), self._config, args, b, seeded=True)
        return self._graphs[b]


def _size(pool):
    return len(pool[0])


def _judge(values, pools, truths, config):
    """(what is wrong with one draw, or "", and for each image the candidates' places that were drawn)."""
    if len(values) != 4:
        return f"{len(values)} outputs instead of boxes, counts, labels and gt_index", None
    boxes, counts, labels, index = values
    if boxes.ndim != 2 or len(boxes) != sum(counts) or len(counts) != len(pools):
        return f"{len(boxes)} RoIs for counts {counts}", None
    if not np.array_equal(boxes[:, 0], np.repeat(np.arange(len(pools)), counts)):
        return "RoIs are not sorted by their image", None
    ends = np.cumsum(counts)[:-1]
    drawn = []
    for i, (own, label, matched) in enumerate(zip(*(np.split(v, ends) for v in (boxes[:, 1:], labels, index)))):
        pool, is_fg, best = pools[i]
        same = np.abs(own[:, None] - pool).max(-1, initial=0) < 1e-3
        if not same.any(1).all():
            return f"image {i}: a box that is no candidate", None
        place = same.argmax(1) if len(own) else np.zeros(0, int)
        if len(set(place)) < len(place):
            return f"image {i}: a box is drawn twice", None
        n_fg = min(is_fg.sum(), int(config.roi_samples * config.roi_fg_fraction))
        n_bg = min((~is_fg).sum(), config.roi_samples - n_fg)
        fg = is_fg[place]
        if (fg.sum(), (~fg).sum()) != (n_fg, n_bg):
            return f"image {i}: {fg.sum()} foreground and {(~fg).sum()} background instead of {n_fg} and {n_bg}", None
        if not fg[:n_fg].all():
            return f"image {i}: foreground does not come first", None
        if not np.array_equal(matched, np.where(fg, best[place], -1)):
            return f"image {i}: gt_index is not the object of most overlap, or not -1 for background", None
        wanted = np.append(truths[i].labels, 0)[np.where(fg, best[place], -1)]
        if not np.array_equal(label, wanted):
            return f"image {i}: labels are not those of the objects, or not 0 for background", None
        drawn.append(place)
    return "", drawn


def _count(places, pools, frequencies, form):
    """Adds one draw of all images; every candidate is a group of its own."""
    total = sum(map(_size, pools))
    start = 0
    for place, pool in zip(places, pools):
        for kind in (True, False):
            members, drawn = np.zeros(total), np.zeros(total)
            own = np.arange(start, start + _size(pool))
            members[own] = pool[1] == kind
            drawn[start + place] = 1
            frequencies[form, kind].add(members, drawn * members)
        start += _size(pool)
