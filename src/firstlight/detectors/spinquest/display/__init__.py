"""Event displays: one event as pictures or as an interactive page, and a folder that is followed."""

from firstlight.detectors.spinquest.display.event import (
    Event,
    event_range,
    only_in_time,
    open_events,
    read_event,
    read_events,
)
from firstlight.detectors.spinquest.display.pictures import (
    STATES,
    VIEWS,
    draw,
    draw_map,
    draw_station,
    draw_wires,
    plot_events,
)
from firstlight.detectors.spinquest.display.scene import draw_xz, draw_yz

__all__ = [
    "STATES",
    "VIEWS",
    "Event",
    "draw",
    "draw_map",
    "draw_station",
    "draw_wires",
    "draw_xz",
    "draw_yz",
    "event_range",
    "only_in_time",
    "open_events",
    "plot_events",
    "read_event",
    "read_events",
]
