"""How unlikely what was drawn is, if it was drawn as it should be: p-values. Free of TensorFlow."""

import numpy as np
from scipy import special

# No false alarm in a million correct runs, about; a fault that is not tiny stays below this by far.
ALPHA = 1e-6


def chi_square_tail(x, k):
    """P(X >= x) for chi-square of k degrees of freedom; 1 without any."""
    return float(special.chdtrc(k, x)) if k else 1.0


def poisson_tail(n, mean):
    """P(N >= n) for a Poisson count of that mean."""
    return float(special.pdtrc(n - 1, mean)) if n > 0 else 1.0


def binomial_two_sided(k, n):
    """P of a count at least as far from n / 2 as k, of n draws of probability one half."""
    return min(1.0, 2 * float(special.bdtr(min(k, n - k), n, 0.5)))


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
