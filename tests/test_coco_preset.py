"""Preset `coco`: its schedule, its network, trainings of a few steps from made-up weights, and how bisects use it."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from test_weights import classifier

from bisect_cli.cli import main
from maskrcnn import horovod_run, weights
from maskrcnn.config import TARGETS, preset
from maskrcnn.data import shapes
from maskrcnn.errors import UserError
from maskrcnn.pieces import PIECES
from maskrcnn.settings import Settings as TrainSettings
from maskrcnn.settings import parse

COCO = preset("coco")
ALL = ",".join(PIECES)
# The whole network, on small images and with few RoIs.
SMALL = "short_edge=128 long_edge=192 steps=3 warmup=1 log_every=1 rpn_samples=32 roi_samples=16 detections=10"
SMALL += " proposals_per_level=40 proposals=40 test_proposals=20"
SMALL = [word for change in SMALL.split() for word in ("--set", change)]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with `coco/`, a small set in the layout of COCO 2017, and `r50.npz`, weights of its preset."""
    work = tmp_path_factory.mktemp("coco")
    made = shapes.ensure(work / "shapes", 8, 4, 0)
    for split in ("train", "val"):
        shutil.copytree(made / split, work / "coco" / f"{split}2017")
        (work / "coco/annotations").mkdir(exist_ok=True)
        annotations = made / f"annotations/instances_{split}.json"
        shutil.copy(annotations, work / f"coco/annotations/instances_{split}2017.json")
    np.savez(work / "r50.npz", **classifier(COCO))
    return work


def maskrcnn(work, *words):
    return subprocess.run(
        [sys.executable, "-m", "maskrcnn", *words],
        cwd=work,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize(
    ("ranks", "batch", "steps", "lr"), [(8, 2, 90_000, 0.02), (16, 4, 22_500, 0.08), (1, 1, 1_440_000, 0.00125)]
)
def test_steps_and_rate_follow_from_the_images_of_a_step(ranks, batch, steps, lr):
    asked = parse(preset_name="coco", batch=batch, ranks=ranks)
    assert (asked.config.steps, asked.config.warmup) == (steps, 1000)
    assert asked.config.lr == pytest.approx(lr)
    assert parse(preset_name="coco", batch=batch, ranks=ranks, changes=["steps=7"]).config.steps == 7


def test_a_rank_and_a_resumed_run_see_the_same_schedule():
    asked = parse(preset_name="coco", ranks=4, data="d", weights="w.npz", changes=["decay_at=0.5,0.75"])
    words = dict(word[2:].split("=", 1) for word in asked.arguments("o")[1:] if not word.startswith("--set="))
    changes = [word[len("--set=") :] for word in asked.arguments("o") if word.startswith("--set=")]
    again = parse(words["flags"], 0, "coco", (), words["data"], None, int(words["np"]), changes)
    assert again == asked == TrainSettings.from_json(json.loads(json.dumps(asked.to_json())))


def test_check_asks_for_weights_that_fit(work):
    run = ["train", "--preset", "coco", "--data", "coco", "--out", "run", "--check"]
    for words, said in (
        ([], "--weights FILE"),
        (["--weights", "none.npz"], "none.npz cannot be read"),
        (["--weights", "r50.npz", "--set", "blocks=3,4,23,3"], "lacks group2/block6/conv1/W and"),
        (["--weights", "r50.npz", "--set", "blocks=3,4,5,3"], "group2/block5/conv1/W and 2 more beyond the model"),
    ):
        done = maskrcnn(work, *run, *words)
        assert done.returncode == 2
        assert said in done.stderr and done.stderr.count("\n") == 1
    assert maskrcnn(work, *run, "--weights", "r50.npz").returncode == 0
    assert not (work / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("flags", [ALL, ""], ids=["all on", "all off"])
def test_training_starts_from_the_weights_and_leaves_frozen_stages(work, flags):
    tf = pytest.importorskip("tensorflow")
    out = work / f"run-{len(flags)}"
    words = ["train", "--preset", "coco", "--data", "coco", "--weights", "r50.npz", "--flags", flags, *SMALL]
    done = maskrcnn(work, *words, "--out", str(out))
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "result.json").read_text())
    assert (result["status"], result["step"], result["config"]["lr"]) == ("finished", 3, 0.02 * 2 / 16)
    assert {"bbox/AP", "segm/AP"} <= set(result["metrics"])
    given = weights.load(work / "r50.npz", COCO)
    after = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(out / "checkpoints")))
    for name, value in given.items():
        frozen = "/norm/" in name or name.startswith(("resnet/conv0/", "resnet/group0/"))
        trained = after.get_tensor(name)
        assert np.array_equal(trained, value) == frozen, name
        np.testing.assert_allclose(trained, value, atol=0.01)  # not from random weights


