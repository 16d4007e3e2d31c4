"""Options of a SpinQuest run, and what they mean for reading."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

import numpy as np
import pydantic

from firstlight.data.select import Cut, Selection, parse
from firstlight.detector import Description, Plan
from firstlight.detectors.spinquest.channels import channel_map, geometry_of
from firstlight.detectors.spinquest.layouts import TRIGGERS
from firstlight.errors import SelectionError, nearest
from firstlight.run.config import StrictModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from firstlight.data.schema import Chunk

__all__ = ["Options", "View", "first_hit", "plan"]


class View(StrictModel):
    """How occupancies are drawn; nothing here changes a number.

    Attributes
    ----------
    quantity : {"hits", "events"}
        All hits, or the fraction of events in which the element fired.
    scale : {"linear", "log", "per-detector"}
        Colour scale: one for all planes, linear or logarithmic, or each plane relative to its own maximum
        (a single hot element does not count).
    groups : str
        File that says which planes are drawn together; the geometry's own groups where empty.
    legacy_layout : bool
        Flat file names and counting of the original tool.
    """

    quantity: Literal["hits", "events"] = "hits"
    scale: Literal["linear", "log", "per-detector"] = "log"
    groups: str = ""
    legacy_layout: bool = False


class Options(StrictModel):
    """Options of a SpinQuest run.

    Attributes
    ----------
    geometry : str
        ``auto``, ``E1039``, ``E906``, ``original``, or the path of a table of planes.
    in_time : bool
        Count only hits whose in-time flag is set.
    trigger : tuple of str
        Use only events in which one of these triggers fired: FPGA1 .. FPGA5, NIM1 .. NIM5.
    first_hit : bool
        Use only the first hit of each element in each event: the one with the largest TDC time.
    cuts : tuple of str
        Further conditions on hits, as SQL-like expressions.
    view : View
        How occupancies are drawn.
    """

    geometry: str = "auto"
    in_time: bool = False
    trigger: tuple[str, ...] = ()
    first_hit: bool = False
    cuts: tuple[str, ...] = ()
    view: View = View()

    @pydantic.field_validator("trigger")
    @classmethod
    def _known_triggers(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        upper = tuple(name.upper().replace("MATRIX", "FPGA") for name in names)
        for given, name in zip(names, upper, strict=True):
            if name not in TRIGGERS:
                close = nearest(name, TRIGGERS)
                guess = f", did you mean {' or '.join(close)}?" if close else ""
                what = f"unknown trigger {given!r}{guess} There are {', '.join(TRIGGERS)}."
                raise ValueError(what)
        return upper

    @pydantic.field_validator("cuts")
    @classmethod
    def _expressions(cls, cuts: tuple[str, ...]) -> tuple[str, ...]:
        for cut in cuts:
            try:
                parse(cut)
            except SelectionError as error:
                raise ValueError(error.what) from error
        return cuts


def first_hit(chunk: Chunk) -> NDArray[np.bool_]:
    """Return which hits are the first of their element in their event (common stop: the largest time)."""
    from firstlight.data.kernels import first_of_channel

    hits = chunk.table("hits")
    n_hits = np.bincount(hits.array("event"), minlength=len(chunk.table("events")))
    offsets = np.concatenate([[0], np.cumsum(n_hits, dtype=np.int64)])
    channel = np.ascontiguousarray(hits.array("channel"))
    n_channels = int(channel.max(initial=-1)) + 1
    time = np.nan_to_num(hits.array("tdc_time"), nan=-np.inf)
    return np.asarray(first_of_channel(channel, time, offsets, n_channels))


def selection_of(options: Options) -> Selection:
    """Return the cuts that the options ask for."""
    cuts = []
    if options.trigger:
        condition = " or ".join(f'"{name}"' for name in options.trigger)
        cuts.append(Cut(f"trigger {' or '.join(options.trigger)}", "events", condition))
    if options.in_time:
        cuts.append(Cut("in time", "hits", "in_time = 1"))
    if options.first_hit:
        cuts.append(Cut("first hit of its element", "hits", first_hit, ("channel", "event", "tdc_time")))
    cuts += [Cut(cut, "hits", cut) for cut in options.cuts]
    return Selection(tuple(cuts))


def plan(options: Options, descriptions: Sequence[Description]) -> Plan:
    """Return the channel map, the cuts, and which files cannot serve them."""
    n_planes = {found.facts["n_planes"] for found in descriptions if "n_planes" in found.facts}
    n_planes |= {0 for found in descriptions if "n_planes" not in found.facts}
    channels = channel_map(geometry_of(options.geometry, n_planes))
    if options.view.groups:
        # a mistake in the file of groups is told before anything is read
        from firstlight.detectors.spinquest.views import read_groups

        read_groups(options.view.groups, channels)
    refused = {}
    wishes = (
        (options.in_time, "has_in_time", "the file has no in-time flag, and --in-time was asked for"),
        (bool(options.trigger), "has_trigger", "the file has no trigger bits, and --trigger was asked for"),
    )
    for found in descriptions:
        lacks = [reason for wanted, fact, reason in wishes if wanted and not found.facts.get(fact)]
        if options.first_hit and "tdc_time" not in found.tables["hits"]:
            lacks.append("the file has no TDC times, and --first-hit was asked for")
        if lacks:
            refused[found.path] = "; ".join(lacks)
    notes = [f"geometry {channels.version}, {len(channels)} channels"]
    kinds = Counter(found.kind for found in descriptions)
    if len(kinds) > 1:
        several = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        notes.append(
            f"files of several kinds are added up: {several}; data and simulations may be among them"
        )
    return Plan(channels, selection_of(options), refused, tuple(notes))
