"""A curve of known shape, of which only the height is fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from firstlight.errors import UsageError
from firstlight.fit.model import Model, Parameter
from firstlight.fit.prototypes import curve_kernel, start_kernel

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["make_template"]


@curve_kernel
def _curve(
    x: FloatArray, p: FloatArray, constants: FloatArray, value: FloatArray, derivative: FloatArray
) -> None:
    last = constants.size - 1
    for i in range(value.size):
        height = constants[min(max(int(np.rint(x[i])), 0), last)]
        value[i] = p[0] * height
        derivative[0, i] = height


@start_kernel
def _start(
    x: FloatArray, counts: FloatArray, exposure: FloatArray, constants: FloatArray, p: FloatArray
) -> None:
    last = constants.size - 1
    seen, expected = 0.0, 0.0
    for i in range(x.size):
        seen += counts[i]
        expected += exposure[i] * constants[min(max(int(np.rint(x[i])), 0), last)]
    p[0] = seen / expected if expected > 0.0 else 0.0


def make_template(values: ArrayLike) -> Model:
    """Return a model that is a known curve times an amplitude.

    Parameters
    ----------
    values : array, shape (n,)
        The curve; ``x`` of a point is its index, 0 to n - 1.

    Returns
    -------
    Model
        With one parameter, ``amplitude``, at least 0.

    Raises
    ------
    UsageError
        If values are not finite, negative, or all 0.
    """
    curve = np.asarray(values, dtype=np.float64)
    if curve.ndim != 1 or not np.isfinite(curve).all() or (curve < 0).any() or not (curve > 0).any():
        what = "a template is a curve of finite numbers, none below 0 and not all 0"
        raise UsageError(what)
    amplitude = Parameter("amplitude", "height in units of the template", "y", lower=0.0)
    return Model(
        "template", (amplitude,), curve=_curve, start=_start, constants=tuple(curve.tolist()),
        formula="amplitude * template(x)",
    )  # fmt: skip
