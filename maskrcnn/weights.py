"""Weights of a pretrained ResNet, from an .npz file of tensorpack's model zoo. Free of TensorFlow.

Such a file holds the variables of an ImageNet classifier under the names that tensorpack gives them. What else it holds
(the classifier's last layer) is left alone. How the network was trained for which the zoo calls "-AlignPadding", and
what the settings of preset `coco` follow: images in BGR, less their mean and over their deviation in ImageNet
(loading.py); strides in the 3x3 convolutions; strided layers padded at the top and left first; BatchNorm with an
epsilon of 1e-5.
"""

import re
import zipfile

import numpy as np

from maskrcnn.errors import UserError

LAYER = re.compile(r"(conv0|group\d+/.+)/(W|b)")  # of a ResNet in such a file


def variables(config):
    """The variables of the backbone that training starts from, {name: shape}."""
    found = {}

    def layer(name, size, before, channels):
        found[f"{name}/W"] = (size, size, before, channels)
        for part in ("gamma", "beta", *(("mean/EMA", "variance/EMA") if config.norm == "frozen_bn" else ())):
            found[f"{name}/norm/{part}"] = (channels,)

    layer("resnet/conv0", 7, 3, config.width)
    before = config.width
    for i, blocks in enumerate(config.blocks):
        channels = config.width * 2**i
        for j in range(blocks):
            name = f"resnet/group{i}/block{j}"
            if j == 0:
                layer(f"{name}/shortcut", 1, before, 4 * channels)
            layer(f"{name}/conv1", 1, before, channels)
            layer(f"{name}/conv2", 3, channels, channels)
            layer(f"{name}/conv3", 1, channels, 4 * channels)
            before = 4 * channels
    return found


def name_in_file(name, config):
    """What tensorpack calls the variable `name` of the backbone."""
    norm = "bn" if config.norm == "frozen_bn" else "gn"
    return name[len("resnet/") :].replace("/norm/", f"/{norm}/").replace("/shortcut/", "/convshortcut/")


def check(path, config):
    """Raises UserError unless the file has every variable of the backbone in its shape, and no layer beyond those.

    Reads the names and shapes, not the values.
    """
    there = _shapes(path)
    wanted = {name_in_file(name, config): shape for name, shape in variables(config).items()}
    problems = []
    missing = [name for name in wanted if name not in there]
    if missing:
        problems.append(f"it lacks {_some(missing)}")
    misshapen = [name for name in wanted if name in there and there[name] != wanted[name]]
    if misshapen:
        name = misshapen[0]
        problems.append(f"{_some(misshapen)} should be {_by(wanted[name])} and is {_by(there[name])}")
    beyond = [name for name in there if name not in wanted and LAYER.fullmatch(name)]
    if beyond:
        problems.append(f"it has {_some(beyond)} beyond the model")
    if problems:
        model = f"blocks={','.join(map(str, config.blocks))}, width={config.width}, norm={config.norm}"
        raise UserError(f"--weights {path} is of another network than {model}: {'; '.join(problems)}.")


def load(path, config):
    """The backbone's variables, {name: float32 array}, for images in RGB. Raises UserError as `check` does, and where
    the file is damaged or a value is not finite."""
    check(path, config)
    loaded = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            key = {_plain(k): k for k in file.files}
            for name in variables(config):
                loaded[name] = np.asarray(file[key[name_in_file(name, config)]], np.float32)
    except (OSError, ValueError, zipfile.BadZipFile) as e:
        raise UserError(f"--weights {path} is damaged ({e}); download it again.") from None
    broken = [name_in_file(name, config) for name, value in loaded.items() if not np.isfinite(value).all()]
    if broken:
        raise UserError(f"--weights {path}: {_some(broken)} has values that are not finite; download it again.")
    loaded["resnet/conv0/W"] = np.ascontiguousarray(loaded["resnet/conv0/W"][:, :, ::-1])
    return loaded


def _shapes(path):
    """{name: shape} of the arrays in an .npz file."""
    found = {}
    try:
        with zipfile.ZipFile(path) as file:
            for member in file.namelist():
                with file.open(member) as array:
                    version = np.lib.format.read_magic(array)
                    read = np.lib.format.read_array_header_1_0
                    shape, _, kind = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(array)
                # Weights are numbers: an array of any other kind is none of ours, whatever its name.
                found[_plain(member[: -len(".npy")])] = shape if kind.kind == "f" else None
    except OSError as e:
        raise UserError(f"--weights {path} cannot be read: {e.strerror or e}.") from None
    except (ValueError, zipfile.BadZipFile):
        raise UserError(f"--weights {path} is no .npz file of arrays; see docs/coco.md for where to get one.") from None
    return found


def _plain(name):
    """A variable's name; some files have it with TensorFlow's number of the output, "conv0/W:0"."""
    return name[:-2] if name.endswith(":0") else name


def _some(names):
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _by(shape):
    return "no array of numbers" if shape is None else " x ".join(map(str, shape)) or "a single number"
