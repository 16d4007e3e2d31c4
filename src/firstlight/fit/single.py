"""Fits of single curves by MINUIT: the same models, data and estimators as `fit_many`, with MINOS intervals.

The covariance is the inverse of the second derivatives at the minimum (HESSE): the observed information, where `fit_many` has
the expected one. They agree for many counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import InputError, UsageError
from firstlight.fit.model import get_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iminuit import Minuit
    from numpy.typing import ArrayLike, NDArray

    from firstlight.fit.data import Estimator, FitData
    from firstlight.fit.model import Model

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

__all__ = ["ScalarFit", "scalar"]

# as in firstlight.fit.likelihood: of the mean rate, how negative a rate may be; the smallest rate in a logarithm
_LOWEST, _TINY = 1e-10, 1e-300
_NEAR = 0.2  # standard errors: as near to a bound a parameter may belong on it


@dataclass(frozen=True, eq=False, repr=False)
class ScalarFit:
    """Result of the fit of one curve.

    Parameters
    ----------
    model : Model
        What was fitted.
    estimator, evaluation : str
        What was minimised, and where the model was taken.
    values, errors : ndarray, shape (n_parameters,)
        NaN errors for parameters that were fixed or stand at a bound.
    covariance : ndarray, shape (n_parameters, n_parameters)
        From second derivatives; NaN where errors are.
    lower_errors, upper_errors : ndarray, shape (n_parameters,)
        Ends of the MINOS intervals less the values: negative and positive. NaN where not asked for or not found.
    fixed, at_bound : ndarray of bool, shape (n_parameters,)
        Parameters that were not fitted, and that ended on a bound.
    deviance : float
        At the minimum.
    ndf : int
        Used points less fitted parameters that are not at a bound.
    p_value : float
        As that of `fit_many`.
    valid : bool
        Whether there is a minimum with errors.
    message : str
        What went wrong; empty for a fit without trouble.
    start : ndarray, shape (n_parameters,)
        Start values.
    total : float
        Sum of the counts used.
    data : FitData
        What was given, as one channel.
    minuit : iminuit.Minuit
        For everything else.
    """

    model: Model
    estimator: str
    evaluation: str
    values: FloatArray
    errors: FloatArray
    covariance: FloatArray
    lower_errors: FloatArray
    upper_errors: FloatArray
    fixed: BoolArray
    at_bound: BoolArray
    deviance: float
    ndf: int
    p_value: float
    valid: bool
    message: str
    start: FloatArray
    total: float
    data: FitData = field(repr=False)
    minuit: Minuit = field(repr=False)

    def __repr__(self) -> str:
        title = (
            f"ScalarFit({self.model.name}, {self.estimator}, {self.evaluation}: "
            f"{'valid' if self.valid else 'not valid'}, deviance {self.deviance:.4g} for {self.ndf} degrees of "
            f"freedom, p = {self.p_value:.3g})"
        )
        lines = [title]
        for k, name in enumerate(self.model.names):
            note = (
                "fixed" if self.fixed[k] else "at a bound" if self.at_bound[k] else f"+- {self.errors[k]:.3g}"
            )
            if math.isfinite(self.upper_errors[k]) or math.isfinite(self.lower_errors[k]):
                note += f"  ({self.lower_errors[k]:+.3g} {self.upper_errors[k]:+.3g})"
            lines.append(f"  {name} = {self.values[k]:.6g} {note}")
        return "\n".join([*lines, *([f"  {self.message}"] if self.message else [])])

    def value(self, name: str) -> float:
        """Return the value of a parameter.

        Raises
        ------
        UsageError
            If the model has none of that name; names its nearest neighbours.
        """
        return float(self.values[self.model.index(name)])

    def error(self, name: str) -> float:
        """Return the standard error of a parameter.

        Raises
        ------
        UsageError
            If the model has none of that name; names its nearest neighbours.
        """
        return float(self.errors[self.model.index(name)])

    def expected(self) -> FloatArray:
        """Return the expected counts at all points, used or not, shape (n_points,)."""
        from firstlight.fit.blocks import expected_counts

        return np.asarray(expected_counts(self.model, self.data, self.values[None, :])[0])

    def to_dict(self) -> dict[str, Any]:
        """Return the result as numbers and words for a JSON file; what is not known is None."""

        def known(value: float) -> float | None:
            return float(value) if math.isfinite(value) else None

        return {
            "model": self.model.name,
            "constants": list(self.model.constants),
            "estimator": self.estimator,
            "evaluation": self.evaluation,
            "parameters": {
                parameter.name: {
                    "value": known(self.values[k]),
                    "error": known(self.errors[k]),
                    "lower_error": known(self.lower_errors[k]),
                    "upper_error": known(self.upper_errors[k]),
                    "fixed": bool(self.fixed[k]),
                    "at_bound": bool(self.at_bound[k]),
                    "unit": parameter.unit,
                }
                for k, parameter in enumerate(self.model.parameters)
            },
            "covariance": [[known(value) for value in row] for row in self.covariance],
            "deviance": known(self.deviance),
            "ndf": int(self.ndf),
            "p_value": known(self.p_value),
            "valid": self.valid,
            "message": self.message,
            "total": float(self.total),
        }


class _Cost:
    """Deviance of one curve as MINUIT wants it, with the gradient."""

    def __init__(self, model: Model, data: FitData, used: BoolArray) -> None:
        from firstlight.fit.likelihood import BINOMIAL, GAUSSIAN, POISSON, prepare

        self.model, self.data, self.used = model, data, used
        shift = 0.0 if data.shift is None else float(data.shift[0])
        x = np.ascontiguousarray(np.atleast_2d(data.x)[0] - shift)
        self.kernel = model.integral if data.edges else model.curve
        # with edges a bin that is not used still stands between others
        self.x = x if data.edges else np.ascontiguousarray(x[used])
        self.inside = used if data.edges else np.ones(int(used.sum()), dtype=np.bool_)
        n = self.inside.size
        self.value, self.derivative = np.empty(n), np.empty((len(model), n))
        self.constants = np.array(model.constants, dtype=np.float64)
        self.counts = np.ascontiguousarray(data.counts[0][used], dtype=np.float64)
        size = data.n_points
        exposure = np.broadcast_to(np.atleast_2d(data.exposure)[0], (size,))
        self.exposure = np.ascontiguousarray(exposure[used])
        sigma = np.broadcast_to(np.atleast_2d(1.0 if data.sigma is None else data.sigma)[0], (size,))
        self.more = np.empty_like(self.counts)
        self.estimator = {"poisson": POISSON, "binomial": BINOMIAL}.get(data.estimator, GAUSSIAN)
        self.total = float(
            prepare(self.estimator, self.counts, self.exposure, np.ascontiguousarray(sigma[used]), self.more)
        )
        self.rate = abs(self.total) / float(self.exposure.sum())

    @property
    def has_gradient(self) -> bool:
        """Whether the model gives derivatives."""
        return self.kernel is not None

    def rates(self, p: FloatArray) -> FloatArray:
        """Return the model at the used points for an exposure of 1, shape (n_used,)."""
        if self.kernel is not None:
            self.kernel(self.x, p, self.constants, self.value, self.derivative)
            return self.value[self.inside]
        from firstlight.fit.blocks import expected_counts

        return np.asarray(expected_counts(self.model, self.data, p[None, :])[0][self.used] / self.exposure)

    def slopes(self, p: FloatArray, steps: FloatArray | None = None) -> FloatArray:
        """Return the derivatives of `rates`, shape (n_parameters, n_used); numeric with steps."""
        if self.kernel is not None:
            self.kernel(self.x, p, self.constants, self.value, self.derivative)
            return self.derivative[:, self.inside]
        rows = []
        for k, step in enumerate(np.maximum(1e-5 * np.abs(p), 1e-8) if steps is None else steps):
            up, down = p.copy(), p.copy()
            up[k] += step
            down[k] -= step
            rows.append((self.rates(up) - self.rates(down)) / (2 * step))
        return np.array(rows)

    def _allowed(self, rates: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return rates that are rates (or probabilities), and how far the given ones are off in mean rates."""
        if self.estimator == 0:
            inside = np.where(rates < -_LOWEST * self.rate, _LOWEST * self.rate, rates)
            return inside, (rates - inside) / max(self.rate, _TINY)
        if self.estimator == 1:
            inside = np.where(rates < -_LOWEST, _LOWEST, np.where(rates > 1 + _LOWEST, 1 - _LOWEST, rates))
            return inside, rates - inside
        return rates, np.zeros_like(rates)

    def __call__(self, p: FloatArray) -> float:
        from firstlight.fit.likelihood import deviance

        rates = self.rates(np.asarray(p, dtype=np.float64))
        if not np.all(np.isfinite(rates)):
            return 1e12 * (1 + self.total)
        value = deviance(self.estimator, rates, self.counts, self.exposure, self.more, self.rate)
        if math.isfinite(value):
            return float(value)
        # no rate: a wall that leads back
        inside, off = self._allowed(rates)
        value = deviance(self.estimator, inside, self.counts, self.exposure, self.more, self.rate)
        return float(value + 100 * (1 + self.total) * np.sum(np.abs(off)))

    def gradient(self, p: FloatArray) -> FloatArray:
        """Return the derivatives of the deviance, shape (n_parameters,)."""
        slopes = self.slopes(np.asarray(p, dtype=np.float64))
        rates = self.value[self.inside] if self.kernel is not None else self.rates(p)
        inside, off = self._allowed(rates)
        pull = self._pull(np.where(off == 0, rates, inside))
        if np.sum(np.abs(off)) > _LOWEST:
            scale = 1 / max(self.rate, 1e-300) if self.estimator == 0 else 1.0
            pull = np.where(off != 0, -50 * (1 + self.total) * scale * np.sign(off), pull)
        return np.asarray(-2 * slopes @ pull)

    def _pull(self, rates: FloatArray) -> FloatArray:
        """Return half of the fall of the deviance with the rate of each point, without the floor of the engine."""
        if self.estimator == 0:
            return np.asarray(self.counts / np.maximum(rates, _TINY) - self.exposure)
        if self.estimator == 1:
            failed = self.exposure - self.counts
            return np.asarray(self.counts / np.maximum(rates, _TINY) - failed / np.maximum(1 - rates, _TINY))
        return np.asarray((self.counts - self.exposure * rates) * self.exposure * self.more**2)

    def information(self, p: FloatArray) -> FloatArray:
        """Return the diagonal of the expected information, shape (n_parameters,)."""
        from firstlight.fit.likelihood import weigh

        slopes = self.slopes(p)
        inside, _ = self._allowed(self.rates(p))
        weight, pull = np.empty_like(inside), np.empty_like(inside)
        weigh(self.estimator, inside, self.counts, self.exposure, self.more, self.rate, weight, pull)
        return np.asarray(np.einsum("ak,k->a", slopes**2, weight))


