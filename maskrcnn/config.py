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
    workers: int = 1  # threads that read and prepare batches, on one rank
    group_aspect: bool = False  # the images of a batch are all landscape or all portrait

    # schedule
    batch: int = 2  # images a step, on one rank
    steps: int = 1000  # 0 makes as many as it takes to see `images`
    images: int = 0  # to train on, counted each time they come; only where steps is 0
    warmup: int = 100
    lr: float = 1.5e-3  # peak; warms up linearly over `warmup` steps, then falls as `schedule` says
    lr_batch: int = 0  # images a step, on all ranks, that lr is meant for: others scale it; 0 takes lr as it is
    schedule: str = "cosine"  # to zero; or "steps", a tenth from each of decay_at on
    decay_at: tuple = (2 / 3, 8 / 9)  # parts of the run
    optimizer: str = "adam"  # or "momentum"
    weight_decay: float = 1e-4
    clip_norm: float = 5.0  # of the global gradient; 0 is off
    eval_every: int = 0  # steps between evaluations; 0 evaluates at the end only
    save_every: int = 200  # steps between checkpoints
    log_every: int = 20  # steps between lines of metrics.jsonl
    mixed_precision: bool = False  # convolutions and products in 16 bits, on GPUs

    # backbone
    blocks: tuple = (1, 1, 1, 1)  # bottleneck blocks of the four ResNet stages
    width: int = 24  # channels of the stem; 64 in the published ResNets
    norm: str = "gn"  # or "frozen_bn"
    gn_groups: int = 8
    fpn_channels: int = 48
    strides: tuple = (4, 8, 16, 32)  # of the FPN levels; a fifth, 64, is a subsampling of the fourth
    weights: str = ""  # .npz file of a pretrained ResNet; empty starts from random weights
    aligned_padding: bool = False  # strided layers pad at the top and left first, as those of the weights do
    frozen_stages: int = 0  # that stay as they are: 1 is the stem, 2 is the first of `blocks` too

    # anchors and RPN
    anchor_scale: float = 4.0  # anchor size over the stride of its level
    anchor_ratios: tuple = (0.5, 1.0, 2.0)
    rpn_samples: int = 64  # anchors an image in the loss
    rpn_fg_fraction: float = 0.5
    rpn_fg_iou: float = 0.7
    rpn_bg_iou: float = 0.3
    proposals_per_level: int = 100  # before and after NMS
    proposals: int = 100  # an image, over all levels
    test_proposals: int = 0  # the same two in inference; 0 is as in training
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
    # The public tensorpack FasterRCNN example at a size for CPUs, for comparisons of speed (docs/speed.md).
    "tensorpack-160": Config(
        short_edge=160,
        long_edge=160,
        batch=1,
        lr=1e-3,
        clip_norm=0.0,
        width=64,
        gn_groups=32,
        fpn_channels=64,
        strides=(4, 8, 16, 32, 64),
        aligned_padding=True,
        anchor_scale=8.0,
        rpn_samples=128,
        proposals_per_level=200,
        proposals=200,
        roi_samples=64,
        roi_fg_fraction=0.25,
        mask_convs=4,
        detections=100,
    ),
    # Mask R-CNN with a ResNet-50 and FPN on COCO 2017, schedule 1x, as published with Detectron (TARGETS).
    "coco": Config(
        classes=80,
        short_edge=800,
        workers=4,
        group_aspect=True,
        batch=2,
        steps=0,
        images=1_440_000,
        warmup=1000,
        lr=0.02,
        lr_batch=16,
        schedule="steps",
        optimizer="momentum",
        clip_norm=0.0,
        save_every=1000,
        blocks=(3, 4, 6, 3),
        width=64,
        norm="frozen_bn",
        aligned_padding=True,
        frozen_stages=2,
        fpn_channels=256,
        strides=(4, 8, 16, 32, 64),
        anchor_scale=8.0,
        rpn_samples=256,
        proposals_per_level=2000,
        proposals=2000,
        test_proposals=1000,
        roi_samples=512,
        roi_fg_fraction=0.25,
        box_fc=1024,
        mask_channels=256,
        mask_convs=4,
        detections=100,
    ),
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


# What a preset's training is known to reach, {preset: {metric: AP}}.
TARGETS = {
    # Detectron's model zoo, "End-to-End Faster & Mask R-CNN Baselines": R-50-FPN, Mask, 1x, on what is now val2017.
    "coco": {"bbox": 0.377, "segm": 0.339},
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
        "classes batch workers lr width train_images val_images save_every log_every rpn_samples proposals_per_level "
        "proposals roi_samples canonical_size box_crop box_fc mask_crop mask_channels detections fpn_channels"
    )
    for key in positive.split():
        if not getattr(config, key) > 0:
            raise UserError(f"{key}={getattr(config, key)}: {key} must be greater than 0.")
    for key in ["steps", "images", "warmup", "lr_batch", "frozen_stages", "test_proposals"]:
        if getattr(config, key) < 0:
            raise UserError(f"{key}={getattr(config, key)}: {key} must be 0 or greater.")
    if not (config.steps or config.images):
        raise UserError("steps=0: steps must be greater than 0, or images, from which they follow.")
    choices = {"optimizer": ("adam", "momentum"), "norm": ("gn", "frozen_bn"), "schedule": ("cosine", "steps")}
    for key, known in choices.items():
        if getattr(config, key) not in known:
            raise unknown(key, getattr(config, key), known)
    if any(not 0 < part < 1 for part in config.decay_at):
        raise UserError(
            f"decay_at={_show(config.decay_at)}: parts of the run, between 0 and 1, as in decay_at=0.6,0.9."
        )
    if config.frozen_stages > 5:
        raise UserError(f"frozen_stages={config.frozen_stages}: a ResNet has five with its stem.")
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


def for_ranks(config, ranks):
    """`config` with steps and lr as they are for that many ranks, final: applied again it changes nothing."""
    images = config.batch * ranks
    return dataclasses.replace(
        config,
        steps=config.steps or max(1, round(config.images / images)),
        lr=config.lr * images / config.lr_batch if config.lr_batch else config.lr,
        lr_batch=0,
    )


def for_inference(config):
    """`config` with as many proposals as in inference."""
    n = config.test_proposals
    return dataclasses.replace(config, proposals_per_level=n, proposals=n) if n else config
