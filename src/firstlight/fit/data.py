"""What a fit was given: kept with its result, so that channels can be fitted again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["Estimator", "FitData"]

Estimator = Literal["poisson", "binomial", "gaussian", "unweighted"]


@dataclass(frozen=True, eq=False)
class FitData:
    """Data and conditions of a fit of many channels.

    Arrays are kept in the smallest shape that was given: what is the same for all channels stands there once.

    Parameters
    ----------
    counts : ndarray, shape (n_channels, n_points)
        Of any type of number; NaN is a point that is not used.
    x : ndarray of float64, shape (n_x,) or (n_channels, n_x)
        Centres (n_x = n_points) or, with `edges`, edges (n_x = n_points + 1), before the shift.
    exposure : ndarray of float64, shape (), (n_points,) or (n_channels, n_points)
        Expected counts are exposure times model. A point of exposure 0 is not used.
    mask : ndarray of bool, shape (n_points,) or (n_channels, n_points), optional
        True where a point is used; None: everywhere.
    sigma : ndarray of float64, shape (), (n_points,) or (n_channels, n_points), optional
        Standard deviations of the counts; for the estimator "gaussian".
    shift : ndarray of float64, shape (n_channels,), optional
        The model sees x - shift.
    edges : bool
        Whether x are edges of bins, over which the model is integrated.
    estimator : {"poisson", "binomial", "gaussian", "unweighted"}
        What was minimised.
    fixed : mapping of str to ndarray, shape () or (n_channels,)
        Parameters that were not fitted, with their values.
    bounds : mapping of str to tuple of float
        Bounds that replace those of the model.
    """

    counts: NDArray[Any]
    x: FloatArray
    exposure: FloatArray
    mask: NDArray[np.bool_] | None = None
    sigma: FloatArray | None = None
    shift: FloatArray | None = None
    edges: bool = False
    estimator: Estimator = "poisson"
    fixed: Mapping[str, FloatArray] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return int(self.counts.shape[0])

    @property
    def n_points(self) -> int:
        """Number of points of a channel."""
        return int(self.counts.shape[1])

    def select(self, channels: Sequence[int] | NDArray[Any] | ArrayLike) -> FitData:
        """Return the data of some channels.

        Parameters
        ----------
        channels : array-like of int or bool
            Index of axis 0.
        """
        chosen = np.asarray(channels)

        def part(array: NDArray[Any] | None, n_axes: int) -> Any:
            return array[chosen] if array is not None and np.ndim(array) == n_axes else array

        return FitData(
            counts=self.counts[chosen],
            x=part(self.x, 2),
            exposure=part(self.exposure, 2),
            mask=part(self.mask, 2),
            sigma=part(self.sigma, 2),
            shift=part(self.shift, 1),
            edges=self.edges,
            estimator=self.estimator,
            fixed={name: part(np.asarray(value, dtype=np.float64), 1) for name, value in self.fixed.items()},
            bounds=dict(self.bounds),
        )

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments with which `fit_many` repeats the fit of counts and x."""
        return {
            "exposure": self.exposure,
            "mask": self.mask,
            "sigma": self.sigma,
            "shift": self.shift,
            "edges": self.edges,
            "estimator": self.estimator,
            "fixed": dict(self.fixed),
            "bounds": dict(self.bounds),
        }