def scalar(
    counts: ArrayLike,
    x: ArrayLike,
    model: str | Model,
    *,
    exposure: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    shift: float | None = None,
    edges: bool = False,
    estimator: Estimator = "poisson",
    start: ArrayLike | None = None,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    constants: Sequence[float] | None = None,
    minos: bool = False,
    level: float = 0.6827,
) -> ScalarFit:
    """Fit one curve by MIGRAD, with errors from HESSE and on request intervals from MINOS.

    Parameters
    ----------
    counts, x, model, exposure, mask, sigma, shift, edges, estimator, start, fixed, bounds, constants
        As for `fit_many`, for one channel.
    minos : bool
        Whether to find the intervals of each parameter where the deviance, minimised over the others, rises by the
        quantile of chi2 for one degree of freedom.
    level : float
        Confidence level of those intervals.

    Returns
    -------
    ScalarFit
        With `valid` and `message` that say whether and why not to trust it.

    Raises
    ------
    UsageError
        If an option, or the name of a model or parameter, is wrong.
    InputError
        If arrays do not fit together, counts are negative, or nothing is left to fit.

    References
    ----------
    F. James, M. Roos, Comput. Phys. Commun. 10 (1975) 343; H. Dembinski et al., iminuit, doi:10.5281/zenodo.3949207.
    """
    from firstlight.fit.many import check_data, fit_many
    from firstlight.fit.result import Status

    if not 0 < level < 1:
        what = f"confidence level must be between 0 and 1, not {level}"
        raise UsageError(what)
    chosen = get_model(model)
    if constants is not None:
        chosen = chosen.with_constants(constants)
    data = check_data(
        counts, x, chosen, exposure=exposure, mask=mask, sigma=sigma, shift=shift, edges=edges,
        estimator=estimator, fixed=fixed, bounds=bounds,
    )  # fmt: skip
    if data.n_channels != 1:
        what = f"counts are those of {data.n_channels} channels, not of one"
        raise UsageError(what, hint="fit_many")
    used = _used(data)
    if not used.any() or (estimator in ("poisson", "binomial") and not np.nansum(data.counts[0][used]) > 0):
        what = "no counts at the points that are used" if used.any() else "no point is used"
        raise InputError(what, hint="see mask, exposure and NaN")
    options = data.options() | {"rescue": False, "threads": 1}
    # the batched engine gives the start values, and at the end the goodness of fit
    begin = fit_many(data.counts, data.x, chosen, start=start, max_iterations=0, **options).start[0]
    cost = _Cost(chosen, data, used)
    at_bound, minuit, notes = _minimise(cost, chosen, data, begin)
    values = np.array(minuit.values, dtype=np.float64)
    judged = fit_many(data.counts, data.x, chosen, start=values, max_iterations=0, tolerance=1e-2, **options)
    is_fixed = np.array([name in data.fixed for name in chosen.names])
    deviance, ndf = float(cost(values)), int(used.sum() - np.sum(~is_fixed & ~at_bound))
    scale = 1.0
    if estimator == "unweighted":
        scale = deviance / ndf if ndf > 0 else math.nan
        if scale > 0:
            minuit.errordef = scale
            minuit.hesse()
    covariance = _covariance(minuit, is_fixed | at_bound)
    lower_errors, upper_errors = np.full(len(chosen), np.nan), np.full(len(chosen), np.nan)
    if minos and minuit.valid:
        notes += _minos(minuit, chosen, ~is_fixed & ~at_bound, level, lower_errors, upper_errors)
    errors = np.sqrt(np.where(np.diag(covariance) > 0, np.diag(covariance), np.nan))
    # along a degenerate direction MINUIT finds some curvature in the noise of its differences
    told = judged.status[0] in (Status.ok, Status.at_bound)
    told &= not (minuit.fmin is not None and minuit.fmin.has_made_posdef_covar)
    valid = bool(minuit.valid and told and np.all(np.isfinite(errors[~is_fixed & ~at_bound])))
    if minuit.valid and not valid:
        notes.append("the data do not tell all parameters: errors mean nothing")
    return ScalarFit(
        model=chosen,
        estimator=estimator,
        evaluation="integrated over bins" if data.edges else "at bin centres",
        values=values,
        errors=errors,
        covariance=covariance,
        lower_errors=lower_errors,
        upper_errors=upper_errors,
        fixed=is_fixed,
        at_bound=at_bound,
        deviance=deviance,
        ndf=ndf,
        p_value=float(judged.p_value[0]) if judged.ndf[0] == ndf else math.nan,
        valid=valid,
        message="; ".join(notes),
        start=np.asarray(begin),
        total=cost.total,
        data=data,
        minuit=minuit,
    )


