"""The headline numbers and the checks of a SpinQuest run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from firstlight.detectors.spinquest.channels import geometry_in
from firstlight.detectors.spinquest.quality import silent_sections
from firstlight.steps.multiplicity import moments
from firstlight.steps.step import Check, Context, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["checks", "summary"]

_NAN = float("nan")
_PLANE_VERDICT: dict[str, Verdict] = {
    "dead": "bad",
    "low": "bad",
    "hot": "bad",
    "no_statistics": "no-statistics",
}
_STATES = ("dead", "hot", "low")
_LOW_EFFICIENCY = 0.9
# a part of the detector is missed by all particles of so many events in one of a million cases, if half miss it
_FEW_EVENTS = 20
# in-time hits that a plane should have before their absence is remarkable: hits come in groups
_UNFLAGGED = 100


def summary(products: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
    """Return the headline numbers of a run."""
    if "occupancy/counts" not in products:
        return _efficiency_summary(products)
    counts = products["occupancy/counts"].select(kind="hits")
    n_files = products["occupancy/by_file"].frame["file"].n_unique()
    if "spills/spills" in products:
        n_files = products["spills/spills"].frame["file"].n_unique()
    rows: list[dict[str, Any]] = [
        {"label": "files used", "value": n_files, "unit": f"of {len(context.files)}"}
    ]
    if "occupancy/totals" in products:
        totals = products["occupancy/totals"].frame.row(0, named=True)
        rows.append({"label": "events", "value": totals["n_events"], "unit": ""})
        rows.append({"label": "events without hits", "value": totals["n_empty"], "unit": ""})
    rows.append({"label": "hits", "value": int(counts.sum()), "unit": ""})
    if "spills/spills" in products:
        spills = products["spills/spills"].frame
        rows[1:1] = [{"label": "spills", "value": spills.height, "unit": ""}]
        invalid = int(spills["n_bad_detector"].sum()) + int(spills["n_bad_element"].sum())
        rows.append({"label": "hits outside the geometry", "value": invalid, "unit": ""})
        in_time = spills["n_in_time"].drop_nulls()
        if len(in_time):
            rows.append({"label": "in-time hits", "value": int(in_time.sum()), "unit": ""})
    if "multiplicity/hits_per_event" in products:
        found = moments(products["multiplicity/hits_per_event"].select(section="all"))
        for name in ("mean", "median"):
            if found["n"]:
                rows.append({"label": f"hits per event, {name}", "value": round(found[name], 1), "unit": ""})
    # parts that are not installed count only where they have hits
    there = int(np.count_nonzero((counts > 0) | ~context.channels.optional))
    rows.append(
        {"label": "elements that fired", "value": int(np.count_nonzero(counts)), "unit": f"of {there}"}
    )
    return rows


def checks(products: Mapping[str, Any], context: Context) -> list[Check]:
    """Return all checks of a run, those of the data first."""
    found: list[Check] = []
    if "spills/spills" in products:
        found += _data(products["spills/spills"].frame, products["spills/invalid"].frame, context)
    if "spills/planes" in products and not context.cut:
        found += _flags(products["spills/planes"].frame)
    if "quality/channels" in products:
        counts = products["occupancy/counts"].select(kind="hits")
        found += _sections(counts, context, products)
        found += _planes(products["quality/planes"].frame)
        found += _elements(products)
    if "quality/times" in products:
        found += _times(products["quality/times"].frame)
    if "efficiency/planes" in products:
        found += _efficiencies(products["efficiency/planes"].frame, context)
    if "trend/points" in products:
        found += _trend(products["trend/points"].frame)
    return found


def _data(spills: pl.DataFrame, invalid: pl.DataFrame, context: Context) -> list[Check]:
    events = int(spills["n_events"].sum())
    found: list[Check] = []
    if not events:
        return [Check("events", "no-statistics", 0, 1, "there are no events")]
    hits = int(spills["n_hits"].sum())
    outside = int(spills["n_bad_detector"].sum()) + int(spills["n_bad_element"].sum())
    fraction = outside / max(hits + outside, 1)
    rule = f"{outside} of {hits + outside} hits have IDs outside the geometry ({fraction:.2%})"
    pairs = invalid.group_by("detector_id", "element_id").agg(pl.col("hits").sum())
    worst = pairs.sort("hits", "detector_id", "element_id", descending=[True, False, False]).head(8)
    details = tuple(
        f"detector {row['detector_id']} element {row['element_id']}: {row['hits']}"
        for row in worst.iter_rows(named=True)
    )
    verdict: Verdict = "ok" if not outside else "warn" if fraction < 0.01 else "bad"
    found.append(Check("hits outside the geometry", verdict, fraction, 0.01, rule, details=details))
    differs = int(spills["n_header_differs"].sum())
    if not context.cut:
        rule = f"in {differs} of {events} events the writer's numbers of hits (fNHits, in all and per plane) differ from the hits found"
        found.append(Check("hits per event as written", "bad" if differs else "ok", differs, 0, rule))
    known = spills.filter(pl.col("n_in_time").is_not_null() & (pl.col("n_hits") > 0))
    unfilled = known.filter(pl.col("n_in_time") == 0)
    if known.height:
        rule = f"in-time flag filled in {known.height - unfilled.height} of {known.height} spills"
        if unfilled.height:
            rule = f"in-time flag not filled in {unfilled.height} of {known.height} spills: no hit has it set"
        details = tuple(
            f"{row['file']} spill {row['spill_id']}" for row in unfilled.head(8).iter_rows(named=True)
        )
        found.append(
            Check(
                "in-time flag", "warn" if unfilled.height else "ok", unfilled.height, 0, rule, details=details
            )
        )
    return found


def _flags(planes: pl.DataFrame) -> list[Check]:
    """Return a check for each plane none of whose hits is in time, in spills in which the flag is filled."""
    known = planes.filter(pl.col("n_in_time").is_not_null()).with_columns(
        filled=pl.col("n_in_time").sum().over("file", "spill_id")
    )
    known = known.filter(pl.col("filled") > 0)
    total = known.select(pl.col("n_hits", "n_in_time").sum()).row(0)
    share = total[1] / max(total[0], 1)
    found = []
    for plane, hits, marked in (
        known.group_by("plane", maintain_order=True).agg(pl.col("n_hits", "n_in_time").sum()).iter_rows()
    ):
        if marked == 0 and hits * share >= _UNFLAGGED:
            rule = (
                f"none of {hits} hits is in time, {share:.1%} of all hits are: no window, or hits outside it"
            )
            found.append(Check("in-time flag of a plane", "warn", 0, share, rule, plane))
    return found


def _sections(counts: Any, context: Context, products: Mapping[str, Any]) -> list[Check]:
    channels = context.channels
    if "occupancy/totals" in products:
        events = int(products["occupancy/totals"].frame["n_events"].sum())
        if events < _FEW_EVENTS:
            return []  # particles may all have gone elsewhere
    silent = silent_sections(counts, channels) & ~channels.optional
    if not counts.any():
        return []
    names = list(dict.fromkeys(channels.column("section")[silent]))
    return [
        Check(
            "detector group without hits", "warn", 0, 1,
            f"no plane of {name} has any hit: off, not installed, or not simulated", str(name),
        )
        for name in names
    ]  # fmt: skip


def _planes(planes: pl.DataFrame) -> list[Check]:
    found = []
    for row in planes.iter_rows(named=True):
        if row["state"] in ("absent", "masked"):
            continue
        verdict = _PLANE_VERDICT.get(row["state"], "ok")
        ratio = _NAN if row["ratio"] is None else row["ratio"]
        rule = row["rule"] or f"{row['count']} hits, {row['state'].replace('_', ' ')}"
        name = "plane" if verdict in ("ok", "no-statistics") else f"plane {row['state']}"
        found.append(Check(name, verdict, ratio, _NAN, rule, row["plane"]))
    return found


def _elements(products: Mapping[str, Any]) -> list[Check]:
    """Return a check for each plane and state of its elements, and one for each whole dead module."""
    channels = products["quality/channels"].frame
    planes = products["quality/planes"].frame
    dead_planes = planes.filter(pl.col("state") == "dead")["plane"]
    flagged = channels.filter(pl.col("state").is_in(_STATES) & ~pl.col("plane").is_in(dead_planes.implode()))
    found = []
    blocks = products["quality/blocks"].frame.filter(pl.col("whole_blocks") > 0)
    for row in blocks.iter_rows(named=True):
        modules = f"{row['whole_blocks']} whole hardware block{'s' if row['whole_blocks'] > 1 else ''}"
        rule = f"elements {row['first']}-{row['last']} are dead: {row['n']} in a row, {modules}"
        found.append(Check("dead block", "bad", row["n"], 0, rule, row["plane"]))
    for (plane, state), part in flagged.group_by(["plane", "state"], maintain_order=True):
        elements = part["element"].to_list()
        first = part.row(0, named=True)
        rule = f"{len(elements)} {state} element{'s' if len(elements) > 1 else ''}: {runs_of(elements)}"
        if len(elements) == 1:
            rule += f"; {first['rule']}"
        verdict: Verdict = "bad" if state == "hot" else "warn"
        # one element stands with its rule already
        listed = part.head(40).iter_rows(named=True) if len(elements) > 1 else ()
        details = tuple(f"{row['element']}: {row['rule']}" for row in listed)
        ratio = _NAN if first["ratio"] is None else first["ratio"]
        found.append(
            Check(
                f"{state} elements",
                verdict,
                ratio if len(elements) == 1 else len(elements),
                _NAN,
                rule,
                str(plane),
                details,
            )
        )
    judged = channels.filter(~pl.col("state").is_in(["absent", "masked"]))
    known = judged.filter(pl.col("state") != "no_statistics").height
    rule = f"{known} of {judged.height} elements have enough hits to be judged"
    found.append(
        Check(
            "statistics",
            "ok" if known > judged.height / 2 else "no-statistics",
            known / max(judged.height, 1),
            0.5,
            rule,
        )
    )
    return found


def runs_of(numbers: list[int]) -> str:
    """Return whole numbers with consecutive ones as ranges: ``"6-8, 57"``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def _times(times: pl.DataFrame) -> list[Check]:
    found = []
    for row in times.filter(pl.col("state") != "no_statistics").iter_rows(named=True):
        verdict: Verdict = "bad" if row["state"] == "shifted" else "ok"
        rule = (
            row["rule"]
            or f"median TDC time {row['median']:.1f} ns, {row['shift']:+.1f} ns from {row['against']}"
        )
        name = "time shifted" if verdict == "bad" else "time"
        found.append(Check(name, verdict, row["shift"], _NAN, rule, row["plane"]))
    return found


