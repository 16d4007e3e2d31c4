"""Fits of many channels with one model: the checks, the engine, and what is tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from firstlight.errors import InputError, UsageError
from firstlight.fit.data import Estimator, FitData
from firstlight.fit.model import get_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from firstlight.fit.blocks import Attempt
    from firstlight.fit.model import Model
    from firstlight.fit.result import FitResult

    FloatArray = NDArray[np.float64]

__all__ = ["check_data", "fit_many"]


def fit_many(
    counts: ArrayLike,
    x: ArrayLike,
    model: str | Model,
    *,
    exposure: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    edges: bool = False,
    estimator: Estimator = "poisson",
    start: ArrayLike | None = None,
    fixed: Mapping[str, ArrayLike] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    constants: Sequence[float] | None = None,
    rescue: bool = True,
    threads: int | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 100,
    progress: Callable[[float], None] | None = None,
) -> FitResult:
    """Fit the same model to the data of each channel.

    Parameters
    ----------
    counts : array-like, shape (n_channels, n_points) or (n_points,)
        Of any type of number. NaN is a point that is not used.
    x : array-like, shape (n_points,) or (n_channels, n_points)
        Where the counts were taken; with `edges` one more entry.
    model : str or Model
        What is fitted; see `firstlight.fit.model_names`.
    exposure : array-like, shape (), (n_points,) or (n_channels, n_points), optional
        Expected counts are exposure times model: live time, or number of trials for "binomial". 1 by default. A
        point of exposure 0 is not used.
    mask : array-like of bool, shape (n_points,) or (n_channels, n_points), optional
        True where a point is used.
    sigma : array-like, shape (), (n_points,) or (n_channels, n_points), optional
        Standard deviations, for "gaussian".
    shift : array-like, shape () or (n_channels,), optional
        The model sees x - shift. A channel with a shift of NaN has no data.
    edges : bool
        Whether x are edges of bins: the model is integrated over them, by its own integral or by a 5-point
        Gauss-Legendre quadrature.
    estimator : {"poisson", "binomial", "gaussian", "unweighted"}
        What is minimised. The covariance of "unweighted" is scaled with the residuals.
    start : array-like, shape (n_parameters,) or (n_channels, n_parameters), optional
        Start values, moved to the nearest bound if outside; by default those of the model, from the data.
    fixed : mapping of str to float or array-like, shape (n_channels,), optional
        Parameters that are not fitted. A channel with a value of NaN has no data.
    bounds : mapping of str to (low, high), optional
        Bounds instead of those of the model.
    constants : sequence of float, optional
        Constants instead of those of the model.
    rescue : bool
        Whether fits that did not end well are tried again (`firstlight.fit.rescue`).
    threads : int, optional
        As many as there are processors by default. Results do not depend on it.
    tolerance : float
        A fit has converged when the next step promises to lower the deviance by less.
    max_iterations : int
        Largest number of steps.
    progress : callable, optional
        Called with the number of channels just done.

    Returns
    -------
    FitResult
        One fit a channel.

    Raises
    ------
    UsageError
        If an option, or the name of a model or parameter, is wrong.
    InputError
        If arrays do not fit together, counts are negative, or trials fewer than successes.
    """
    from firstlight.fit.blocks import Settings, available_threads, run_blocks

    chosen = get_model(model)
    if constants is not None:
        chosen = chosen.with_constants(constants)
    data = check_data(
        counts, x, chosen, exposure=exposure, mask=mask, sigma=sigma, shift=shift, edges=edges,
        estimator=estimator, fixed=fixed, bounds=bounds,
    )  # fmt: skip
    begin = _check_start(start, chosen, data)
    if threads is not None and threads < 1:
        what = f"threads must be at least 1, not {threads}"
        raise UsageError(what)
    if not tolerance > 0 or max_iterations < 0:
        what = f"tolerance {tolerance} and max_iterations {max_iterations} must be positive"
        raise UsageError(what)
    settings = Settings(
        available_threads() if threads is None else threads, tolerance, max_iterations, progress
    )
    attempt = run_blocks(chosen, data, begin, settings)
    rung = np.zeros(data.n_channels, dtype=np.uint8)
    if rescue:
        from firstlight.fit.rescue import climb

        climb(chosen, data, attempt, rung, settings)
    return _result(chosen, data, attempt, rung)


def _result(model: Model, data: FitData, attempt: Attempt, rung: NDArray[np.uint8]) -> FitResult:
    from firstlight.fit.goodness import p_values
    from firstlight.fit.result import FitResult

    covariance, ndf, deviance = attempt.covariance, attempt.wholes[:, 2], attempt.deviance
    if data.estimator == "unweighted":
        with np.errstate(divide="ignore", invalid="ignore"):
            covariance = covariance * np.where(ndf > 0, deviance / ndf, np.nan)[:, None, None]
    errors = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return FitResult(
        model=model,
        estimator=data.estimator,
        evaluation="integrated over bins" if data.edges else "at bin centres",
        values=attempt.values,
        errors=errors,
        covariance=covariance,
        at_bound=attempt.at_bound,
        fixed=attempt.fixed,
        deviance=deviance,
        ndf=ndf,
        p_value=p_values(data.estimator, deviance, ndf, attempt.numbers[:, 2], attempt.numbers[:, 3]),
        status=attempt.status.astype(np.uint8),
        rung=rung,
        iterations=attempt.wholes[:, 1],
        start=attempt.starts,
        total=attempt.total,
        data=data,
    )


def check_data(
    counts: ArrayLike,
    x: ArrayLike,
    model: Model,
    *,
    exposure: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    edges: bool = False,
    estimator: Estimator = "poisson",
    fixed: Mapping[str, ArrayLike] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> FitData:
    """Return what is fitted, after checks of shapes and ranges.

    Parameters
    ----------
    counts, x, model, exposure, mask, sigma, shift, edges, estimator, fixed, bounds
        As for `fit_many`.

    Raises
    ------
    UsageError
        If an option or the name of a parameter is wrong.
    InputError
        If arrays do not fit together, counts are negative, or trials fewer than successes.
    """
    if estimator not in get_args(Estimator):
        raise UsageError.unknown("estimator", str(estimator), get_args(Estimator))
    table = _numbers("counts", counts, keep=True)
    table = table[None, :] if table.ndim == 1 else table
    if table.ndim != 2:
        what = f"counts have the shape {table.shape}"
        raise InputError(what, hint="one row a channel, one column a point: (n_channels, n_points)")
    n_channels, n_points = table.shape
    abscissa = _numbers("x", x)
    n_x = n_points + edges
    if abscissa.ndim == 0 or abscissa.shape not in {(n_x,), (n_channels, n_x)}:
        hint = "edges=True needs one more edge than bins" if edges else "edges=True if x are edges of bins"
        what = f"x has the shape {abscissa.shape}, counts have {table.shape}: must be ({n_x},) or ({n_channels}, {n_x})"
        raise InputError(what, hint=hint)
    if edges and np.any(np.diff(abscissa, axis=-1) <= 0):
        what = f"edges do not increase at entry {np.argwhere(np.diff(abscissa, axis=-1) <= 0)[0].tolist()}"
        raise InputError(what, where="x")
    shapes = {(), (n_points,), (n_channels, n_points)}
    exposures = _shaped("exposure", 1.0 if exposure is None else exposure, shapes)
    if np.any(exposures < 0):
        what = f"exposure is negative: {np.min(exposures):g}"
        raise InputError(what, hint="a point of exposure 0 is not used")
    data = FitData(
        counts=table,
        x=abscissa,
        exposure=exposures,
        mask=None if mask is None else _mask(mask, shapes - {()}),
        sigma=_sigma(sigma, estimator, shapes),
        shift=_shift(shift, n_channels),
        edges=bool(edges),
        estimator=estimator,
        fixed=_fixed(fixed, model, n_channels),
        bounds=_bounds(bounds, model),
    )
    _check_counts(data)
    return data


def _numbers(name: str, given: ArrayLike, *, keep: bool = False) -> NDArray[Any]:
    """Return an array of numbers, of type float64 or, with `keep`, of the type it has."""
    array = (
        np.ma.filled(given.astype(np.float64), np.nan) if np.ma.isMaskedArray(given) else np.asarray(given)
    )
    if array.dtype.kind not in "biuf":
        what = f"{name} are of type {array.dtype}, not numbers"
        raise InputError(what)
    return array if keep else np.asarray(array, dtype=np.float64)


def _shaped(name: str, given: ArrayLike, shapes: set[Any]) -> FloatArray:
    array = _numbers(name, given)
    if array.shape not in shapes:
        known = [str(shape) for shape in sorted(shapes, key=len)]
        what = f"{name} has the shape {array.shape}"
        raise InputError(what, known=known)
    return array


def _mask(given: ArrayLike, shapes: set[Any]) -> NDArray[np.bool_]:
    array = np.asarray(given)
    if array.dtype != np.bool_:
        what = f"mask is of type {array.dtype}, not bool"
        raise InputError(what, hint="True where a point is used")
    _shaped("mask", array, shapes)
    return array


def _sigma(given: ArrayLike | None, estimator: str, shapes: set[Any]) -> FloatArray | None:
    if estimator != "gaussian":
        if given is not None:
            what = f"sigma has no meaning for the estimator {estimator!r}"
            raise UsageError(what, hint="estimator='gaussian'")
        return None
    if given is None:
        what = "the estimator 'gaussian' needs sigma, the standard deviations of the values"
        raise UsageError(
            what, hint="sigma=..., or estimator='unweighted', which finds their size from the residuals"
        )
    array = _shaped("sigma", given, shapes)
    if np.any(array <= 0):
        what = f"sigma must be positive, not {np.nanmin(array):g}"
        raise InputError(what, hint="counts of 0 have no sqrt(n) error: estimator='poisson' needs none")
    return array


def _shift(given: ArrayLike | None, n_channels: int) -> FloatArray | None:
    if given is None:
        return None
    return np.broadcast_to(_shaped("shift", given, {(), (n_channels,)}), (n_channels,))


def _fixed(given: Mapping[str, ArrayLike] | None, model: Model, n_channels: int) -> dict[str, FloatArray]:
    result = {}
    for name, value in (given or {}).items():
        model.index(name)
        result[name] = _shaped(f"fixed {name}", value, {(), (n_channels,)})
    return result


def _bounds(given: Mapping[str, tuple[float, float]] | None, model: Model) -> dict[str, tuple[float, float]]:
    result = {}
    for name, pair in (given or {}).items():
        model.index(name)
        low, high = (float(value) for value in pair)
        if not low < high:
            what = f"bounds of {name!r} are {low:g} and {high:g}"
            hint = f"fixed={{{name!r}: {low:g}}} keeps it at one value" if low == high else "low before high"
            raise UsageError(what, hint=hint)
        result[name] = (low, high)
    return result


def _check_counts(data: FitData) -> None:
    if data.estimator not in ("poisson", "binomial"):
        return
    wrong = np.asarray(data.counts < 0)
    kind, hint = "negative", "estimator='gaussian' with sigma takes values of any sign"
    if data.estimator == "binomial" and not wrong.any():
        wrong = np.asarray(data.counts > data.exposure)
        kind, hint = "more than the trials", "exposure is the number of trials of each point"
    if not wrong.any():
        return
    wrong &= data.exposure > 0
    if data.mask is not None:
        wrong = wrong & data.mask
    if wrong.any():
        channel, point = (int(value) for value in np.argwhere(wrong)[0])
        what = f"counts are {kind} at {int(wrong.sum())} points, first {data.counts[channel, point]}"
        raise InputError(what, where=f"channel {channel}, point {point}", hint=hint)


def _check_start(start: ArrayLike | None, model: Model, data: FitData) -> FloatArray | None:
    n = len(model)
    if start is None:
        if model.start is None and len(data.fixed) < n:
            what = f"model {model.name} has no start values of its own"
            raise UsageError(what, hint=f"start=[{', '.join(model.names)}]")
        return None
    return _shaped("start", start, {(n,), (data.n_channels, n)})