def _used(data: FitData) -> BoolArray:
    """Return which points are used, shape (n_points,)."""
    used = np.isfinite(data.counts[0].astype(np.float64))
    if data.mask is not None:
        used &= np.atleast_2d(data.mask)[0]
    exposure = np.atleast_2d(data.exposure)[0]
    used &= np.broadcast_to((exposure > 0) & np.isfinite(exposure), used.shape)
    x = np.atleast_2d(data.x)[0]
    used &= np.isfinite(x[:-1] + x[1:]) if data.edges else np.isfinite(x)
    if data.sigma is not None:
        sigma = np.atleast_2d(data.sigma)[0]
        used &= np.broadcast_to((sigma > 0) & np.isfinite(sigma), used.shape)
    return np.asarray(used)


def _minimise(
    cost: _Cost, model: Model, data: FitData, begin: FloatArray
) -> tuple[BoolArray, Minuit, list[str]]:
    """Return which parameters ended at a bound, the minimum, and what went wrong."""
    from iminuit import Minuit

    from firstlight.fit.blocks import bounds_of

    low, high = bounds_of(model, data)
    free = np.array([name not in data.fixed for name in model.names])
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = 1 / np.sqrt(cost.information(begin))
    natural = np.maximum(np.abs(begin), 1e-3)
    steps = np.where(np.isfinite(steps) & (steps > 0), np.minimum(steps, 10 * natural), 0.1 * natural)
    # MINUIT sees no slope at the very bound
    inner = np.clip(
        begin,
        low + np.minimum(0.1 * steps, 0.1 * (high - low)),
        high - np.minimum(0.1 * steps, 0.1 * (high - low)),
    )
    inner = np.where(free & np.isfinite(inner), inner, begin)
    minuit = Minuit(cost, inner, grad=cost.gradient if cost.has_gradient else None, name=model.names)
    minuit.errordef = 1.0
    minuit.errors = steps
    minuit.limits = list(zip(low, high, strict=True))
    minuit.fixed = ~free
    minuit.strategy = 1
    minuit.tol = 0.01
    minuit.migrad(ncall=5000)
    if not minuit.valid:
        minuit.simplex(ncall=2000)
        minuit.migrad(ncall=5000)
    at_bound = np.zeros(len(model), dtype=np.bool_)
    for _ in range(len(model)):
        found = _at_bounds(minuit, cost, free & ~at_bound, low, high)
        if not found.any():
            break
        at_bound |= found
        minuit.values = _snapped(np.array(minuit.values), found, low, high)
        minuit.fixed = ~free | at_bound
        if np.all(minuit.fixed):
            break
        minuit.migrad(ncall=5000)
    notes = []
    if not np.all(minuit.fixed):
        minuit.hesse()
        if not minuit.valid:
            notes.append(_trouble(minuit))
    return at_bound, minuit, notes