def _efficiency_summary(products: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "efficiency/planes" not in products:
        return []
    planes = products["efficiency/planes"].frame
    known = planes.filter(pl.col("state") == "ok")["efficiency"]
    rows: list[dict[str, Any]] = [
        {"label": "planes with an efficiency", "value": known.len(), "unit": f"of {planes.height}"}
    ]
    if known.len():
        rows += [
            {"label": f"efficiency, {word}", "value": round(float(value), 4)}
            for word, value in (("median", known.median()), ("lowest", known.min()))
        ]
    return rows


def _efficiencies(planes: pl.DataFrame, context: Context) -> list[Check]:
    """Return a check for each plane: a low efficiency is for people to judge, its absence has a reason.

    A single layer of tubes has gaps between them, which no tube is to blame for: its limit is lower by their share.
    """
    found = []
    geometry = geometry_in(context)
    # planes for which there is no method, and planes that are not there, are in the table only
    for row in planes.filter((pl.col("method") != "") & (pl.col("n_probes") > 0)).iter_rows(named=True):
        value = _NAN if row["efficiency"] is None else row["efficiency"]
        if row["state"] == "ok":
            plane = geometry.plane(row["plane"])
            limit = _LOW_EFFICIENCY * min(plane.cell_width / plane.pitch, 1.0)
            verdict: Verdict = "warn" if row["high"] < limit else "ok"
            interval = f"{value:.4f} (68 %: {row['low']:.4f} to {row['high']:.4f})"
            rule = f"efficiency {interval} from {row['n_probes']} probes, {row['method']}"
        else:
            verdict, limit = "no-statistics", _LOW_EFFICIENCY
            rule = row["rule"] or row["state"]
        found.append(Check("efficiency", verdict, value, limit, rule, row["plane"]))
    return found


def _trend(points: pl.DataFrame) -> list[Check]:
    found = []
    for row in points.filter(pl.col("state").is_in(["high", "low"])).iter_rows(named=True):
        what = row["quantity"] if not row["subject"] else f"{row['quantity']} of {row['subject']}"
        unit = f" {row['unit']}" if row["unit"] else ""
        rule = f"spill {row['label']}: {what} is {row['value']:.4g}{unit}, its neighbours have {row['expected']:.4g} ({row['pull']:+.1f} standard deviations)"
        found.append(
            Check(
                "step in a trend",
                "warn",
                row["value"],
                row["expected"],
                " ".join(rule.split()),
                row["subject"] or row["quantity"],
            )
        )
    if points.height and not found:
        known = points.filter(pl.col("state") == "ok").height
        rule = (
            f"{known} points of {points['quantity'].n_unique()} quantities in line"
            if known
            else "fewer than three spills"
        )
        found.append(Check("trends", "ok" if known else "no-statistics", known, _NAN, rule))
    return found
