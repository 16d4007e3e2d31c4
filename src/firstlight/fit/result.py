"""What fits of many channels give: values, errors, goodness, and how each fit went."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl
    from numpy.typing import ArrayLike, NDArray

    from firstlight.data.schema import Block, Table
    from firstlight.fit.data import FitData
    from firstlight.fit.model import Model

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

__all__ = ["FitResult", "Rung", "Status", "unit_text"]


class Status(IntEnum):
    """How the fit of a channel ended."""

    ok = 0
    """Converged; all fitted parameters have errors."""
    at_bound = 1
    """Converged with a parameter on its bound, which has no error; the others have theirs for it fixed there."""
    max_iter = 2
    """Did not converge within the number of iterations."""
    not_constrained = 3
    """The data do not tell a parameter, or only a combination of some: no errors for those."""
    no_data = 4
    """No used point, or no counts: nothing was fitted."""
    failed = 5
    """No start value, or no step, with a finite deviance."""


class Rung(IntEnum):
    """Which attempt gave the result of a channel."""

    own = 0
    """Its own start values."""
    global_start = 1
    """The start values of the summed curve."""
    reduced = 2
    """Weak parameters fixed to those of the summed curve."""
    iminuit = 3
    """A minimum found by MINUIT."""


def unit_text(unit: str, x_unit: str, y_unit: str) -> str:
    """Return the unit of a parameter, given those of the data.

    Parameters
    ----------
    unit : str
        As in `Parameter.unit`: ``"y/x"``.
    x_unit, y_unit : str
        Units of x and of the rate: ``"DAC"``, ``"hits/s"``.
    """
    parts = unit.split("/")
    above = parts[0].replace("y", y_unit).replace("x", x_unit) or "1"
    below = [part.replace("y", y_unit).replace("x", x_unit) for part in parts[1:]]
    text = "/".join([above, *(part for part in below if part)])
    return "" if text == "1" else text


@dataclass(frozen=True, eq=False, repr=False)
class FitResult:
    """Results of the fits of many channels with one model.

    Parameters
    ----------
    model : Model
        What was fitted.
    estimator : str
        ``"poisson"``, ``"binomial"``, ``"gaussian"`` or ``"unweighted"``.
    evaluation : str
        ``"at bin centres"`` or ``"integrated over bins"``.
    values, errors : ndarray, shape (n_channels, n_parameters)
        NaN errors for parameters that were fixed, that stand at a bound, or that the data do not tell.
    covariance : ndarray, shape (n_channels, n_parameters, n_parameters)
        From the expected information at the minimum; NaN where errors are.
    at_bound, fixed : ndarray of bool, shape (n_channels, n_parameters)
        Parameters that ended on a bound, or nearer to it than a twentieth of their error (where the error of a rate next
        to zero says nothing), and parameters that were not fitted.
    deviance : ndarray, shape (n_channels,)
        At the minimum; NaN without one.
    ndf : ndarray of int64, shape (n_channels,)
        Used points less fitted parameters that are not at a bound.
    p_value : ndarray, shape (n_channels,)
        Calibrated for few counts, see `firstlight.fit.goodness`.
    status, rung : ndarray of uint8, shape (n_channels,)
        Values of `Status` and `Rung`.
    iterations : ndarray of int64, shape (n_channels,)
        Steps tried, of the attempt that was kept.
    start : ndarray, shape (n_channels, n_parameters)
        Start values, within the bounds.
    total : ndarray, shape (n_channels,)
        Sum of the counts used.
    data : FitData
        What was given.
    """

    model: Model
    estimator: str
    evaluation: str
    values: FloatArray
    errors: FloatArray
    covariance: FloatArray
    at_bound: BoolArray
    fixed: BoolArray
    deviance: FloatArray
    ndf: NDArray[np.int64]
    p_value: FloatArray
    status: NDArray[np.uint8]
    rung: NDArray[np.uint8]
    iterations: NDArray[np.int64]
    start: FloatArray
    total: FloatArray
    data: FitData = field(repr=False)

    def __len__(self) -> int:
        return int(self.status.size)

    def __repr__(self) -> str:
        statuses = Counter(Status(int(value)).name for value in self.status)
        rungs = Counter(Rung(int(value)).name for value in self.rung if value)
        parts = [f"{statuses[one.name]} {one.name}" for one in Status if statuses[one.name]]
        parts += [f"{rungs[one.name]} by {one.name}" for one in Rung if rungs[one.name]]
        return (
            f"FitResult({self.model.name}, {len(self)} channels, {self.estimator}, {self.evaluation}: "
            f"{', '.join(parts)})"
        )

    @property
    def ok(self) -> BoolArray:
        """Channels that converged with errors for all fitted parameters, shape (n_channels,)."""
        return np.asarray(self.status == Status.ok)

    def value(self, name: str) -> FloatArray:
        """Return the values of one parameter, shape (n_channels,).

        Raises
        ------
        UsageError
            If the model has none of that name; names its nearest neighbours.
        """
        return self.values[:, self.model.index(name)]

    def error(self, name: str) -> FloatArray:
        """Return the errors of one parameter, shape (n_channels,).

        Raises
        ------
        UsageError
            If the model has none of that name; names its nearest neighbours.
        """
        return self.errors[:, self.model.index(name)]

    def expected(self, channels: Sequence[int] | ArrayLike | None = None) -> FloatArray:
        """Return the expected counts at all points, used or not.

        Parameters
        ----------
        channels : array-like of int or bool, optional
            Index of the channels; all by default.

        Returns
        -------
        ndarray, shape (n_chosen, n_points)
            NaN for channels without values.
        """
        from firstlight.fit.blocks import expected_counts

        chosen = slice(None) if channels is None else np.atleast_1d(np.asarray(channels))
        data = self.data if channels is None else self.data.select(np.atleast_1d(np.asarray(channels)))
        return expected_counts(self.model, data, self.values[chosen])

    def pulls(self, truth: Mapping[str, ArrayLike]) -> dict[str, FloatArray]:
        """Return the deviations from the truth in standard errors, shape (n_channels,) each.

        Parameters
        ----------
        truth : mapping of str to float or array-like, shape (n_channels,)
            True values of some parameters.

        Raises
        ------
        UsageError
            If the model has no parameter of a name; names its nearest neighbours.
        """
        return {
            name: np.asarray((self.value(name) - np.asarray(true, dtype=np.float64)) / self.error(name))
            for name, true in truth.items()
        }

    def to_polars(self) -> pl.DataFrame:
        """Return a frame with one row a channel.

        Columns are channel, each parameter and its ``_error``, deviance, ndf, p_value, status and rung as words,
        iterations and total. What is not known is null.
        """
        return self.table().frame

    def table(self, x_unit: str = "", y_unit: str = "") -> Table:
        """Return the results as a table with types, units and descriptions.

        Parameters
        ----------
        x_unit : str
            Unit of x.
        y_unit : str
            Unit of the model: that of counts over exposure.
        """
        import polars as pl

        from firstlight.data.schema import Column, Table, TableSchema

        columns = [Column("channel", pl.Int64, "number of the channel")]
        arrays: dict[str, Any] = {"channel": np.arange(len(self))}
        for index, parameter in enumerate(self.model.parameters):
            unit = unit_text(parameter.unit, x_unit, y_unit)
            name = parameter.name
            columns.append(Column(name, pl.Float64, parameter.description, unit, nullable=True))
            error = f"standard error of {name}"
            columns.append(Column(f"{name}_error", pl.Float64, error, unit, minimum=0, nullable=True))
            arrays[name], arrays[f"{name}_error"] = self.values[:, index], self.errors[:, index]
        columns += [
            Column("deviance", pl.Float64, "deviance at the minimum", nullable=True),
            Column("ndf", pl.Int64, "used points less fitted parameters"),
            Column("p_value", pl.Float64, "probability of a larger deviance", "", 0, 1, nullable=True),
            Column("status", pl.String, f"how the fit ended: {', '.join(Status.__members__)}"),
            Column("rung", pl.String, f"attempt that gave the result: {', '.join(Rung.__members__)}"),
            Column("iterations", pl.Int64, "steps of the fit"),
            Column("total", pl.Float64, "sum of the counts used"),
        ]
        for name in ("deviance", "ndf", "p_value", "iterations", "total"):
            arrays[name] = getattr(self, name)
        arrays["status"] = np.array([one.name for one in Status])[self.status]
        arrays["rung"] = np.array([one.name for one in Rung])[self.rung]
        schema = TableSchema("fits", tuple(columns), f"one channel, fitted with {self.model.name}")
        return Table.from_frame(schema, pl.DataFrame(arrays))

    def covariance_block(self) -> Block:
        """Return the covariances as a block over channel, parameter and other parameter."""
        from firstlight.data.schema import Block

        names = self.model.names
        return Block(
            self.covariance,
            ("channel", "parameter", "other_parameter"),
            description=f"covariance of the parameters of {self.model.name}",
            coordinates={"parameter": names, "other_parameter": names},
        )