def _at_bounds(
    minuit: Minuit, cost: _Cost, candidates: BoolArray, low: FloatArray, high: FloatArray
) -> BoolArray:
    """Return the parameters that lie on a bound towards which the deviance falls."""
    values, errors = np.array(minuit.values), np.array(minuit.errors)
    near_low = candidates & (values - low <= _NEAR * errors)
    near_high = candidates & (high - values <= _NEAR * errors)
    found = np.zeros_like(candidates)
    if not (near_low | near_high).any():
        return found
    gradient = cost.gradient(_snapped(values, near_low | near_high, low, high))
    return np.asarray((near_low & (gradient >= 0)) | (near_high & (gradient <= 0)))


def _snapped(values: FloatArray, which: BoolArray, low: FloatArray, high: FloatArray) -> FloatArray:
    nearest = np.where(np.abs(values - low) < np.abs(values - high), low, high)
    return np.where(which, nearest, values)


def _trouble(minuit: Minuit) -> str:
    minimum = minuit.fmin
    if minimum is None:
        return "no minimum was looked for"
    reasons = [
        (minimum.has_reached_call_limit, "the limit of calls was reached"),
        (minimum.is_above_max_edm, f"the distance to the minimum is {minimum.edm:.2g}, too large"),
        (minimum.hesse_failed, "the second derivatives could not be found"),
        (not minimum.has_valid_parameters, "no minimum was found"),
    ]
    return next((text for is_so, text in reasons if is_so), "no minimum was found")


