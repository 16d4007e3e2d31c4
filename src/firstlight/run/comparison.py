"""A run held against a reference run, channel by channel."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detector import get_detector
from firstlight.errors import InputError
from firstlight.run import provenance
from firstlight.run.chain import Settings
from firstlight.run.finished import context_of
from firstlight.run.store import Run
from firstlight.steps.compare import CompareParameters, Comparison, compare_counts
from firstlight.steps.step import Check, Verdict, worst

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap
    from firstlight.data.schema import Block

__all__ = ["aligned", "compare_runs"]

COUNTS = "occupancy/counts"


def compare_runs(
    run: Run,
    reference: Run,
    output: Path,
    parameters: CompareParameters | None = None,
    settings: Settings | None = None,
) -> Run:
    """Compare the counts of the channels of two runs, and write what comes out as a run directory.

    Parameters
    ----------
    run, reference : Run
        With the product ``occupancy/counts``. Channels are matched by group and position, so that two
        versions of a channel map can be compared.
    output : Path
        Run directory of the comparison.
    parameters : CompareParameters, optional
        Limits.
    settings : Settings, optional
        Whether figures are drawn, and where progress is shown.

    Raises
    ------
    InputError
        If one of the runs has no counts, or they are of different detectors.
    """
    settings = settings or Settings()
    parameters = parameters or CompareParameters()
    if run.record["detector"] != reference.record["detector"]:
        what = f"is a run of {reference.record['detector']!r}, the other of {run.record['detector']!r}"
        raise InputError(what, where=reference.folder)
    activity = provenance.activity(settings.command)
    detector = get_detector(run.record["detector"])
    channels = context_of(run, detector).channels
    before, unmatched = aligned(_counts(reference), context_of(reference, detector).channels, channels)
    found = compare_counts(
        _counts(run),
        before,
        channels.group_index,
        channels.group_names,
        channels.column("position"),
        parameters,
    )
    with Run.writing(output, detector.name) as result:
        used = [str(part[COUNTS].provenance["key"]) for part in (run, reference)]
        plain = parameters.model_dump(mode="json")
        key = provenance.product_key("compare", 1, plain, used)
        about = {
            "key": key,
            "wasGeneratedBy": "compare",
            "version": 1,
            "parameters": plain,
            "used": [COUNTS, COUNTS],
        }
        result.put("compare/channels", found.channels, about)
        result.put("compare/groups", found.groups, about)
        checks = _checks(found, unmatched)
        result.record.update(
            title=f"{detector.title}: comparison with a reference",
            activity=activity,
            configuration={"compare": plain},
            channels=run.record["channels"],
            files=[],
            inputs=[
                {"path": f"{label} {part.folder.name}", "status": "used", "digest": used[index], "reason": "", "notes": []}
                for index, (label, part) in enumerate((("run", run), ("reference", reference)))
            ],
            steps={"compare": {"version": 1, "key": key, "parameters": plain, "products": ["compare/channels", "compare/groups"]}},
            checks=[check.to_dict() for check in checks],
            verdict=worst([check.verdict for check in checks]),
            summary=_summary(found),
            notes=[f"{unmatched} counts of the reference are in channels that the run does not have"] if unmatched else [],
        )  # fmt: skip
        if settings.plots:
            _draw(result, found, channels, settings)
        activity["ended"] = provenance.now()
        result.save()
        if settings.plots:
            from firstlight.view.report import write_report

            write_report(result)
        return result


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
    if COUNTS not in run:
        what = "the run has no counts per channel"
        raise InputError(what, where=run.folder, known=list(run))
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


def _draw(result: Run, found: Comparison, channels: ChannelMap, settings: Settings) -> None:
    from firstlight.view.comparison import figures, tables
    from firstlight.view.save import save_figures

    result.record["tables"] = [asdict(table) for table in tables()]
    result.record["figures"] = save_figures(
        figures(found, channels), result.folder, settings.formats, settings.progress
    )
