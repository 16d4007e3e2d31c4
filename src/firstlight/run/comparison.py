"""A run held against a reference run, channel by channel: counts, and constants that have errors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detector import get_detector
from firstlight.errors import InputError
from firstlight.run import provenance
from firstlight.run.chain import Settings
from firstlight.run.comparison_constants import checks as constant_checks
from firstlight.run.comparison_constants import compare_constants, places_of, regions_of, same_channels
from firstlight.run.comparison_constants import summary as constant_summary
from firstlight.run.finished import context_of
from firstlight.run.store import Run
from firstlight.steps.compare import CompareParameters, Comparison, compare_counts
from firstlight.steps.compare_constants import channel_table, column_table, compare_regions, region_table
from firstlight.steps.step import Check, Verdict, worst

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap
    from firstlight.data.schema import Block, Table

__all__ = ["aligned", "compare_runs"]

COUNTS = "occupancy/counts"
_PRODUCTS = (
    "compare/channels",
    "compare/groups",
    "constants/columns",
    "constants/channels",
    "constants/regions",
)


def compare_runs(
    run: Run,
    reference: Run,
    output: Path,
    parameters: CompareParameters | None = None,
    settings: Settings | None = None,
) -> Run:
    """Compare counts and constants of the channels of two runs, and write what comes out as a run directory.

    Parameters
    ----------
    run, reference : Run
        Of the same detector. Counts are compared where both have the product ``occupancy/counts``; channels are
        matched by group and position, so that two versions of a channel map can be compared. Where both
        have the same channels, every table with a row per channel is compared, column by column, where a
        column has an error (``NAME_error`` or ``NAME_statistical``).
    output : Path
        Run directory of the comparison: ``compare/channels`` and ``compare/groups`` of counts,
        ``constants/columns``, ``constants/regions`` and ``constants/channels`` of constants.
    parameters : CompareParameters, optional
        Limits.
    settings : Settings, optional
        Whether figures are drawn, and where progress is shown.

    Raises
    ------
    InputError
        If the runs have neither counts nor constants in common, or they are of different detectors.
    """
    settings = settings or Settings()
    parameters = parameters or CompareParameters()
    if run.record["detector"] != reference.record["detector"]:
        what = f"is a run of {reference.record['detector']!r}, the other of {run.record['detector']!r}"
        raise InputError(what, where=reference.folder)
    activity = provenance.activity(settings.command)
    detector = get_detector(run.record["detector"])
    channels, others = (context_of(part, detector).channels for part in (run, reference))
    parts, notes = _parts(run, reference, channels, others, parameters)
    plain = parameters.model_dump(mode="json")
    with Run.writing(output, detector.name) as result:
        for name in _PRODUCTS:
            # of an older comparison there
            result.drop(name)
        steps = {}
        for part in parts:
            keys = [str(own[name].provenance["key"]) for own in (run, reference) for name in part.used]
            key = provenance.product_key(part.name, 1, plain, keys)
            steps[part.name] = {
                "version": 1,
                "key": key,
                "parameters": plain,
                "products": list(part.products),
            }
            about = {"key": key, "wasGeneratedBy": part.name, "version": 1, "parameters": plain}
            for name, product in part.products.items():
                result.put(name, product, {**about, "used": list(part.used) * 2})
        checks = [check for part in parts for check in part.checks]
        result.record.update(
            title=f"{detector.title}: comparison with a reference",
            activity=activity,
            configuration={"compare": plain},
            channels=run.record["channels"],
            files=[],
            inputs=[
                {"path": f"{label} {own.folder.name}", "status": "used", "digest": _digest(own, parts), "reason": "", "notes": []}
                for label, own in (("run", run), ("reference", reference))
            ],
            steps=steps,
            checks=[check.to_dict() for check in checks],
            verdict=worst([check.verdict for check in checks]),
            summary=[entry for part in parts for entry in part.summary],
            notes=[*notes, *(note for part in parts for note in part.notes)],
        )  # fmt: skip
        if settings.plots:
            _draw(result, parts, settings)
        activity["ended"] = provenance.now()
        result.save()
        if settings.plots:
            from firstlight.view.report import write_report

            write_report(result)
        return result


@dataclass(frozen=True)
class _Part:
    """What was compared: counts, or constants; `figures` returns figures and tables of the report."""

    name: str
    used: tuple[str, ...]
    products: Mapping[str, Table]
    checks: list[Check]
    summary: list[dict[str, Any]]
    notes: list[str]
    figures: Callable[[], tuple[list[Any], list[Any]]]


def _parts(
    run: Run, reference: Run, channels: ChannelMap, others: ChannelMap, parameters: CompareParameters
) -> tuple[list[_Part], list[str]]:
    """Return what the runs have in common, and notes on what only one of them has."""
    parts, notes = [], []
    without = [own for own in (run, reference) if COUNTS not in own]
    same = same_channels(channels, others)
    if channels.name != others.name:
        notes.append(f"channels of {channels.name} are compared with those of {others.name}")
    if not without:
        parts.append(_count_part(run, reference, channels, others, parameters))
    elif len(without) == 1:
        notes.append(f"{without[0].folder.name} has no counts per channel: counts are not compared")
    if same:
        parts += _constant_parts(run, reference, channels, parameters)
    else:
        notes.append("the channel maps have other channels: constants are not compared")
    if not parts:
        reason = "constants with errors" if same else "the same channels"
        what = f"the runs have neither counts per channel nor {reason} in common"
        raise InputError(
            what, where=(without or [run])[0].folder, known=list(run), hint="two runs of the same steps"
        )
    return parts, notes


def _count_part(
    run: Run, reference: Run, channels: ChannelMap, others: ChannelMap, parameters: CompareParameters
) -> _Part:
    places = {"group", "position"}
    if places <= set(channels.frame.columns) and places <= set(others.frame.columns):
        before, unmatched = aligned(_counts(reference), others, channels)
    elif same_channels(channels, others):
        before, unmatched = _counts(reference), 0
    else:
        what = "has other channels, and without groups and positions they cannot be matched"
        raise InputError(what, where=reference.folder, hint="two runs of the same channel map")
    grouped = "group" in channels.frame.columns
    found = compare_counts(
        _counts(run),
        before,
        channels.group_index if grouped else np.zeros(len(channels), dtype=np.int64),
        channels.group_names if grouped else [channels.name],
        channels.column("position") if "position" in channels.frame.columns else None,
        parameters,
    )

    def drawn() -> tuple[list[Any], list[Any]]:
        from firstlight.view.comparison import figures, tables

        return figures(found, channels), tables()

    lost = f"{unmatched} counts of the reference are in channels that the run does not have"
    products = {"compare/channels": found.channels, "compare/groups": found.groups}
    return _Part(
        "compare", (COUNTS,), products, _checks(found, unmatched), _summary(found), [lost] if unmatched else [], drawn
    )  # fmt: skip


def _constant_parts(
    run: Run, reference: Run, channels: ChannelMap, parameters: CompareParameters
) -> list[_Part]:
    """Return the comparison of constants, if there are any."""
    found, notes = compare_constants(run, reference, channels, parameters)
    if not found:
        return []
    places = places_of(channels)
    region, names = regions_of(channels)
    regions = [
        row
        for part in found
        for row in compare_regions(part, region, names, parameters)
        if part.numbers["state"] != "identical"
    ]
    products = {
        "constants/columns": column_table(found),
        "constants/channels": channel_table(found, places),
        "constants/regions": region_table(regions),
    }

    def drawn() -> tuple[list[Any], list[Any]]:
        from firstlight.view.comparison_constants import figures, tables

        changed = {
            (row["product"], row["column"], row["region"]) for row in regions if row["state"] == "changed"
        }
        places_of_changed = {
            part.title: [
                np.flatnonzero(region == index)
                for index, name in enumerate(names)
                if (part.product, part.column, name) in changed
            ]
            for part in found
        }
        return figures(found, channels, parameters.constant_pull_limit, places_of_changed), tables()

    used = tuple(dict.fromkeys(part.product for part in found))
    checks = constant_checks(found, regions, places, parameters)
    return [_Part("constants", used, products, checks, constant_summary(found, regions), notes, drawn)]


def _digest(run: Run, parts: list[_Part]) -> str:
    """Return one digest of all products of a run that were compared."""
    keys = [str(run[name].provenance["key"]) for part in parts for name in part.used]
    return keys[0] if len(keys) == 1 else provenance.product_key("compare", 1, {}, keys)


def aligned(
    counts: NDArray[np.int64], channels: ChannelMap, target: ChannelMap
) -> tuple[NDArray[np.int64], int]:
    """Return counts in the order of another channel map, matched by group and position.

    Parameters
    ----------
    counts : ndarray, shape (n_channels,)
        Counts of `channels`.
    channels, target : ChannelMap
        From and to.

    Returns
    -------
    counts : ndarray, shape (n_target_channels,)
        0 where `channels` has no such channel.
    unmatched : int
        Sum of the counts for which the target has no channel.
    """
    places = {
        (group, int(position)): index
        for index, (group, position) in enumerate(
            zip(target.column("group"), target.column("position"), strict=True)
        )
    }
    result = np.zeros(len(target), dtype=np.int64)
    unmatched = 0
    for count, group, position in zip(
        counts, channels.column("group"), channels.column("position"), strict=True
    ):
        place = places.get((group, int(position)))
        if place is None:
            unmatched += int(count)
        else:
            result[place] = count
    return result, unmatched


def _counts(run: Run) -> NDArray[np.int64]:
    block: Any = run[COUNTS].value
    counts: Block = block
    return np.asarray(counts.select(kind="hits"), dtype=np.int64)


def _summary(found: Comparison) -> list[dict[str, Any]]:
    groups, channels = found.groups.frame, found.channels.frame
    state = channels["state"]
    return [
        {"label": "counts", "value": int(channels["count"].sum())},
        {"label": "counts of the reference", "value": int(channels["reference"].sum())},
        {"label": "scale", "value": round(found.scale, 4)},
        {
            "label": "channels compared",
            "value": int((state != "no_statistics").sum()),
            "unit": f"of {channels.height}",
        },
        {"label": "chi2 / ndf, one scale", "value": round(found.chi2_ndf_one_scale, 3)},
        {"label": "chi2 / ndf, a scale per group", "value": round(found.chi2_ndf, 3)},
        {"label": "dispersion", "value": round(found.dispersion, 3)},
        {"label": "groups flagged", "value": int(groups["state"].is_in(["high", "low", "gone"]).sum())},
        {"label": "channels flagged", "value": int(state.is_in(["high", "low", "gone", "new"]).sum())},
    ]


def _checks(found: Comparison, unmatched: int) -> list[Check]:
    checks = []
    for row in found.groups.frame.iter_rows(named=True):
        if row["state"] == "no_statistics":
            continue
        verdict: Verdict = "ok" if row["state"] == "ok" else "bad"
        value = float("nan") if row["scale"] is None else row["scale"]
        rule = f"{row['count']} counts, {row['reference']} in the reference"
        if row["scale"] is not None:
            rule += f": share changed by {100 * (row['scale'] - 1):+.1f} +- {100 * row['scale_error']:.1f} %"
        checks.append(Check("group against reference", verdict, value, 1.0, rule, row["group"]))
    import polars as pl

    flagged = found.channels.frame.filter(pl.col("state").is_in(["high", "low", "gone", "new"]))
    for (group, state), part in flagged.group_by(["group", "state"], maintain_order=True):
        places = ", ".join(str(position) for position in part["position"].head(30))
        details = tuple(
            f"{row['position']}: {row['count']} for {row['expected']:.1f} expected"
            + (f", {row['pull']:+.1f} standard deviations" if row["pull"] is not None else "")
            for row in part.head(40).iter_rows(named=True)
        )
        rule = f"{part.height} channels {state}: {places}; first {details[0]}"
        checks.append(Check(f"channels {state}", "warn", part.height, 0, rule, str(group), details))
    if unmatched:
        rule = f"{unmatched} counts of the reference are in channels that the run does not have"
        checks.append(Check("same channels", "warn", unmatched, 0, rule))
    return checks


def _draw(result: Run, parts: list[_Part], settings: Settings) -> None:
    from firstlight.view.save import save_figures

    drawn = [part.figures() for part in parts]
    result.record["tables"] = [asdict(table) for _, tables in drawn for table in tables]
    result.record["figures"] = save_figures(
        [figure for figures, _ in drawn for figure in figures], result.folder, settings.formats, settings.progress
    )  # fmt: skip