def _covariance(minuit: Minuit, left_out: BoolArray) -> FloatArray:
    n = left_out.size
    covariance = np.full((n, n), np.nan)
    if minuit.covariance is not None:
        covariance = np.array(minuit.covariance, dtype=np.float64).reshape(n, n)
        covariance[left_out, :] = np.nan
        covariance[:, left_out] = np.nan
    return covariance


def _minos(
    minuit: Minuit,
    model: Model,
    free: BoolArray,
    level: float,
    lower_errors: FloatArray,
    upper_errors: FloatArray,
) -> list[str]:
    """Fill the ends of the intervals; return what went wrong."""
    notes = []
    for k in np.flatnonzero(free):
        name = model.names[k]
        try:
            minuit.minos(name, cl=level)
        except RuntimeError as error:
            notes.append(f"no MINOS interval of {name}: {error}")
            continue
        found = minuit.merrors[name]
        if found.lower_new_min or found.upper_new_min:
            notes.append(f"MINOS found a lower minimum while it varied {name}")
        for side, is_good, at_limit in (
            ("lower", found.lower_valid, found.at_lower_limit),
            ("upper", found.upper_valid, found.at_upper_limit),
        ):
            target = lower_errors if side == "lower" else upper_errors
            if is_good:
                target[k] = getattr(found, side)
            else:
                notes.append(
                    f"no {side} end of the MINOS interval of {name}{': at a bound' if at_limit else ''}"
                )
    return notes
