"""One training graph from the inside, as JSON on stdout: its arithmetic, where its time goes, and its input's speed.

    python benchmarks/training_graph.py --preset shapes --flags all --set batch=4

`train_throughput.py` starts it, in a process of its own for every graph.
"""

import json
import time
from collections import Counter

import click
import numpy as np

from maskrcnn.tf1 import session_config, tfv1, threads

# isort: split
import cv2
import tensorflow as tf

from maskrcnn import optimizer
from maskrcnn.components import implementations
from maskrcnn.data import coco
from maskrcnn.inputs import specs, unpack
from maskrcnn.model import MaskRCNN
from maskrcnn.pieces import PIECES
from maskrcnn.settings import data_folder, parse

MODEL_PARTS = ("resnet", "fpn", "box_head", "mask_head", *(flag.lower() for flag in PIECES))
WARM_UP = 5  # steps
MATRIX = 2048  # rows and columns of the product whose rate is the machine's


def flop_counts(graph):
    """{name: scalar tensor} of what every convolution and matrix product of the graph takes, in floating-point
    operations, a multiplication and an addition being two. Shapes are those of the step at hand. What per-image pieces
    compute is in functions and out of sight."""
    counts = {}
    for op in graph.get_operations():
        if op.type == "Conv2D":
            kernel, cells = op.inputs[1], op.outputs[0]
        elif op.type == "Conv2DBackpropInput":
            kernel, cells = op.inputs[1], op.inputs[2]
        elif op.type == "Conv2DBackpropFilter":
            kernel, cells = op.outputs[0], op.inputs[2]
        elif op.type in ("MatMul", "BatchMatMulV2"):
            rows = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
            counts[op.name] = 2 * _size(op.outputs[0]) * tf.cast(tf.shape(op.inputs[0])[-2 if rows else -1], tf.float64)
            continue
        else:
            continue
        # Every output value of the forward convolution takes kernel height x width x input channels products, and so
        # does its share of either gradient.
        counts[op.name] = 2 * _size(cells) * tf.cast(tf.reduce_prod(tf.shape(kernel)[:3]), tf.float64)
    return counts


def _size(tensor):
    return tf.reduce_prod(tf.cast(tf.shape(tensor), tf.float64))


def matrix_rate(session, repeats=7):
    """Floating-point operations a second of a product of two large float32 matrices: the best of some."""
    a = tfv1.placeholder(tf.float32, [MATRIX, MATRIX])
    product = tf.reduce_sum(tf.matmul(a, a))
    values = np.random.default_rng(0).random((MATRIX, MATRIX), np.float32)
    best = np.inf
    for _ in range(repeats):
        began = time.perf_counter()
        session.run(product, {a: values})
        best = min(best, time.perf_counter() - began)
    return 2 * MATRIX**3 / best


def model_part(node):
    """Which part of the model a node of the executed graph belongs to, by its name."""
    for component in node.split("/"):
        component = component[: -len("_grad")] if component.endswith("_grad") else component
        if component in MODEL_PARTS:
            return component
    return "optimizer" if any(word in node for word in ("Adam", "Momentum", "global_norm", "clip_by")) else "other"


def shares(metadata):
    """({kind of operation: share of the time}, {part of the model: share}), largest first."""
    kinds, parts = Counter(), Counter()
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            took = node.op_end_rel_micros - node.op_start_rel_micros
            # The label reads "name = Kind(inputs)".
            kind = node.timeline_label.partition(" = ")[2].partition("(")[0] or node.node_name
            if "PartitionedCall" in kind:  # the operations of a function called are there, too
                continue
            kinds[kind] += took
            parts[model_part(node.node_name)] += took
    return tuple({k: n / max(sum(c.values()), 1) for k, n in c.most_common()} for c in (kinds, parts))


def measure(settings, steps):
    """The figures of one graph; see `train_throughput.py` for their meaning."""
    dataset = coco.load(data_folder(settings), "train")
    config = settings.config
    tfv1.set_random_seed(0)
    cv2.setNumThreads(threads())
    pieces = implementations(settings.flags)
    flow = pieces["DATA_PIPELINE"](dataset, config, 0, 0)
    flow.reset_state()
    batches = iter(flow)
    data_seconds = []
    for _ in range(WARM_UP + steps):
        began = time.perf_counter()
        next(batches)
        data_seconds.append(time.perf_counter() - began)

    inputs = [tfv1.placeholder(s.dtype, s.shape, s.name) for s in specs(config)]
    losses = MaskRCNN(config, pieces).losses(unpack(inputs), 0)
    update = optimizer.build(config, tf.constant(1e-4)).minimize(tf.add_n(list(losses.values())))
    graph = tfv1.get_default_graph()
    operations = len(graph.get_operations())
    flops = tf.add_n(list(flop_counts(graph).values()))
    metadata = tfv1.RunMetadata()
    traced = tfv1.RunOptions(trace_level=tfv1.RunOptions.FULL_TRACE)
    seconds, work = [], []
    with tfv1.Session(config=session_config(threads())) as session:
        rate = matrix_rate(session)
        session.run(tfv1.global_variables_initializer())
        for i in range(WARM_UP + steps):
            feed = dict(zip(inputs, next(batches)))
            began = time.perf_counter()
            session.run(update, feed)
            if i >= WARM_UP:
                seconds.append(time.perf_counter() - began)
        session.run(update, feed, options=traced)
        session.run(update, feed, options=traced, run_metadata=metadata)
        work = [session.run(flops, dict(zip(inputs, next(batches)))) for _ in range(3)]
    kinds, parts = shares(metadata)
    step = float(np.median(seconds))
    return {
        "operations": operations,
        "gflop_an_image": float(np.mean(work)) / config.batch / 1e9,
        "matrix_gflops": rate / 1e9,
        "img_per_s": config.batch / step,
        "data_img_per_s": config.batch / float(np.mean(data_seconds[WARM_UP:])),
        "by_kind": kinds,
        "by_part": parts,
    }


@click.command()
@click.option("--preset", "name", default="shapes")
@click.option("--flags", default="", help="As for the trainer; or all.")
@click.option("--set", "changes", multiple=True)
@click.option("--steps", default=20)
def main(name, flags, changes, steps):
    """Measure one training graph."""
    settings = parse(",".join(PIECES) if flags == "all" else flags, 0, name, changes=changes)
    click.echo(json.dumps(measure(settings, steps)))


if __name__ == "__main__":
    main()
