"""The headline numbers and the checks of a VELO run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.velo.flags import DESCRIPTIONS, Flag
from firstlight.steps.step import Check, Context, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["checks", "summary"]

_NAN = float("nan")
_FEW_FRAMES = 0.1
_CONVERGED = 0.999
_POOR = 0.08
_GOOD, _FEW_GOOD = 0.9, 0.02  # fractions of good pixels
_MANY_POOR = 0.1
_UNLIT = 0.005  # fraction of pixels without a hit
_SILENT, _TRUNCATED = 0.05, 0.05  # fractions of pixels of a noise scan
_MANY = 500  # hits with which a fit should converge
_BASELINE = 0.02  # relative bias of the gain that is worth a warning
_GROUPS = 0.01
_PULL = 6.0
# states of pixels that somebody should look at, and the fraction from which they are many
_STATES = {Flag.DEAD: 0.01, Flag.NOISY: 0.01, Flag.SATURATED: 0.01, Flag.EDGE_OUTSIDE_SCAN: 0.02}


def summary(products: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
    """Return the headline numbers of a run."""
    rows: list[dict[str, Any]] = [{"label": "chip", "value": context.channels.name, "unit": ""}]
    if "scan/frames" in products:
        frames = products["scan/frames"].frame
        good = int((frames["status"] == "good").sum())
        live = products["scan/points"].frame["live_time"].sum()
        rows += [
            {"label": "frames used", "value": good, "unit": f"of {frames.height}"},
            {"label": "open time", "value": round(live / 3600, 3), "unit": "h"},
            {"label": "hits", "value": int(products["scan/pixels"].array("counts").sum()), "unit": ""},
        ]
    if "fit/pixels" in products:
        pixels = products["fit/pixels"].frame
        rows.append(
            {
                "label": "good pixels",
                "value": int(pixels["good"].sum()),
                "unit": f"of {int((~pixels['masked']).sum())} not masked",
            }
        )
    if "calibration/selections" in products:
        own = products["calibration/selections"].frame.row(
            by_predicate=pl.col("selection") == "good", named=True
        )
        rule = products["baseline/rules"].frame.filter("used")
        rows.append({"label": "baseline", "value": rule["rule"][0] if rule.height else "none", "unit": ""})
        if own["gain_mean"] is not None:
            rows += [
                {
                    "label": "target, mean of good pixels",
                    "value": round(own["target_mean"], 3),
                    "unit": f"± {own['target_mean_error']:.3f} DAC (spread {own['target_spread']:.2f})",
                },
                {
                    "label": "gain K, mean of good pixels",
                    "value": round(own["gain_mean"], 3),
                    "unit": _budget(own),
                },
                {
                    "label": "gain K, median of good pixels",
                    "value": round(own["gain_median"], 3),
                    "unit": "e-/DAC",
                },
                {
                    "label": "gain K, spread of pixels",
                    "value": round(own["gain_spread"], 3),
                    "unit": "e-/DAC",
                },
            ]
    if "noise/totals" in products:
        total = products["noise/totals"].frame.row(0, named=True)
        rows += [
            {"label": "noise hits", "value": int(total["hits"]), "unit": ""},
            {"label": "silent pixels", "value": int(total["n_silent"]), "unit": ""},
            {"label": "readings at 63", "value": int(total["n_saturated"]), "unit": ""},
        ]
    return rows


def _budget(own: Mapping[str, Any]) -> str:
    return (
        f"± {own['gain_statistical']:.3f} (statistical) ± {own['gain_baseline']:.3f} (baseline) "
        f"± {own['gain_common']:.2f} (common) e-/DAC"
    )


def checks(products: Mapping[str, Any], context: Context) -> list[Check]:
    """Return all checks of a run, those of the data first."""
    found: list[Check] = []
    if "noise/totals" in products:
        found += _noise(products["noise/totals"].frame.row(0, named=True), len(context.channels))
    if "scan/frames" in products:
        found += _frames(products["scan/frames"].frame)
        found += _thresholds(products["scan/points"].frame)
        found += _mask(context)
    if "fit/pixels" in products:
        found += _pixels(products["fit/pixels"].frame)
        found += _curve(products["fit/curves"].frame)
    if "baseline/rules" in products:
        found += _baseline(products)
    if "calibration/selections" in products:
        found += _gain(products["calibration/selections"].frame)
    return found


def _noise(total: Mapping[str, Any], n_pixels: int) -> list[Check]:
    silent, truncated = total["n_silent"] / n_pixels, total["n_truncated"] / n_pixels
    if not total["hits"]:
        return [Check("noise scan", "no-statistics", 0, 1, "the noise scan has no hits")]
    return [
        Check(
            "silent pixels", "ok" if silent < _SILENT else "warn", silent, _SILENT,
            f"{total['n_silent']} pixels have no hit in the noise scan ({silent:.2%})",
        ),
        Check(
            "range of the noise scan", "ok" if truncated < _TRUNCATED else "warn", truncated, _TRUNCATED,
            f"{truncated:.1%} of pixels count at an end of the scanned thresholds: their hit-weighted means are biased "
            "towards the inside, fitted ones have large errors; scan further",
        ),
    ]  # fmt: skip


def _frames(frames: pl.DataFrame) -> list[Check]:
    left_out = frames.filter(pl.col("status") != "good")
    # what was left out because it was asked for is nothing to worry about
    unwanted = left_out.filter(pl.col("status") != "excluded")
    share = unwanted.height / max(frames.height, 1)
    verdict: Verdict = "ok" if not unwanted.height else "warn" if share < _FEW_FRAMES else "bad"
    by_status = left_out["status"].value_counts(sort=True)
    kinds = ", ".join(f"{row['count']} {row['status']}" for row in by_status.iter_rows(named=True))
    rule = f"{left_out.height} of {frames.height} frames are left out" + (f": {kinds}" if kinds else "")
    details = tuple(
        f"{row['file']}: {row['status']}, {row['reason']}" for row in left_out.head(40).iter_rows(named=True)
    )
    return [Check("frames", verdict, share, _FEW_FRAMES, rule, details=details)]


def _thresholds(points: pl.DataFrame) -> list[Check]:
    lost = points.filter(pl.col("n_good") == 0)["threshold"].to_list()
    share = len(lost) / max(points.height, 1)
    names = tuple(f"{value} DAC" for value in lost)
    rule = f"{len(lost)} of {points.height} thresholds have no good frame"
    verdict: Verdict = "ok" if not lost else "warn" if share < _FEW_FRAMES else "bad"
    if points.height == len(lost):
        rule = "no frame at all is used: the table of frames left out says why"
    elif points.height - len(lost) < 8:
        verdict, rule = "no-statistics", f"{rule}: too few are left for a fit"
    return [Check("thresholds", verdict, share, _FEW_FRAMES, rule, details=names)]


def _mask(context: Context) -> list[Check]:
    codes = context.channels.frame["mask"]
    if codes.null_count() == len(codes):
        rule = "there is no file of the mask: noisy and dead pixels are judged by their counts alone"
        return [Check("mask", "warn", _NAN, _NAN, rule)]
    number = int((codes > 0).sum())
    verdict: Verdict = "ok" if number < 0.05 * len(codes) else "warn"
    rule = f"{number} pixels are masked ({number / len(codes):.2%})"
    return [Check("mask", verdict, number, 0.05 * len(codes), rule)]


def _pixels(pixels: pl.DataFrame) -> list[Check]:
    used = pixels.filter(~pl.col("masked"))
    total = max(used.height, 1)
    found = []
    for flag, limit in _STATES.items():
        bad = used.filter((pl.col("flags") & int(flag)) > 0)
        verdict: Verdict = "ok" if bad.is_empty() else "warn" if bad.height < limit * total else "bad"
        name = f"{str(flag.name).lower().replace('_', ' ')} pixels"
        rule = f"{bad.height} of {used.height} pixels: {DESCRIPTIONS[flag]}"
        details = tuple(f"{row}x{column}" for row, column in bad.select("row", "column").head(60).rows())
        found.append(Check(name, verdict, bad.height, limit * total, rule, details=details))
    found += [_good(used), *_dark(used)]
    fitted = used.filter(pl.col("status").is_not_null())
    if fitted.is_empty():
        rule = "no pixel has enough hits for a fit"
        return [*found, Check("convergence", "no-statistics", 0, _CONVERGED, rule)]
    spoilt = int(Flag.NOISY | Flag.SATURATED | Flag.DEAD)
    clean = fitted.filter(((pl.col("flags") & spoilt) == 0) & (pl.col("counts") >= _MANY))
    if clean.is_empty():
        rule = f"no pixel has {_MANY} hits: most fits will not tell all parameters"
        return [*found, Check("convergence", "no-statistics", 0, _CONVERGED, rule)]
    unconverged = clean.filter((pl.col("flags") & int(Flag.NOT_CONVERGED)) > 0)
    share = 1 - unconverged.height / max(clean.height, 1)
    details = tuple(f"{row}x{column}" for row, column in unconverged.select("row", "column").head(60).rows())
    rule = (
        f"{share:.3%} of {clean.height} pixels with {_MANY} hits or more, neither dead nor noisy, converged"
    )
    verdict = "ok" if share >= _CONVERGED else "warn"
    found.append(Check("convergence", verdict, share, _CONVERGED, rule, details=details))
    p_value = clean["p_value"].drop_nulls()
    poor = float(np.mean(p_value.to_numpy() < 0.05)) if len(p_value) else _NAN
    rule = f"{poor:.2%} of fits have a p-value below 5 %"
    verdict = "no-statistics" if not len(p_value) else "ok" if poor <= _POOR else "warn"
    found.append(Check("goodness of fit", verdict, poor, _POOR, rule))
    return found


def _good(used: pl.DataFrame) -> Check:
    """Say how many pixels count in means, and what keeps the others out."""
    total = max(used.height, 1)
    share = float(used["good"].sum()) / total
    flags = {flag: used.filter((pl.col("flags") & int(flag)) > 0).height for flag in DESCRIPTIONS}
    keeping = {flag: number for flag, number in flags.items() if number and flag is not Flag.BASELINE_MISSING}
    details = [
        f"{str(flag.name).lower().replace('_', ' ')}: {number}"
        for flag, number in sorted(keeping.items(), key=lambda pair: -pair[1])
    ]
    if flags[Flag.POOR_FIT] > _MANY_POOR * total:
        details.append("many poor fits: if the rate above the edge is not 0, fit.model = physical_background")
    verdict: Verdict = "ok" if share >= _GOOD else "warn" if share >= _FEW_GOOD else "bad"
    rule = f"{share:.1%} of {used.height} pixels are good: only they count in means"
    return Check("good pixels", verdict, share, _GOOD, rule, details=tuple(details))


def _dark(used: pl.DataFrame) -> list[Check]:
    """Find pixels without a hit, whole rows and columns among them: neighbours do not tell a dead block."""
    dark = used.filter(pl.col("counts") == 0)
    share = dark.height / max(used.height, 1)
    details = []
    for name in ("column", "row"):
        lit = used.group_by(name).agg(pl.col("counts").sum()).filter(pl.col("counts") == 0)[name].sort()
        if len(lit):
            numbers = ", ".join(map(str, lit.head(40).to_list()))
            details.append(
                f"{len(lit)} {name}s without any hit: {numbers}" + (" ..." if len(lit) > 40 else "")
            )
    verdict: Verdict = "ok" if share < _UNLIT else "warn" if share < 20 * _UNLIT else "bad"
    rule = f"{dark.height} of {used.height} pixels have no hit at all ({share:.2%})"
    return [Check("pixels without hits", verdict, share, _UNLIT, rule, details=tuple(details))]


def _curve(curves: pl.DataFrame) -> list[Check]:
    """Find thresholds whose rate leaves the curve of the others: light, or a source that was moved."""
    good = curves.filter((pl.col("selection") == "good") & pl.col("rate").is_not_null())
    good = good.filter(pl.col("counts") > 0)
    if good.height < 8:
        return []
    # the fit of a sum of different pixels is only nearly right; what is left of it changes slowly
    ratio = np.log(good["rate"].to_numpy() / np.maximum(good["fitted"].to_numpy(), 1e-12))
    error = 1 / np.sqrt(good["counts"].to_numpy())
    middle = np.array(
        [np.median(np.delete(ratio[max(i - 3, 0) : i + 4], min(i, 3))) for i in range(ratio.size)]
    )
    pull = (ratio - middle) / error
    scale = max(1.4826 * float(np.median(np.abs(pull))), 1.0)
    outside = np.flatnonzero((np.abs(pull) > _PULL * scale) & (np.abs(ratio - middle) > 0.02))
    thresholds = good["threshold"].to_numpy()[outside]
    details = tuple(
        f"{threshold} DAC: {np.expm1(ratio[i] - middle[i]):+.1%}"
        for threshold, i in zip(thresholds, outside, strict=True)
    )
    largest = float(np.max(np.abs(pull))) if pull.size else _NAN
    rule = f"{outside.size} thresholds leave the curve of their neighbours by more than {_PULL * scale:.0f} standard errors"
    return [
        Check("flux curve", "warn" if outside.size else "ok", largest, _PULL * scale, rule, details=details)
    ]


def _baseline(products: Mapping[str, Any]) -> list[Check]:
    rules = products["baseline/rules"].frame
    used = rules.filter("used")
    if used.is_empty() or not used["n_pixels"][0]:
        rule = "there is no baseline: positions are known, targets and gains are not"
        return [Check("baseline", "bad", _NAN, _NAN, rule)]
    row = used.row(0, named=True)
    target = (
        products["calibration/pixels"].frame["target"].median() if "calibration/pixels" in products else None
    )
    if row["rule"] == "control":
        rule = "measured at the chosen trims (control scan)"
        others = rules.filter(pl.col("bias").is_not_null())
        details = tuple(_bias_text(other, target) for other in others.iter_rows(named=True))
        return [Check("baseline", "ok", 0.0, _BASELINE, rule, details=details)]
    if row["bias"] is not None:
        relative = abs(row["bias"]) / target if target else _NAN
        rule = _bias_text(row, target)
        verdict: Verdict = "ok" if relative < _BASELINE else "bad"
        hint = ("baseline.choice = control uses what was measured",)
        return [Check("baseline", verdict, relative, _BASELINE, rule, details=hint)]
    known = row["rule"] in {"legacy16", "predicted"}
    rule = (
        f"{row['rule']}: predicted, not measured; the rule of 16 steps is known to give gains 6-8 % low"
        if known
        else f"{row['rule']}: predicted, not measured; there is no control scan to hold it against"
    )
    return [Check("baseline", "warn", _NAN, _BASELINE, rule)]


def _bias_text(row: Mapping[str, Any], target: Any) -> str:
    text = f"{row['rule']} is {row['bias']:+.2f} ± {row['spread']:.2f} DAC from the control scan"
    # a baseline that is low makes targets large and gains small
    return f"{text}, which changes the gain by {row['bias'] / target:+.1%}" if target else text


def _gain(selections: pl.DataFrame) -> list[Check]:
    rows = {row["selection"]: row for row in selections.iter_rows(named=True)}
    own = rows["good"]
    if own["gain_mean"] is None:
        return [Check("gain", "no-statistics", 0, 1, "no good pixel has a gain")]
    found = []
    for name in ("even", "odd", "rows"):
        group = rows[name]
        if group["gain_mean"] is None or not group["n_good"]:
            continue
        difference = group["gain_mean"] / own["gain_mean"] - 1
        error = np.hypot(group["gain_mean_error"], own["gain_mean_error"]) / own["gain_mean"]
        many = abs(difference) > _GROUPS and abs(difference) > 5 * error
        rule = f"the mean gain of the group differs by {difference:+.2%} ± {error:.2%} from that of all good pixels"
        found.append(Check("gain of a group", "warn" if many else "ok", difference, _GROUPS, rule, name))
    return found
