"""The implementations of DATA_PIPELINE: the same images, boxes, masks and flips; labels of the same distribution."""

import dataclasses

import numpy as np
import pytest

from maskrcnn import anchors
from maskrcnn.components import data_pipeline
from maskrcnn.config import preset
from maskrcnn.data import coco, shapes
from maskrcnn.inputs import pack, specs, unpack

FORMS = [data_pipeline.nobatch, data_pipeline.batched]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return coco.load(shapes.ensure(tmp_path_factory.mktemp("data"), 14, 6, 0), "train")


def steps(form, dataset, config, n, seed=0, first_step=0):
    stream = iter(form(dataset, config, seed, first_step))
    return [unpack(next(stream)) for _ in range(n)]


def config(**changes):
    return dataclasses.replace(preset("tiny"), **changes)


@pytest.mark.parametrize("b", [1, 3])
def test_forms_yield_the_same_images_and_objects(dataset, b):
    setting = config(batch=b)
    for one, other in zip(*(steps(f, dataset, setting, 6) for f in FORMS)):
        for a, c in zip(
            [*one.images, *one.ground_truth, one.image_ids], [*other.images, *other.ground_truth, other.image_ids]
        ):
            assert a.dtype == c.dtype
            np.testing.assert_allclose(a, c, atol=1e-4)
        for spec, array in zip(specs(setting), pack(other)):
            assert array.dtype == spec.dtype, spec.name
            assert all(n in (None, m) for n, m in zip(spec.shape, array.shape)), spec.name


@pytest.mark.parametrize("form", FORMS)
def test_every_image_once_an_epoch_in_a_new_order(dataset, form):
    n = len(dataset.records)
    ids = np.concatenate([s.image_ids for s in steps(form, dataset, config(batch=2), n)])  # two epochs
    first, second = ids[:n], ids[n:]
    assert sorted(first) == sorted(second) == sorted(r.image_id for r in dataset.records)
    assert list(first) != list(second)


@pytest.mark.parametrize("form", FORMS)
def test_a_resumed_stream_goes_on_where_it_was(dataset, form):
    setting = config(batch=2)
    whole = steps(form, dataset, setting, 9)
    rest = steps(form, dataset, setting, 4, first_step=5)
    for a, b in zip(whole[5:], rest):
        assert all((x == y).all() for x, y in zip(pack(a), pack(b)))
    other = steps(form, dataset, setting, 1, seed=1)[0]
    assert not np.array_equal(other.image_ids, whole[0].image_ids)


@pytest.mark.parametrize("form", FORMS)
def test_batches_of_one_shape_still_visit_every_image_once_an_epoch(dataset, form):
    setting = config(batch=3, group_aspect=True)
    portraits = {r.image_id for r in dataset.records if r.height > r.width}
    groups = [portraits, {r.image_id for r in dataset.records} - portraits]
    assert min(map(len, groups)) > 0
    whole = steps(form, dataset, setting, 30)  # more than six epochs
    drawn = [[], []]
    for step in whole:
        ids = set(step.image_ids.tolist())
        assert ids <= groups[0] or ids <= groups[1]
        drawn[not ids <= groups[0]] += step.image_ids.tolist()
    for ids, group in zip(drawn, groups):
        epochs = [ids[i : i + len(group)] for i in range(0, len(ids), len(group))]
        assert all(sorted(epoch) == sorted(group) for epoch in epochs[:-1])
        assert len(set(map(tuple, epochs))) > 1
    # Neither shape falls behind: each has made all batches of the images that came, but for one that is not full.
    for done in range(1, 31):
        of_portraits = sum(set(s.image_ids.tolist()) <= portraits for s in whole[:done])
        assert abs(of_portraits - done * len(portraits) / len(dataset.records)) < len(dataset.records) / 3
    later = steps(form, dataset, setting, 3, first_step=27)
    assert [list(s.image_ids) for s in later] == [list(s.image_ids) for s in whole[27:]]


@pytest.mark.parametrize("form", FORMS)
def test_several_workers_yield_the_same_batches_in_the_same_order(dataset, form):
    for one, three in zip(*(steps(form, dataset, config(batch=2, workers=w), 8, first_step=2) for w in (1, 3))):
        assert all((a == b).all() for a, b in zip(pack(one), pack(three)))


