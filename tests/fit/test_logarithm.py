"""The logarithm of the fits is that of the library."""

from __future__ import annotations

import numpy as np

from firstlight.compiled import kernel
from firstlight.fit.logarithm import logarithm


@kernel
def _all(x, out):
    for i in range(x.size):
        out[i] = logarithm(x[i])


def test_agrees_with_the_library():
    rng = np.random.default_rng(8)
    x = np.concatenate(
        [
            10.0 ** rng.uniform(-300, 300, 100_000),
            rng.uniform(0.5, 2.0, 100_000),
            1 + rng.normal(0, 1e-6, 10_000),
        ]
    )
    out = np.empty(x.size)
    _all(x, out)
    exact = np.log(x)
    assert np.max(np.abs(out - exact) / np.maximum(1, np.abs(exact))) < 1e-15
    near = np.abs(x - 1) < 0.3
    assert np.max(np.abs(out[near] / exact[near] - 1)) < 1e-14


def test_exact_places():
    x = np.array([1.0, 2.0, 0.5, 4.0, 2.2250738585072014e-308, 1e300])
    out = np.empty(x.size)
    _all(x, out)
    np.testing.assert_allclose(out, np.log(x), rtol=2e-16)
    assert out[0] == 0.0
