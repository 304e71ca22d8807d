"""A small network that reads noisy digits, in numpy alone.

    python train.py --seed 0 --out out

Six changes are on their way in, each behind an option. Writes one line of metrics.jsonl in --out per evaluation, as
    {"step": 300, "val": {"accuracy": 0.89, "loss": 0.33}}
"""

import argparse
import json
from pathlib import Path

import numpy as np

FONT = """
.###. ..#.. .###. .###. ...#. ##### .###. ##### .###. .###.
#...# .##.. #...# #...# ..##. #.... #.... ....# #...# #...#
#..## ..#.. ....# ....# .#.#. ####. #.... ...#. #...# #...#
#.#.# ..#.. ..##. ..##. #..#. ....# ####. ..#.. .###. .####
##..# ..#.. .#... ....# ##### ....# #...# .#... #...# ....#
#...# ..#.. #.... #...# ...#. #...# #...# .#... #...# ....#
.###. .###. ##### .###. ...#. .###. .###. .#... .###. .###.
"""
SIZE = 10  # pixels of a side of an image
CLASSES = 10
HIDDEN = 64
BATCH = 32
MICRO_BATCHES = 2  # of such a size, to a step with --accumulate
LEARNING_RATE = 0.3
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
STEPS = 800
EVALUATE_EVERY = 100


def glyphs():
    """The ten digits [10, 7, 5], of zeros and ones."""
    rows = [line.split() for line in FONT.split("\n") if line]
    return np.array([[[pixel == "#" for pixel in row[digit]] for row in rows] for digit in range(CLASSES)], float)


def draw(count, rng):
    """count noisy digits: images [count, 10, 10], labels [count]. Each is faint or bold, and some pixels are lost."""
    labels = rng.integers(CLASSES, size=count)
    shapes = glyphs()[labels] * rng.uniform(0.5, 1.5, (count, 1, 1)) * (rng.random((count, 7, 5)) > 0.1)
    images = rng.normal(0, 0.25, (count, SIZE, SIZE))
    images[:, 1:8, 2:7] += shapes
    return images, labels


class Batches:
    """Batches of the training images, shuffled anew for every pass."""

    def __init__(self, images, labels, size, prefetch, rng):
        self.images, self.labels, self.size, self.rng = images, labels, size, rng
        self.prefetch = prefetch  # passes that are shuffled and laid out in memory at once
        self.order, self.at = np.empty(0, int), 0

    def next(self):
        if self.at + self.size > len(self.order):
            passes = max(1, self.prefetch)
            self.order = np.concatenate([self.rng.permutation(len(self.labels)) for _ in range(passes)])
            self.at = 0
        chosen = self.order[self.at : self.at + self.size]
        self.at += self.size
        return self.images[chosen], self.labels[chosen]


def shift_each(images, rng):
    """Each image moved by up to a pixel, one after another."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    moved = np.empty_like(images)
    for index, image in enumerate(padded):
        y, x = rng.integers(3), rng.integers(3)
        moved[index] = image[y : y + SIZE, x : x + SIZE]
    return moved


def shift_batch(images, rng):
    """The same for the whole batch, by one look-up."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    y, x = rng.integers(3, size=(2, len(images), 1)) + np.arange(SIZE)
    return padded[np.arange(len(images))[:, None, None], y[:, :, None], x[:, None, :]]


