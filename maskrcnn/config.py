"""All settings of a training run, with the presets. Free of TensorFlow."""

import dataclasses
from dataclasses import dataclass

from maskrcnn.errors import UserError, unknown


@dataclass(frozen=True)
class Config:
    """One training run. Sizes are in pixels, strides in pixels a feature cell."""

    # data
    classes: int = 5  # K; replaced by the number of categories when --data is given
    short_edge: int = 0  # resize the short edge to this; 0 keeps the size
    long_edge: int = 1333  # and keep the long edge at most this
    train_images: int = 1000  # of the generated shapes
    val_images: int = 100
    data_seed: int = 0
    flip: bool = True

    # schedule
    batch: int = 2  # images a step, on one rank
    steps: int = 1000
    warmup: int = 100
    lr: float = 1.5e-3  # peak; warms up linearly, then falls to zero by a cosine
    optimizer: str = "adam"  # or "momentum"
    weight_decay: float = 1e-4
    clip_norm: float = 5.0  # of the global gradient; 0 is off
    eval_every: int = 0  # steps between evaluations; 0 evaluates at the end only
    save_every: int = 200  # steps between checkpoints
    log_every: int = 20  # steps between lines of metrics.jsonl

    # backbone
    blocks: tuple = (1, 1, 1, 1)  # bottleneck blocks of the four ResNet stages
    width: int = 24  # channels of the stem; 64 in the published ResNets
    norm: str = "gn"  # or "frozen_bn"
    gn_groups: int = 8
    fpn_channels: int = 48
    strides: tuple = (4, 8, 16, 32)  # of the FPN levels; a fifth, 64, is a subsampling of the fourth
    pretrained: str = ""

    # anchors and RPN
    anchor_scale: float = 4.0  # anchor size over the stride of its level
    anchor_ratios: tuple = (0.5, 1.0, 2.0)
    rpn_samples: int = 64  # anchors an image in the loss
    rpn_fg_fraction: float = 0.5
    rpn_fg_iou: float = 0.7
    rpn_bg_iou: float = 0.3
    proposals_per_level: int = 100  # before and after NMS
    proposals: int = 100  # an image, over all levels
    rpn_nms: float = 0.7

    # heads
    roi_samples: int = 32  # RoIs an image in training
    roi_fg_fraction: float = 0.5
    roi_fg_iou: float = 0.5
    canonical_size: float = 224.0  # a box of this size reads the level of stride 16
    box_crop: int = 7
    box_fc: int = 128
    box_delta_std: tuple = (0.1, 0.1, 0.2, 0.2)  # deltas are divided by these before the loss
    mask_crop: int = 14  # the predicted mask is twice as large
    mask_channels: int = 32
    mask_convs: int = 2

    # inference
    score_threshold: float = 0.05
    nms: float = 0.5
    detections: int = 20  # an image


PRESETS = {
    "shapes": Config(),
    # Seconds of training: for tests of the machinery, not of accuracy.
    "tiny": Config(
        train_images=32,
        val_images=8,
        batch=2,
        steps=6,
        warmup=2,
        width=8,
        fpn_channels=16,
        box_fc=32,
        mask_channels=8,
        mask_convs=1,
        rpn_samples=16,
        proposals_per_level=30,
        proposals=30,
        roi_samples=8,
        save_every=2,
        log_every=1,
    ),
}


def preset(name):
    """The Config of that name. Raises UserError with the known names."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]


def override(config, settings):
    """`config` with `key=value` strings applied, each value read as the type of the field it replaces."""
    changes = {}
    fields = {f.name: f for f in dataclasses.fields(config)}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set '{setting}': write it as key=value.")
        if key not in fields:
            raise unknown("key of --set", key, fields)
        changes[key] = _parse(key, text, getattr(config, key))
    return validated(dataclasses.replace(config, **changes))


def _parse(key, text, old):
    kinds = {bool: "true or false", int: "a whole number", float: "a number", tuple: "numbers separated by commas"}
    try:
        if isinstance(old, bool):
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if isinstance(old, tuple):
            return tuple(type(old[0])(t) for t in text.split(","))
        return type(old)(text)
    except (KeyError, ValueError):
        raise UserError(f"--set {key}={text}: {key} must be {kinds[type(old)]}, as in {key}={_show(old)}.") from None


def _show(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def validated(config):
    """`config` itself if a model can be built and trained with it; else a UserError naming key and remedy."""
    positive = (
        "classes batch steps lr width train_images val_images save_every log_every rpn_samples proposals_per_level "
        "proposals roi_samples canonical_size box_crop box_fc mask_crop mask_channels detections fpn_channels"
    )
    for key in positive.split():
        if not getattr(config, key) > 0:
            raise UserError(f"{key}={getattr(config, key)}: {key} must be greater than 0.")
    choices = {"optimizer": ("adam", "momentum"), "norm": ("gn", "frozen_bn")}
    for key, known in choices.items():
        if getattr(config, key) not in known:
            raise unknown(key, getattr(config, key), known)
    if len(config.blocks) != 4:
        raise UserError(f"blocks={_show(config.blocks)}: a ResNet has four stages, as in blocks=3,4,6,3.")
    if config.strides not in ((4, 8, 16, 32), (4, 8, 16, 32, 64)):
        raise UserError(f"strides={_show(config.strides)}: must be 4,8,16,32 or 4,8,16,32,64.")
    channels = (config.width, config.fpn_channels, config.mask_channels)
    if config.norm == "gn" and any(c % config.gn_groups for c in channels[:2]):
        raise UserError(
            f"gn_groups={config.gn_groups}: must divide width and fpn_channels ({channels[0]}, {channels[1]})."
        )
    return config