@pytest.mark.parametrize("form", FORMS)
def test_half_of_the_images_are_flipped(dataset, form):
    setting = config(batch=2)
    records = {r.image_id: r for r in dataset.records}
    flipped = []
    for step in steps(form, dataset, setting, 150):
        for i, image_id in enumerate(step.image_ids):
            record = records[image_id]
            h, w = step.images.hw[i]
            straight = np.allclose(step.ground_truth.boxes[i, : len(record.boxes)], record.boxes, atol=1e-3)
            mirrored = record.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [w, 0, w, 0]
            if not straight:
                np.testing.assert_allclose(step.ground_truth.boxes[i, : len(record.boxes)], mirrored, atol=1e-3)
                masks = step.ground_truth.masks[i, : len(record.boxes), :h, :w]
                assert (masks == record.masks()[:, :, ::-1]).all()
            flipped.append(not straight)
    assert 0.4 < np.mean(flipped) < 0.6  # 300 draws: four standard deviations


def labels(step, config, i):
    """All anchors of image i in its true extent: boxes [N,4], labels [N], deltas [N,4]."""
    found = []
    for stride, target in zip(config.strides, step.rpn_targets):
        h, w = anchors.extents(step.images.hw[i], stride)
        assert (np.delete(target.labels[i], np.s_[:h], axis=0) == -1).all()
        assert (target.labels[i][:h, w:] == -1).all()
        level = anchors.level_anchors(config, stride, h, w)
        found.append((level.reshape(-1, 4), target.labels[i, :h, :w].ravel(), target.deltas[i, :h, :w].reshape(-1, 4)))
    return [np.concatenate(c) for c in zip(*found)]


@pytest.mark.parametrize("form", FORMS)
def test_anchor_labels_follow_the_overlaps(dataset, form):
    setting = config(batch=3)
    for step in steps(form, dataset, setting, 5):
        for i in range(3):
            boxes, label, deltas = labels(step, setting, i)
            own = step.ground_truth.boxes[i, : step.ground_truth.counts[i]]
            inter = anchors.overlap(boxes, own)
            iou = inter / (anchors.area(boxes)[:, None] + anchors.area(own) - inter)
            positive = (iou.max(1) >= setting.rpn_fg_iou) | ((iou == iou.max(0)) & (iou > 0)).any(1)
            assert positive[label == 1].all()
            assert (iou.max(1)[label == 0] < setting.rpn_bg_iou).all()
            most_fg = int(setting.rpn_samples * setting.rpn_fg_fraction)
            assert (label == 1).sum() == min(most_fg, positive.sum())
            assert (label >= 0).sum() == setting.rpn_samples
            fg = label == 1
            size = boxes[fg, 2:] - boxes[fg, :2]
            centre = (boxes[fg, :2] + boxes[fg, 2:]) / 2 + deltas[fg, :2] * size
            size = size * np.exp(deltas[fg, 2:])
            decoded = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
            np.testing.assert_allclose(decoded, own[iou[fg].argmax(1)], atol=1e-2)
            assert (deltas[~fg] == 0).all()


def test_background_anchors_are_drawn_equally_often(dataset):
    setting = config(batch=1, flip=False, rpn_samples=128)
    frequency = []
    for form in FORMS:
        seen = 0
        for seed in range(200):
            stream = form(dataclasses.replace(dataset, records=dataset.records[:1]), setting, seed, 0)
            _, label, _ = labels(unpack(next(iter(stream))), setting, 0)
            seen = seen + (label == 0).astype(int)
        drawn = seen[seen > 0]
        p = seen.sum() / 200 / len(drawn)
        # Pearson's statistic of the counts: about one a degree of freedom, with deviation sqrt(2 / degrees).
        statistic = ((drawn - 200 * p) ** 2 / (200 * p * (1 - p))).mean()
        assert abs(statistic - 1) < 5 * np.sqrt(2 / len(drawn))
        frequency.append(p)
    assert frequency[0] == pytest.approx(frequency[1], rel=0.1)


def test_anchors_in_a_crowd_are_left_out(dataset):
    whole = np.array([[-500, -500, 500, 500]], np.float32)  # no anchor reaches out of it
    record = dataclasses.replace(dataset.records[0], crowd_boxes=whole)
    crowded = dataclasses.replace(dataset, records=(record,))
    for form in FORMS:
        step = unpack(next(iter(form(crowded, config(batch=1), 0, 0))))
        assert not any((t.labels == 0).any() for t in step.rpn_targets)
        assert any((t.labels == 1).any() for t in step.rpn_targets)


def test_faults(dataset):
    setting = config(batch=2)
    n = len(dataset.records)
    repeated = steps(data_pipeline.fixed_batches, dataset, setting, n)
    assert [list(s.image_ids) for s in repeated[: n // 2]] == [list(s.image_ids) for s in repeated[n // 2 :]]
    records = {r.image_id: r for r in dataset.records}
    for step in steps(data_pipeline.no_flip, dataset, setting, 20):
        for i, image_id in enumerate(step.image_ids):
            own = records[image_id].boxes
            np.testing.assert_allclose(step.ground_truth.boxes[i, : len(own)], own, atol=1e-4)
