"""A small convolutional network that tells four shapes apart, in Keras.

    python train.py --seed 0 --out out

Changes are switched here, until they are all in. Curves for TensorBoard are written to --out/logs.
"""

import argparse
from pathlib import Path

import numpy as np
import tensorflow as tf

USE_MIXED_PRECISION = False  # compute in bfloat16
USE_FLOAT32_HEAD = False  # with mixed precision: logits and loss in float32
USE_STREAMING = False  # read the shards one by one instead of all into memory
USE_COSINE_DECAY = False  # instead of a constant learning rate
USE_STEPS_IN_GRAPH = False  # ten steps to a call of the graph

SIZE = 16
CLASSES = ("disc", "square", "cross", "ring")
TRAIN, VALIDATION = 3200, 800
BATCH = 32
EPOCHS = 8
LEARNING_RATE = 3e-3


def draw(count, rng):
    """count shapes with noise: images [count, 16, 16, 1], labels [count]."""
    labels = rng.integers(len(CLASSES), size=count)
    y, x = np.mgrid[:SIZE, :SIZE]
    images = rng.normal(0, 0.35, (count, SIZE, SIZE))
    for image, label in zip(images, labels):
        centre, radius = rng.uniform(5, 10, 2), rng.uniform(3, 5)
        dy, dx = abs(y - centre[0]), abs(x - centre[1])
        far = np.hypot(dy, dx)
        image += [
            far < radius,
            np.maximum(dy, dx) < radius * 0.9,
            (np.minimum(dy, dx) < radius / 3) & (np.maximum(dy, dx) < radius),
            (far < radius) & (far > radius / 2),
        ][label]
    return images[..., None].astype(np.float32), labels.astype(np.int32)


def shards(images, labels):
    """The training set as it lies on disk: eight shards, recorded over some weeks, mostly a class at a time."""
    order = np.argsort(labels + np.random.default_rng(1).normal(0, 1.5, len(labels)))
    return [(images[part], labels[part]) for part in np.array_split(order, 8)]


def in_memory(images, labels, seed):
    """Batches of the training set, shuffled as a whole."""
    data = tf.data.Dataset.from_tensor_slices((images, labels))
    return data.shuffle(len(labels), seed=seed).batch(BATCH)


def streamed(images, labels, seed):
    """Batches of the training set, shard after shard, shuffled on the way."""
    data = None
    for shard in shards(images, labels):
        part = tf.data.Dataset.from_tensor_slices(shard)
        data = part if data is None else data.concatenate(part)
    return data.shuffle(4 * BATCH, seed=seed).batch(BATCH)


def build():
    """The network: images to logits."""
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input((SIZE, SIZE, 1)),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(len(CLASSES), dtype="float32" if USE_FLOAT32_HEAD else None),
        ]
    )


def learning_rate(steps):
    if USE_COSINE_DECAY:
        return tf.keras.optimizers.schedules.CosineDecay(2 * LEARNING_RATE, steps)
    return LEARNING_RATE


def train(seed, out):
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    if USE_MIXED_PRECISION:
        tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    rng = np.random.default_rng(2024)  # the shapes are the same for every seed
    images, labels = draw(TRAIN, rng)
    data = (streamed if USE_STREAMING else in_memory)(images, labels, seed)
    validation = tf.data.Dataset.from_tensor_slices(draw(VALIDATION, rng)).batch(200)
    model = build()
    model.compile(
        tf.keras.optimizers.Adam(learning_rate(EPOCHS * TRAIN // BATCH)),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=10 if USE_STEPS_IN_GRAPH else 1,
    )
    board = tf.keras.callbacks.TensorBoard(out / "logs", write_graph=False)
    model.fit(data, epochs=EPOCHS, validation_data=validation, callbacks=[board], verbose=2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    train(given.seed, given.out)


if __name__ == "__main__":
    main()
