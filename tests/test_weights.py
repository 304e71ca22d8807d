"""The loader of pretrained weights: names, shapes, colours, and what it says of files that do not fit."""

import dataclasses

import numpy as np
import pytest

from maskrcnn import weights
from maskrcnn.config import preset
from maskrcnn.errors import UserError

COCO = preset("coco")
SMALL = dataclasses.replace(COCO, width=4, blocks=(1, 2, 1, 1))


def classifier(config, seed=0):
    """The variables of an ImageNet ResNet as tensorpack names them, {name: array}, such that its maps stay near one."""
    rng = np.random.default_rng(seed)
    made = {"linear/W": np.zeros((32 * config.width, 10), np.float32), "linear/b": np.zeros(10, np.float32)}
    for name, shape in weights.variables(config).items():
        bound = (6 / np.prod(shape[:-1])) ** 0.5 if name.endswith("/W") else 0.1
        low, high = (0.8, 1.2) if name.endswith(("gamma", "variance/EMA")) else (-bound, bound)
        scale = 0.3 if name.endswith("conv3/norm/gamma") else 1.0
        made[weights.name_in_file(name, config)] = (scale * rng.uniform(low, high, shape)).astype(np.float32)
    return made


@pytest.fixture
def file(tmp_path):
    def write(arrays, name="weights.npz"):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


def test_a_resnet_50_has_the_names_and_shapes_of_the_zoo():
    names = {weights.name_in_file(n, COCO): shape for n, shape in weights.variables(COCO).items()}
    assert len(names) == 53 * 5  # 53 convolutions, each with its BatchNorm
    assert names["conv0/W"] == (7, 7, 3, 64)
    assert names["conv0/bn/mean/EMA"] == (64,)
    assert names["group0/block0/convshortcut/W"] == (1, 1, 64, 256)
    assert names["group0/block0/convshortcut/bn/variance/EMA"] == (256,)
    assert names["group3/block2/conv2/W"] == (3, 3, 512, 512)
    assert names["group2/block5/conv3/bn/gamma"] == (1024,)
    # 25,557,032 as usually counted, less the 2,049,000 of the last layer; moving means and variances are 53,120 more.
    assert sum(np.prod(shape) for shape in names.values()) == 25_557_032 - 2_049_000 + 53_120


def test_values_arrive_under_the_models_names_with_colours_in_its_order(file):
    arrays = classifier(SMALL)
    loaded = weights.load(file({f"{name}:0": value for name, value in arrays.items()}), SMALL)
    assert {n: v.shape for n, v in loaded.items()} == weights.variables(SMALL)
    np.testing.assert_array_equal(loaded["resnet/conv0/W"][:, :, 0], arrays["conv0/W"][:, :, 2])
    np.testing.assert_array_equal(loaded["resnet/conv0/W"][:, :, 1], arrays["conv0/W"][:, :, 1])
    shortcut = loaded["resnet/group1/block0/shortcut/norm/mean/EMA"]
    np.testing.assert_array_equal(shortcut, arrays["group1/block0/convshortcut/bn/mean/EMA"])


def changed(**changes):
    arrays = {**classifier(SMALL), **changes}
    return {name: value for name, value in arrays.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conv0/W": None}, "it lacks conv0/W."),
        ({"conv0/W": None, "group0/block0/conv1/bn/beta": None}, "it lacks conv0/W and 1 more"),
        ({"conv0/W": np.zeros((3, 3, 3, 4), np.float32)}, "conv0/W should be 7 x 7 x 3 x 4 and is 3 x 3 x 3 x 4"),
        ({"conv0/W": np.zeros((7, 7, 3, 4), object)}, "conv0/W should be 7 x 7 x 3 x 4 and is no array of numbers"),
        ({"group0/block1/conv1/W": np.zeros(1, np.float32)}, "it has group0/block1/conv1/W beyond the model"),
        ({"conv0/b": np.zeros(4, np.float32)}, "it has conv0/b beyond the model"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(file, changes, said):
    with pytest.raises(UserError) as error:
        weights.check(file(changed(**changes)), SMALL)
    assert said in str(error.value)
    assert "blocks=1,2,1,1, width=4, norm=frozen_bn" in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path, file):
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(UserError, match="no .npz file"):
        weights.check(tmp_path / "text", SMALL)
    with pytest.raises(UserError, match="No such file"):
        weights.check(tmp_path / "missing", SMALL)
    with pytest.raises(UserError, match="conv0/W has values that are not finite"):
        weights.load(file(changed(**{"conv0/W": np.full((7, 7, 3, 4), np.nan, np.float32)})), SMALL)


def test_a_damaged_file(file):
    path = file(classifier(SMALL))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255  # amid the values: names and shapes are still whole
    path.write_bytes(content)
    weights.check(path, SMALL)
    with pytest.raises(UserError, match="is damaged"):
        weights.load(path, SMALL)
