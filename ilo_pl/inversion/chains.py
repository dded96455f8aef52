"""Whether chains have mixed: split R-hat and effective sample size (Gelman et al., Bayesian Data Analysis, 11.4-11.5)."""

from __future__ import annotations

import torch
from torch import Tensor

# Above it chains have not mixed; the book's own bound.
WORST_R_HAT = 1.1
LEAST_DRAWS = 4


def split_r_hat(draws: Tensor) -> Tensor:
    """Return by how much longer chains could narrow a spread: 1 where they agree.

    Each chain is cut into halves, so that one chain that drifts disagrees with itself.

    Args:
        draws: ``(C, T, K)``: K quantities along C chains.

    Returns:
        ``(K,)`` in float64; NaN for fewer than 4 draws and for quantities that never change.
    """
    if draws.shape[1] < LEAST_DRAWS:
        return _nothing(draws)
    within, total = _variances(_halves(draws))
    return (total / within).sqrt()


def effective_size(draws: Tensor) -> Tensor:
    """Return how many independent draws would tell the mean as well, of all chains together.

    Autocorrelations are summed while those of neighbouring pairs are above 0 and fall (Geyer 1992,
    doi:10.1214/ss/1177011137).

    Args:
        draws: ``(C, T, K)``.

    Returns:
        ``(K,)`` in float64; NaN as for :func:`split_r_hat`.
    """
    if draws.shape[1] < LEAST_DRAWS:
        return _nothing(draws)
    halves = _halves(draws)
    count, length = halves.shape[:2]
    within, total = _variances(halves)
    autocovariance = _autocovariance(halves).mean(0)
    correlation = 1 - (within - autocovariance) / total
    pairs = correlation[: length // 2 * 2].view(length // 2, 2, -1).sum(1)
    # A sum of two neighbours is above 0 in truth; from the first that is not, all is noise.
    pairs = pairs.cummin(0).values
    pairs = torch.where((pairs > 0).cummin(0).values, pairs, 0)
    times = (2 * pairs.sum(0) - 1).clamp(min=1 / count / length)
    return torch.where(total.isnan(), torch.nan, count * length / times)


def _nothing(draws: Tensor) -> Tensor:
    return draws.new_full(draws.shape[2:], torch.nan, dtype=torch.float64)


def _halves(draws: Tensor) -> Tensor:
    """Return the halves of chains as chains, ``(2 C, T // 2, K)``."""
    half = draws.shape[1] // 2
    return torch.cat([draws[:, :half], draws[:, draws.shape[1] - half :]]).double()


def _variances(chains: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variance within chains, and the estimate of that of the target, each ``(K,)``."""
    length = chains.shape[1]
    within = chains.var(1).mean(0)
    within = torch.where(within > 0, within, torch.nan)
    return within, (length - 1) / length * within + chains.mean(1).var(0)


def _autocovariance(chains: Tensor) -> Tensor:
    """Return the autocovariances of each chain at all lags, ``(C, T, K)``, by FFT."""
    length = chains.shape[1]
    centred = chains - chains.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, n=2 * length, dim=1).abs().square()
    found: Tensor = torch.fft.irfft(spectrum, n=2 * length, dim=1)
    return found[:, :length] / length
