"""What is thought of the products: headline numbers, checks with their rule, pictures."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.steps.step import Check, Context, Verdict
from firstlight.view.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap

__all__ = ["checks", "figures", "summary"]

_ENOUGH = 20  # hits of the median bar from which a bar without hits is dead rather than unlucky
_HOT = 3.0
_SPREAD = 0.2


def summary(products: Mapping[str, Any], _: Context) -> list[dict[str, Any]]:
    """Return the headline numbers of a run."""
    totals = products["occupancy/totals"].frame.row(0, named=True)
    return [
        {"label": "events", "value": totals["n_events"], "unit": ""},
        {"label": "events without hits", "value": totals["n_empty"], "unit": ""},
        {"label": "hits", "value": totals["n_hits"], "unit": ""},
    ]


def checks(products: Mapping[str, Any], _: Context) -> list[Check]:
    """Return the judgements, each with the number, the limit and the rule as a sentence."""
    hits = products["occupancy/counts"].select(kind="hits")
    usual = float(np.median(hits))
    if usual < _ENOUGH:
        rule = f"the median bar has {usual:.0f} hits, {_ENOUGH} are needed to tell dead from unlucky"
        return [Check("statistics", "no-statistics", usual, _ENOUGH, rule)]
    dead, hot = np.flatnonzero(hits == 0), np.flatnonzero(hits > _HOT * usual)
    about = f"where the median bar has {usual:.0f}"
    found = [
        _counted("dead bars", dead, f"{dead.size} of {hits.size} bars have no hit {about}"),
        _counted("hot bars", hot, f"{hot.size} bars have more than {_HOT:.0f} times the hits {about}"),
    ]
    known = products["response/bars"].frame["response"].drop_nulls()
    spread = float(known.std(ddof=0)) if len(known) else float("nan")
    verdict: Verdict = "no-statistics" if not len(known) else "warn" if spread > _SPREAD else "ok"
    rule = (
        f"the responses of {len(known)} bars have a standard deviation of {spread:.1%}, limit {_SPREAD:.0%}"
    )
    rule = rule if len(known) else "no bar has enough hits"
    return [*found, Check("spread of the response", verdict, spread, _SPREAD, rule)]


def _counted(name: str, channels: NDArray[np.int64], rule: str) -> Check:
    verdict: Verdict = "bad" if channels.size else "ok"
    return Check(name, verdict, channels.size, 0, rule, details=tuple(f"bar {c}" for c in channels))


def figures(products: Mapping[str, Any], context: Context) -> list[Figure]:
    """Return the pictures. Nothing is drawn yet: each holds the function that will."""
    hits = products["occupancy/counts"].select(kind="hits")
    response = products["response/bars"].array("response")
    cube = products["charge/all"]
    hits_map = partial(_map, hits, context.channels, "hits")
    response_map = partial(_map, response, context.channels, "relative response")
    about = "Mean charge of each bar relative to the median bar; grey bars have too few hits."
    return [
        Figure("hits", "Hits", "Hits of each bar at its place in the array.", "Maps", hits_map),
        Figure("response", "Response", about, "Maps", response_map),
        Figure(
            "charge", "Charge", "Charge [pC] of all hits of all bars.", "Spectra", partial(_spectrum, cube)
        ),
    ]


def _map(values: NDArray[Any], channels: ChannelMap, label: str) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    from firstlight.view.draw import draw_channel_map

    canvas = Canvas(figsize=(5, 4))
    axes = canvas.add_subplot()
    draw_channel_map(axes, values, channels, colour_label=label, zero_is_empty=label == "hits")
    return canvas


def _spectrum(cube: Any) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    from firstlight.view.draw import draw_spectrum

    canvas = Canvas(figsize=(6, 4))
    axis = cube.axis("charge")
    draw_spectrum(canvas.add_subplot(), axis.edges, cube.values.sum(axis=0), labels=(axis.title, "hits"))
    return canvas
