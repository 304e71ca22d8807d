"""How unlikely what was drawn is, if it was drawn as it should be: p-values, in plain Python. Free of TensorFlow."""

import math

import numpy as np

# No false alarm in a million correct runs, about; a fault that is not tiny stays below this by far.
ALPHA = 1e-6


def chi_square_tail(x, k):
    """P(X >= x) for chi-square of k degrees of freedom, by its finite sum (Abramowitz and Stegun 26.4.4 and 26.4.5)."""
    if k == 0:
        return 1.0
    half = max(x, 0.0) / 2
    if half == 0:
        return 1.0
    tail = math.erfc(math.sqrt(half)) if k % 2 else 0.0
    start = 0.5 if k % 2 else 0.0
    terms = (math.exp(-half + (start + j) * math.log(half) - math.lgamma(start + j + 1)) for j in range(k // 2))
    return min(1.0, tail + sum(terms))


def poisson_tail(n, mean):
    """P(N >= n) for a Poisson count of that mean."""
    if n <= 0:
        return 1.0
    first = math.exp(-mean + n * math.log(mean) - math.lgamma(n + 1))
    total, term, k = 0.0, first, n
    while term > total * 1e-17:
        total += term
        k += 1
        term *= mean / k
    return min(1.0, total)


def binomial_two_sided(k, n, p=0.5):
    """P of a count at least as improbable as k, of n draws of probability p."""
    log = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(n + 1)
    ]
    return min(1.0, sum(math.exp(v) for v in log if v <= log[k] + 1e-9))


class Inclusions:
    """How often the members of groups were drawn without replacement, against equal chances for every member.

    A draw of k out of n takes from a group of m a hypergeometric number: mean k m / n; covariances with other groups
    follow. Sums over independent draws are compared by Pearson's quadratic form with their joint covariance.
    """

    def __init__(self, groups):
        self._excess, self._covariance = np.zeros(groups), np.zeros((groups, groups))

    def add(self, sizes, drawn):
        """One draw: how many members each group has, and how many of them were drawn."""
        n, k = sizes.sum(), drawn.sum()
        if n < 2:
            return
        share = sizes / n
        self._excess += drawn - k * share
        self._covariance += k * (n - k) / (n - 1) * (np.diag(share) - np.outer(share, share))

    def p_value(self):
        values, vectors = np.linalg.eigh(self._covariance)
        real = values > 1e-9 * max(values.max(initial=0), 1)
        projected = vectors[:, real].T @ self._excess
        return chi_square_tail(float((projected**2 / values[real]).sum()), int(real.sum()))