def loss_in_steps(logits, labels):
    """Mean cross-entropy and its gradient [n, 10], by way of the probabilities."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = powers / powers.sum(1, keepdims=True)
    targets = np.eye(CLASSES, dtype=logits.dtype)[labels]
    tiny = np.finfo(logits.dtype).tiny
    loss = -(targets * np.log(probabilities + tiny)).sum(1).mean()
    return loss, (probabilities - targets) / len(labels)


def loss_fused(logits, labels):
    """The same, from the logits, without the table of targets."""
    shifted = logits - logits.max(1, keepdims=True)
    totals = np.log(np.exp(shifted).sum(1))
    index = np.arange(len(labels))
    loss = (totals - shifted[index, labels]).mean()
    gradient = np.exp(shifted - totals[:, None])
    gradient[index, labels] -= 1
    gradient /= len(labels)
    return loss, gradient


class Network:
    """Two layers with a ReLU between them."""

    def __init__(self, dtype, rng):
        inputs = SIZE * SIZE
        self.weights = [
            rng.normal(0, np.sqrt(2 / inputs), (inputs, HIDDEN)).astype(dtype),
            np.zeros(HIDDEN, dtype),
            rng.normal(0, np.sqrt(1 / HIDDEN), (HIDDEN, CLASSES)).astype(dtype),
            np.zeros(CLASSES, dtype),
        ]
        self.speeds = [np.zeros_like(weight) for weight in self.weights]

    def forward(self, images):
        first, bias, second, offset = self.weights
        flat = images.reshape(len(images), -1)
        hidden = np.maximum(flat @ first + bias, 0)
        return flat, hidden, hidden @ second + offset

    def gradients(self, images, labels, loss):
        """Those of the mean loss of a batch, one for each of the weights."""
        flat, hidden, logits = self.forward(images)
        _, gradient = loss(logits, labels)
        back = (gradient @ self.weights[2].T) * (hidden > 0)
        return [flat.T @ back, back.sum(0), hidden.T @ gradient, gradient.sum(0)]

    def step(self, gradients, rate):
        """One step of gradient descent with momentum."""
        for weight, speed, gradient in zip(self.weights, self.speeds, gradients):
            speed *= MOMENTUM
            speed -= rate * (gradient + WEIGHT_DECAY * weight)
            weight += speed


def train(given):
    data = np.random.default_rng(2024)  # the data are the same for every seed
    dtype = np.float32 if given.float32 else np.float64
    (images, labels), (val_images, val_labels) = draw(4000, data), draw(2000, data)
    images, val_images = images.astype(dtype), shift_batch(val_images, data).astype(dtype)
    rng = np.random.default_rng(given.seed)
    network = Network(dtype, rng)
    shift = shift_batch if given.batch_shift else shift_each
    loss = loss_fused if given.fused_loss else loss_in_steps
    batches = Batches(images, labels, BATCH, 4 if given.prefetch else 1, rng)
    parts = MICRO_BATCHES if given.accumulate else 1
    rate = LEARNING_RATE * (parts if given.scale_lr else 1)  # the linear scaling rule: as much larger as the batch
    with open(given.out / "metrics.jsonl", "w") as file:
        for step in range(1, STEPS + 1):
            gradients = None
            for _ in range(parts):
                pixels, wanted = batches.next()
                new = network.gradients(shift(pixels, rng), wanted, loss)
                gradients = [one + more for one, more in zip(gradients, new)] if gradients else new
            network.step(gradients, rate * (1 - step / (STEPS + 1)))
            if step % EVALUATE_EVERY == 0:
                logits = network.forward(val_images)[-1]
                accuracy = float((logits.argmax(1) == val_labels).mean())
                line = {"step": step, "val": {"accuracy": accuracy, "loss": float(loss(logits, val_labels)[0])}}
                print(json.dumps(line), file=file, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--float32", action="store_true", help="compute in single precision")
    parser.add_argument("--accumulate", action="store_true", help=f"{MICRO_BATCHES} batches to a step")
    parser.add_argument("--prefetch", action="store_true", help="shuffle four passes at once")
    parser.add_argument("--batch-shift", action="store_true", help="shift the images of a batch all at once")
    parser.add_argument("--scale-lr", action="store_true", help="a learning rate that grows with the batch")
    parser.add_argument("--fused-loss", action="store_true", help="cross-entropy from the logits")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    train(given)


if __name__ == "__main__":
    main()
