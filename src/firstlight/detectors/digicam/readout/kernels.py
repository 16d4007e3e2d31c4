"""Compiled loops over waveforms."""

from __future__ import annotations

from firstlight.compiled import kernel

__all__ = ["sort_pixels"]


@kernel
def sort_pixels(row, places, out):  # type: ignore[no-untyped-def]
    """Put the traces of an event in the order of pixel numbers.

    Parameters
    ----------
    row : ndarray of int16, shape (n_pixels * n_samples,)
        As read out, channel by channel.
    places : ndarray of int64, shape (n_pixels,)
        Pixel of each channel.
    out : ndarray of uint16, shape (n_pixels, n_samples)
        Filled.

    Returns
    -------
    bool
        Whether no sample is negative.
    """
    n_pixels, n_samples = out.shape
    signs = 0
    for channel in range(n_pixels):
        pixel = places[channel]
        start = channel * n_samples
        for sample in range(n_samples):
            value = row[start + sample]
            signs |= value
            out[pixel, sample] = value
    return signs >= 0
