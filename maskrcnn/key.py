"""What the result of a run depends on, but for its flags and its seed, as a few short texts. Free of TensorFlow.

Two runs with the same key, flags and seed are the same run; where a part of the key differs, one says nothing certain
of the other.
"""

import dataclasses
import hashlib
import importlib.metadata
import json

from maskrcnn import version
from maskrcnn.data import coco, shapes
from maskrcnn.settings import TENSORFLOW_PACKAGES

SOFTWARE = (*TENSORFLOW_PACKAGES, "tensorpack", "numpy", "pycocotools")  # what computes losses, steps and AP


def key(settings):
    """The key of a run of these Settings, a dict: "code", "configuration", "data" and "software", with pretrained
    weights "weights", and under "flags" {flag: version of what is planted in it} for those flags that are on.
    """
    config = dataclasses.asdict(settings.config)
    weights = config.pop("weights")
    del config["eval_every"]  # evaluating on the way leaves the training as it is
    told = {
        "code": version.code_version(),
        "configuration": _digest(json.dumps({**config, "np": settings.np}, sort_keys=True).encode()),
        "data": _data(settings),
        "software": " ".join(f"{name} {found}" for name, found in _installed()),
    }
    if weights:
        told["weights"] = _digest_of_files([weights])
    planted = {f: target for f, target in settings.plants().items() if f in settings.flags}
    return {**told, "flags": {flag: version.function_version(target) for flag, target in planted.items()}}


def joined(first, second):
    """The key of a run that was begun under one key and resumed under another: equal to neither where they differ.
    first may be None, of a run from before there were keys.
    """
    if not first or first == second:
        return second
    both = {name: _both(first.get(name), text) for name, text in second.items() if name != "flags"}
    before, flags = first.get("flags", {}), second["flags"]
    return {**both, "flags": {flag: _both(before.get(flag), text) for flag, text in flags.items()}}


def _both(first, second):
    return second if first == second else f"{first or 'none'}, then {second}"


def _data(settings):
    if settings.data is None:
        config = settings.config
        return shapes.folder_name(config.train_images, config.val_images, config.data_seed)
    return _digest_of_files(coco.annotation_files(settings.data))


def _installed():
    for package in SOFTWARE:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue


def _digest_of_files(paths):
    """Of what is in them, so that copies of a file are the same file; all annotations of COCO take 1.5 s."""
    digest = hashlib.blake2b()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:12]
