"""The parameters of a metric on a grid, each point weighted by how well it explains the runs of all sets.

Arrays over the whole grid are [sigma, level, drop, SEED_VARIANCE_SHARES, COMMON_DROP_SHARES]; the SeedModel's lack the
last axis.
"""

import math
from typing import NamedTuple

import numpy as np

from bisect_cli.evidence.noise_prior import SMALLEST_DROP_IN_NOISE
from bisect_cli.evidence.seed_model import SeedModel, log_density

COMMON_DROP_SHARES = np.array([0.5, 0.95])  # share of broken sets whose drop is the campaign's; either, with even odds
# Between the smallest and the largest drop, in logarithms; steps of 2 to 15 %, finest where drops are small.
DROPS = ((np.arange(28) + 0.5) / 28) ** 1.5
LEFT_OUT = 10  # grid points further below the likeliest, in logarithms of their weight, are left out


class ParameterGrid(NamedTuple):
    """What the parameters of a metric may be, at K grid points. Each field is [K], and normalised.

    log_weight: of the prior and the baseline's runs. mean: of runs of the first seed. sigma: their standard deviation.
    drop: what a broken set loses, if its drop is the campaign's. common: how often it is.
    """

    log_weight: np.ndarray
    mean: np.ndarray
    sigma: np.ndarray
    drop: np.ndarray
    common: np.ndarray


def weigh(reference, sets, noise_prior):
    """The ParameterGrid that is left, and {set: (log odds, log likelihoods)}.

    reference: the baseline's runs, (seed, value). sets: {set: its runs}. The log odds of a set are broken to fine, of
    its runs, given all other sets. The log likelihoods, [2, K], are of its runs if it is fine and if it is broken.
    """
    model = SeedModel(reference, [seed for runs in sets.values() for seed, _ in runs], noise_prior)
    drop, blur = _drops(model, noise_prior)
    prior = _log_prior(model, drop, noise_prior)
    weight, either, likelihoods = prior, {}, {}
    for one, runs in sets.items():
        fine, broken = _log_likelihoods(runs, model, drop, blur) if runs else (np.zeros_like(prior),) * 2
        likelihoods[one] = np.stack([fine, broken])
        either[one] = np.logaddexp(fine, broken)
        weight = weight + either[one]
    kept = weight > weight.max() - LEFT_OUT
    said = {}
    for one, both in likelihoods.items():
        fine, broken = (log_sum(weight - either[one] + each) for each in both)
        said[one] = float(broken - fine), both[:, kept]
    fields = prior, *(each[..., None] for each in (model.level, model.own, drop)), COMMON_DROP_SHARES
    return ParameterGrid(*(each[kept] for each in np.broadcast_arrays(*fields))), said


def log_sum(logs, axis=None):
    """The logarithm of the sum of what `logs` are the logarithms of, over an axis or all."""
    top = logs.max(axis=axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.exp(logs - top).sum(axis=axis))


def _drops(model, noise_prior):
    """The drops at the grid points, and the variance within a step of them: a drop lies anywhere within its step."""
    low = np.maximum(noise_prior.smallest_drop, SMALLEST_DROP_IN_NOISE * model.own)
    reach = np.maximum(model.center / low, 2)
    drop = low * reach ** DROPS[:, None]
    return drop, (drop * np.log(reach) * np.gradient(DROPS)[:, None]) ** 2 / 12


def _log_prior(model, drop, noise_prior):
    """The logarithm of the weight of the grid points by the prior and the baseline's runs."""
    # an inverse gamma of sigma^2; the grid's equal steps of log sigma are worth sigma^2 each
    weight = noise_prior.weight
    prior = -weight * np.log(model.sigma) - weight / 2 * noise_prior.noise**2 / model.sigma**2
    prior = prior + np.log(model.step) + np.zeros_like(model.level + drop)
    prior = prior + model.baseline()
    return np.repeat(prior[..., None], len(COMMON_DROP_SHARES), axis=-1)


def _log_likelihoods(runs, model, drop, blur):
    """Of the runs of one set, if it is fine and if it is broken."""
    expected = [model.expected(seed) for seed, _ in runs]
    fine = sum(log_density(value, *of_seed) for (_, value), of_seed in zip(runs, expected))[..., None]
    each = [log_density(value, mean - drop, np.sqrt(sd**2 + blur)) for (_, value), (mean, sd) in zip(runs, expected)]
    common = sum(each)
    own = np.logaddexp(_log_mean(common), sum(map(_log_mean, each))) - math.log(2)
    broken = np.logaddexp(
        np.log(COMMON_DROP_SHARES) + common[..., None], np.log1p(-COMMON_DROP_SHARES) + own[..., None]
    )
    return fine + np.zeros_like(broken), broken


def _log_mean(logs):
    """Over the drops, the last axis but one, kept."""
    top = logs.max(axis=-2, keepdims=True)
    return top + np.log(np.exp(logs - top).mean(axis=-2, keepdims=True))