@pytest.mark.slow
def test_mixed_precision_without_a_gpu_is_said(work):
    tf = pytest.importorskip("tensorflow")
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    words = ["train", "--preset", "tiny", "--set", "mixed_precision=true", "--out", "mixed"]
    done = maskrcnn(work, *words)
    assert done.returncode == 2 and "needs a GPU" in done.stderr


@pytest.mark.slow
def test_the_backbone_computes_what_the_weights_were_trained_for(work):
    """Against a ResNet written with tensorpack's layers, which find the file's variables by their own names, on images
    in BGR."""
    tf = pytest.importorskip("tensorflow")
    from tensorpack.models import BatchNorm, Conv2D, MaxPooling
    from tensorpack.tfutils import TowerContext, argscope
    from tensorpack.tfutils.sessinit import DictRestore

    from maskrcnn import backbone
    from maskrcnn.layers import Extent
    from maskrcnn.tf1 import tfv1

    config = dataclasses.replace(COCO, width=8, blocks=(1, 2, 1, 1))
    arrays = classifier(config)
    np.savez(work / "narrow.npz", **arrays)
    rng = np.random.default_rng(0)
    bgr = rng.normal(size=(1, 64, 128, 3)).astype(np.float32)

    def padded(x, before, after):
        return tf.pad(x, [[0, 0], [before, after], [before, after], [0, 0]])

    def layer(name, x, channels, size, stride, relu=True):
        padding = "VALID" if stride == 2 and size > 1 else "SAME"
        x = Conv2D(name, x, channels, size, strides=stride, padding=padding)
        return tf.nn.relu(x) if relu else x

    def normalised(x):
        return BatchNorm("bn", x)

    def reference(x):
        with argscope(Conv2D, use_bias=False, activation=normalised), argscope(BatchNorm, training=False):
            x = layer("conv0", padded(x, 3, 2), 8, 7, 2)
            x = MaxPooling("pool0", padded(x, 1, 0), 3, strides=2, padding="VALID")
            outputs = []
            for i, blocks in enumerate(config.blocks):
                for j in range(blocks):
                    stride, channels = 2 if i and not j else 1, 8 * 2**i
                    with tfv1.variable_scope(f"group{i}/block{j}"):
                        y = layer("conv1", x, channels, 1, 1)
                        y = layer("conv2", padded(y, 1, 0) if stride == 2 else y, channels, 3, stride)
                        y = layer("conv3", y, 4 * channels, 1, 1, relu=False)
                        if not j:
                            x = layer("convshortcut", x, 4 * channels, 1, stride, relu=False)
                        x = tf.nn.relu(x + y)
                outputs.append(x)
        return outputs

    with tf.Graph().as_default(), tfv1.Session() as session:
        tfv1.set_random_seed(0)
        with TowerContext("", is_training=False):
            expected = reference(tf.constant(bgr))
        whole = {s: Extent(tf.ones([1, 64 // s, 128 // s, 1])) for s in (2, 4, 8, 16, 32)}
        with tfv1.variable_scope("resnet"):
            found = backbone._resnet(tf.constant(bgr[..., ::-1]), whole, config)
        session.run(tfv1.global_variables_initializer())
        DictRestore({k: v for k, v in arrays.items() if not k.startswith("linear")}).init(session)
        DictRestore(weights.load(work / "narrow.npz", config)).init(session)
        for a, b in zip(*session.run([found, expected])):
            assert np.abs(b).max() > 0.1
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


@pytest.mark.slow
def test_the_whole_model_has_the_published_size():
    tf = pytest.importorskip("tensorflow")
    from maskrcnn import optimizer
    from maskrcnn.components import implementations
    from maskrcnn.inputs import specs, unpack
    from maskrcnn.model import MaskRCNN
    from maskrcnn.tf1 import tfv1

    config = parse(preset_name="coco", batch=1).config
    with tf.Graph().as_default():
        batch = unpack([tfv1.placeholder(s.dtype, s.shape, s.name) for s in specs(config)])
        losses = MaskRCNN(config, implementations(tuple(PIECES), {})).losses(batch, tf.constant(0))
        chosen = optimizer.build(config, optimizer.learning_rate(config, tf.constant(0)))
        gradients = [(g, v) for g, v in chosen.compute_gradients(tf.add_n(list(losses.values()))) if g is not None]
        chosen.apply_gradients(gradients)
        size = {v.op.name: int(np.prod(v.shape)) for v in tfv1.trainable_variables()}
        trained = sum(int(np.prod(v.shape)) for _, v in gradients)
    # torchvision's maskrcnn_resnet50_fpn counts 44,401,393 for 91 classes with background: here they are 81, and a box
    # of the background is not predicted.
    heads = (1024 + 1) * (91 + 4 * 91) + (256 + 1) * 91 - (1024 + 1) * (81 + 4 * 80) - (256 + 1) * 80
    convolutions = sum(n for name, n in size.items() if "/norm/" not in name)
    assert convolutions == 44_401_393 - heads
    # Without the stem and the first stage: 7x7x3x64, and three blocks of 64 channels between 256.
    assert trained == convolutions - 9408 - (64 * 64 + 9 * 64**2 + 2 * 64 * 256) - 2 * (2 * 64 * 256 + 9 * 64**2)


# Bisects


@pytest.mark.slow
def test_start_with_the_preset_checks_weights_and_knows_its_targets(work):
    start = ["start", "--flags", "L2B5", "--preset", "coco", "--data", str(work / "coco"), "--dry-run"]
    start += ["--runs-dir", str(work / "runs")]
    done = CliRunner().invoke(main, start)
    assert done.exit_code == 2 and "--weights FILE" in done.output
    done = CliRunner().invoke(main, [*start, "--weights", str(work / "r50.npz")])
    assert done.exit_code == 0, done.output
    assert TARGETS["coco"] == {"bbox": 0.377, "segm": 0.339}


# Several machines


def test_hosts_tell_how_many_ranks_there_are():
    assert horovod_run.ranks(None, "") == 1
    assert horovod_run.ranks(2, "") == 2
    assert horovod_run.ranks(None, "a:8,b.net:4") == 12
    for np_, hosts in ((4, "a:8"), (None, "a"), (None, "a:8,a:8"), (None, "a:x"), (None, "a:0"), (None, ":8")):
        with pytest.raises(UserError, match="--hosts"):
            horovod_run.ranks(np_, hosts)


@pytest.mark.slow
def test_ranks_start_on_the_hosts_named(work):
    pytest.importorskip("horovod")
    words = [
        "train",
        "--preset",
        "tiny",
        "--flags",
        ALL,
        "--set",
        "steps=2",
        "--hosts",
        "localhost:2",
        "--out",
        "hosts",
    ]
    done = maskrcnn(work, *words)
    assert done.returncode == 0, done.stderr
    result = json.loads((work / "hosts/result.json").read_text())
    assert (result["status"], result["np"], result["step"]) == ("finished", 2, 2)
