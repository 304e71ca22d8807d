"""Parity: the standard pieces agree, every fault is caught, a placebo is recognised; and its statistics."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from maskrcnn.__main__ import cli
from maskrcnn.config import preset
from maskrcnn.examples import PAIR
from maskrcnn.faults import FAULTS
from maskrcnn.parity import cases, references, statistics
from maskrcnn.parity.checks import relative_error
from maskrcnn.parity.engine import run, trial
from maskrcnn.pieces import PIECES
from maskrcnn.settings import parse
from maskrcnn.structures import GroundTruth, Rois

DRAWN = ("DATA_PIPELINE", "SAMPLE_TARGETS")


def parity(*flags, plant=(), case=None, seed=1):
    report = run(parse(",".join(flags), seed, plant=plant), case)
    return {piece["flag"]: piece for piece in report["pieces"]}


def differing(piece):
    return [c["name"] for c in piece["checks"] if not c["agrees"]]


@pytest.fixture(scope="module")
def standard():
    return parity(seed=0)


@pytest.mark.parametrize("flag", PIECES)
def test_the_two_forms_of_a_standard_piece_agree(standard, flag):
    piece = standard[flag]
    assert piece["agrees"], differing(piece)
    assert not piece["same_computation"]
    names = " ".join(c["name"] for c in piece["checks"])
    if flag in DRAWN:
        assert 1e-6 < piece["p_value"] <= 1
        assert "distribution" in names or "how often" in names
    else:
        assert 0 <= piece["error"] < 1e-5
        for case in ("one image", "one empty image", "some empty", "all empty", "border", "permuted", "more padding"):
            assert f"batched against numpy, case '{case}'" in names
        assert ("ramp" in names) == (", evaluation" in names and "ROI_ALIGN" in flag)


# The one case that is enough, so that tests stay quick.
SHOWS = {"RPN_LOSS": "unequal", "DATA_PIPELINE": "distribution", "SAMPLE_TARGETS": "distribution"}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda f: f.name)
def test_every_fault_is_caught(fault):
    plant = f"{fault.flag}={fault.name}"
    piece = parity(fault.flag, plant=[plant], case=SHOWS.get(fault.flag, "unequal"))[fault.flag]
    assert not piece["agrees"]
    assert not any(name.startswith("nobatch") for name in differing(piece))
    assert f"--plant {plant}" in piece["reproduce"]
    if fault.name == "half_pixel_train":
        assert differing(piece) == [n for n in differing(piece) if n.endswith("training")]
        assert piece["worst"].endswith("training")
    if fault.name == "half_pixel":
        assert any(name.endswith("evaluation") for name in differing(piece))


def test_faults_of_batches_are_fine_for_one_image():
    for plant in ("RPN_LOSS=sum_over_batch", "FAST_RCNN_LOSSES=fg_index_mixup"):
        flag = plant.partition("=")[0]
        assert parity(flag, plant=[plant], case="one image")[flag]["agrees"]


def test_the_pair_that_only_training_shows():
    soft, integer = PAIR
    piece = parity("CROP_AND_RESIZE_MASK", plant=[soft], case="unequal")["CROP_AND_RESIZE_MASK"]
    assert not piece["agrees"]
    piece = parity("MASK_LOSS", plant=[integer])["MASK_LOSS"]
    assert differing(piece) and all("reach no weight" in name for name in differing(piece))
    assert "training would not notice" in piece["note"]
    assert "soft targets" in piece["note"] and "only training shows" in piece["note"]


def test_a_placebo_is_the_same_computation():
    plant = ["MASK_LOSS=maskrcnn.components.mask_loss:nobatch", "RPN_LOSS=maskrcnn.components.rpn_loss:nobatch"]
    found = parity("MASK_LOSS", "RPN_LOSS", plant=plant, case="one image")
    assert all(piece["same_computation"] and piece["agrees"] for piece in found.values())
    plant = ["DATA_PIPELINE=maskrcnn.components.data_pipeline:nobatch"]
    assert parity("DATA_PIPELINE", plant=plant, case="unequal")["DATA_PIPELINE"]["same_computation"]


def broken(hw, logits, targets, rois, *, config):
    raise ValueError("no such thing\nas this")


def wrong_shape(hw, logits, targets, rois, *, config):
    import tensorflow as tf

    return tf.reduce_mean(logits, axis=[0, 1, 2])


def fails_when_run(hw, logits, targets, rois, *, config):
    import tensorflow as tf

    return tf.reduce_sum(tf.reshape(logits, [1009, -1]))


@pytest.mark.parametrize(
    ("name", "said"), [("broken", "no such thing"), ("wrong_shape", "shape"), ("fails_when_run", "Invalid")]
)
def test_a_function_that_fails_differs(name, said):
    piece = parity("MASK_LOSS", plant=[f"MASK_LOSS={__name__}:{name}"], case="unequal")["MASK_LOSS"]
    assert not piece["agrees"] and piece["error"] == 1.0
    assert said in piece["worst"] and "\n" not in piece["worst"]


def test_the_command_line(tmp_path):
    def invoke(*args):
        result = CliRunner().invoke(cli, ["parity", "--preset", "tiny", *map(str, args)])
        return result.exit_code, result.stdout, result.stderr.strip()

    file = tmp_path / "found.json"
    code, shown, _ = invoke("--flags", "MASK_LOSS", "--case", "unequal", "--json", file)
    assert code == 0 and "MASK_LOSS" in shown
    report = json.loads(file.read_text())
    assert (report["version"], report["preset"], report["seed"], report["flags"]) == (1, "tiny", 0, ["MASK_LOSS"])
    keys = "flag agrees same_computation error p_value worst reproduce note checks seconds"
    assert set(report["pieces"][0]) == set(keys.split())
    assert list(tmp_path.iterdir()) == [file]

    code, shown, _ = invoke("--flags", "RPN_LOSS", "--case", "unequal", "--plant", "RPN_LOSS=sum_over_batch")
    assert code == 1 and "differs" in shown and "--plant" in shown

    for args, named in (
        (["--flags", "MASK_LOS"], "MASK_LOSS"),
        (["--case", "unequel"], "unequal"),
        (["--flags", "MASK_LOSS", "--case", "ramp"], "MASK_LOSS"),
        (["--plant", "MASK_LOSS=maskrcnn.errors:nothing"], "nothing"),
        (["--preset", "tinny"], "tiny"),
        (["--seed", "-1"], "--seed"),
        (["--json", tmp_path / "no" / "file"], "--json"),
    ):
        code, _, error = invoke(*args)
        assert code == 2, args
        assert error.startswith("error: ") and named in error and "\n" not in error


def test_cases_are_what_they_are_called():
    config = cases.small(preset("shapes"))
    rng = np.random.default_rng(0)

    def boxes(kind):
        found = []
        for _ in range(20):
            image = cases.Image(rng, config, 3, 12, kind)
            h, w = image.hw
            found.append((image.rois().boxes, np.array([w, h, w, h])))
        return np.concatenate([b for b, _ in found]), np.concatenate([np.tile(s, (len(b), 1)) for b, s in found])

    inside, size = boxes("inside")
    assert (inside >= 0).all() and (inside <= size).all()
    border, size = boxes("border")
    assert (border < 0).any() and (border > size).any() and (border == 0).any() and (border == size).any()
    extreme, _ = boxes("extreme")
    side = np.sqrt((extreme[:, 2:] - extreme[:, :2]).prod(1))
    assert side.min() < 1 and side.max() > 500
    assert {references._level(box, config) for box in extreme} == {0, 1, 2, 3}
    ramp, size = boxes("ramp")
    assert (ramp > 0).all() and (ramp < size).all()


def test_stacking_pads_and_orders():
    config = cases.small(preset("shapes"))
    images = [cases.Image(np.random.default_rng(i), config, n, 4, "inside") for i, n in enumerate((2, 0))]
    hw = np.stack([image.hw for image in images])
    truths, rois = [i.ground_truth() for i in images], [i.rois() for i in images]
    truth = cases.stack(truths, hw, config)
    assert isinstance(truth, GroundTruth) and list(truth.counts) == [2, 0]
    assert (truth.labels[1] == -1).all()
    np.testing.assert_array_equal(truth.masks[0, :, : hw[0, 0], : hw[0, 1]], truths[0].masks)
    more = cases.stack(truths, hw, config, cases.MORE_PADDING)
    assert more.masks.shape[2] == truth.masks.shape[2] + cases.MORE_PADDING
    assert more.masks.sum() == truth.masks.sum() and more.boxes.shape[1] == 3
    flat = cases.stack(rois[::-1], hw[::-1], config)
    assert isinstance(flat, Rois) and list(flat.boxes[:, 0]) == [0] * 4 + [1] * 4
    np.testing.assert_array_equal(flat.boxes[:4, 1:], rois[1].boxes)


def test_relative_error():
    assert relative_error(np.array([1.0, 2.0]), np.array([1.0, 2.5])) == pytest.approx(0.2)
    assert relative_error(np.array([1.0, 5.0]), np.array([1.0, np.nan])) == 0
    assert relative_error(np.array([np.inf]), np.array([1.0])) == 1
    assert relative_error(np.zeros((2, 0)), np.zeros((2, 0))) == 0
    assert relative_error(np.zeros(2), np.zeros(3)) == 1
    assert relative_error(np.array([3]), np.array([4])) == 1


def test_tails_of_distributions():
    # Tabulated quantiles: chi-square (Abramowitz and Stegun, table 26.8), Poisson and binomial by their definitions.
    assert statistics.chi_square_tail(3.841459, 1) == pytest.approx(0.05, rel=1e-6)
    assert statistics.chi_square_tail(5.991465, 2) == pytest.approx(0.05, rel=1e-6)
    assert statistics.chi_square_tail(18.307038, 10) == pytest.approx(0.05, rel=1e-6)
    assert statistics.chi_square_tail(1e4, 20) == pytest.approx(0, abs=1e-300)
    assert statistics.poisson_tail(1, 2.0) == pytest.approx(1 - np.exp(-2))
    assert statistics.binomial_two_sided(0, 10) == pytest.approx(2 / 2**10)
    assert statistics.binomial_two_sided(5, 10) == pytest.approx(1)


@pytest.mark.parametrize("favour", [0.0, 0.5])
def test_inclusions_see_a_favoured_member_and_nothing_else(favour):
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(100):
        inclusions = statistics.Inclusions(12)
        for _ in range(100):
            key = rng.random(12)
            key[0] *= 1 - favour
            drawn = np.zeros(12)
            drawn[np.argsort(key)[:4]] = 1
            inclusions.add(np.ones(12), drawn)
        p_values.append(inclusions.p_value())
    if favour:
        assert np.median(p_values) < 1e-3
    else:
        assert 0.35 < np.mean(p_values) < 0.65  # uniform: five standard deviations
        assert min(p_values) > 1e-5


def test_seeds_share_graphs_and_differ():
    tried = trial("MASK_LOSS", {}, preset("tiny"))
    case = [c for c in tried.cases() if c.name == "unequal"]
    first, again, other = (tried.checks(seed, case) for seed in (0, 0, 1))
    assert [c.error for c in first] == [c.error for c in again] != [c.error for c in other]
