"""What the original scripts do to one pixel, written from their description with scipy: the reference of legacy mode."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.special import erfc
from scipy.stats import chi2


def flux_equation(threshold, fraction, amplitude, width, position):
    """Return the default flux equation of the original."""
    distance = threshold - position
    linear = width / np.sqrt(np.pi) * np.exp(-((distance / width) ** 2)) - distance * erfc(distance / width)
    step = erfc(distance / (np.sqrt(2) * width)) / (2 * np.sqrt(2 * np.pi) * width)
    return fraction * amplitude / 2 * linear + (1 - fraction) * amplitude * step


def fit_pixel(counts, thresholds, live_time, start, zero_fraction=0.8):
    """Return (fit type, parameters, uncertainties) of one pixel, as the original finds them."""
    if np.count_nonzero(counts == 0) >= zero_fraction * counts.size:
        return -2, None, None
    used = np.flatnonzero(counts)
    cut = slice(used[0], used[-1] + 1)
    flux = counts[cut] / live_time[cut]
    sigma = np.sqrt(counts[cut]) / live_time[cut]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", OptimizeWarning)
        try:
            values, covariance = curve_fit(flux_equation, thresholds[cut], flux, p0=start, sigma=sigma)
        except (RuntimeError, TypeError):
            return -1, None, None
        expected = flux_equation(thresholds[cut], *values)
        total = np.sum(((flux - expected) / sigma) ** 2)
    if not np.isfinite(total):
        total = 0.0
    good = total < chi2.ppf(0.95, flux.size - 4) and total != 0 and (values > 0).all()
    return int(good), values, np.sqrt(np.diag(covariance))
