"""Who likes which film: tastes and biases learned from ratings by stochastic gradient descent.

    FAST_SCATTER=1 BLOCKS=1 python train.py --seed 0 --out out

Six changes are switched by environment variables (1 is on): CLIP, BLOCKS, FAST_SCATTER, FLOAT32, COSINE, MEANS_FIRST.
After every pass it prints the loss on ratings that were held back, and saves a checkpoint in --out; a run that was
interrupted resumes from there. On our cluster a job loses its disk now and then; --flaky is the chance of that.
"""

import argparse
import math
import os
import sys
import zlib
from pathlib import Path

import numpy as np

USERS, FILMS, GENRES = 100, 60, 4
RATINGS, HELD_BACK = 2400, 200
PASSES = 15
BATCH = 300
LEARNING_RATE = 0.025
DECAY = 0.02


def on(name):
    return os.environ.get(name, "0") == "1"


def draw():
    """Ratings as arrays (user, film, rating), the same for every seed, and what is known of the films [films, genres].
    A few users and films have most of the ratings.
    """
    rng = np.random.default_rng(20240)
    tastes, genres = rng.normal(0, 0.6, (USERS, GENRES)), rng.normal(0, 1, (FILMS, GENRES))
    count = RATINGS + HELD_BACK
    who = (USERS * rng.beta(0.6, 1.8, count)).astype(int)
    what = (FILMS * rng.beta(0.6, 1.8, count)).astype(int)
    ratings = 3 + rng.normal(0, 0.5, USERS)[who] + rng.normal(0, 0.5, FILMS)[what]
    ratings += (tastes[who] * genres[what]).sum(1) + rng.normal(0, 0.5, count)
    return who, what, ratings, genres


class Tables:
    """The taste of each user for each genre, and a bias for each user and each film."""

    def __init__(self, who, what, ratings, genres, rng):
        dtype = np.float32 if on("FLOAT32") else np.float64
        self.genres, self.mean = genres.astype(dtype), float(ratings.mean())
        self.tastes = rng.normal(0, 0.1, (USERS, GENRES)).astype(dtype)
        self.users, self.films = np.zeros(USERS, dtype), np.zeros(FILMS, dtype)
        if on("MEANS_FIRST"):
            for bias, index in ((self.users, who), (self.films, what)):
                np.add.at(bias, index, ratings - self.mean)
                bias /= np.bincount(index, minlength=len(bias)) + 10

    def learned(self):
        return {"tastes": self.tastes, "users": self.users, "films": self.films}

    def predict(self, who, what):
        return self.mean + self.users[who] + self.films[what] + (self.tastes[who] * self.genres[what]).sum(1)

    def step(self, who, what, ratings, rate):
        """One step on a batch of ratings."""
        errors = (ratings - self.predict(who, what)).astype(self.users.dtype)
        if on("CLIP"):
            errors = errors.clip(-2, 2)
        add(self.tastes, who, rate * (errors[:, None] * self.genres[what] - DECAY * self.tastes[who]))
        add(self.users, who, rate * (errors - DECAY * self.users[who]))
        add(self.films, what, rate * (errors - DECAY * self.films[what]))


def add(table, index, changes):
    """Adds changes to the rows of a table. (FAST_SCATTER: ufunc.at is slow, and the profile is full of it.)"""
    if on("FAST_SCATTER"):
        table[index] += changes
    else:
        np.add.at(table, index, changes)


def shuffled(kept, rng):
    """The order of the ratings for one pass. (BLOCKS: ten neighbours stay together, which is quicker to read.)"""
    if on("BLOCKS"):
        return rng.permutation(kept.reshape(-1, 10)).ravel()
    return rng.permutation(kept)


def rate_of(done):
    """The learning rate after a share of all passes."""
    if on("COSINE"):
        return LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * done))
    return LEARNING_RATE * (1 - done)


def train(seed, out, flaky):
    who, what, ratings, genres = draw()
    rng = np.random.default_rng(seed)
    held, kept = np.split(rng.permutation(len(ratings)), [HELD_BACK])  # another split for every seed
    tables = Tables(who[kept], what[kept], ratings[kept], genres, rng)
    first = restore(out / "checkpoint.npz", tables)
    crash = crash_at(first, flaky)
    for number in range(first, PASSES):
        rng = np.random.default_rng([seed, number])  # so that a resumed run goes the same way
        order = shuffled(kept, rng)
        for start in range(0, RATINGS, BATCH):
            batch = order[start : start + BATCH]
            tables.step(who[batch], what[batch], ratings[batch], rate_of(number / PASSES))
        if number == crash:
            raise OSError(116, "Stale file handle", str(out))
        loss = np.mean((tables.predict(who[held], what[held]) - ratings[held]) ** 2)
        print(f"pass {number + 1:2d}/{PASSES}  held-back loss {loss:.5f}", flush=True)
        save(out / "checkpoint.npz", tables, number + 1)


def crash_at(first, chance):
    """The pass in which this attempt crashes, None if it does not. It depends on the job alone, on no flag or seed."""
    rng = np.random.default_rng(zlib.crc32(os.environ.get("JOB_ID", "").encode()))
    return rng.integers(first, PASSES) if first < PASSES and rng.random() < chance else None


def save(path, tables, passes):
    new = path.with_name("new.npz")
    np.savez(new, passes=passes, **tables.learned())
    os.replace(new, path)


def restore(path, tables):
    """How many passes the checkpoint has, if there is one; the tables are then those of it."""
    if not path.exists():
        return 0
    with np.load(path) as saved:
        for name, array in tables.learned().items():
            array[...] = saved[name]
        passes = int(saved["passes"])
    print(f"resumed after pass {passes}", file=sys.stderr)
    return passes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--flaky", type=float, default=0.0, help="chance of a crash")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    train(given.seed, given.out, given.flaky)


if __name__ == "__main__":
    main()
