"""Events in space as one self-contained page: it turns, layers can be switched, and it needs no network."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.lartpc.track import Track
from firstlight.detectors.lartpc.views.marks import ABOVE, KINDS, ORIGIN, label_colours, least_text, marks_of
from firstlight.detectors.lartpc.views.page_script import BODY, SCRIPT, STYLE
from firstlight.detectors.lartpc.views.scene import Scene, raw_layer
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from firstlight.detectors.lartpc.track import Truth
    from firstlight.detectors.lartpc.views.cubes import Cube
    from firstlight.detectors.lartpc.views.scene import Layer

    Floats = NDArray[np.float64]

__all__ = ["MAXIMUM_EVENTS", "MAXIMUM_MARKERS", "event_page"]

MAXIMUM_EVENTS = 200
MAXIMUM_MARKERS = 400_000  # with these a page has about 6 MB
_MM = 1e3
_STEPS = 24  # of the colour scale


@dataclass
class _Store:
    """Arrays of a page, one after the other."""

    parts: list[bytes]
    size: int = 0

    def add(self, values: NDArray[Any], kind: str) -> list[Any]:
        """Return where an array stands: kind, first byte, number of values."""
        data = np.ascontiguousarray(values, dtype=kind).tobytes()
        data += b"\0" * (-len(data) % 4)
        self.parts.append(data)
        self.size += len(data)
        return [kind[1:], self.size - len(data), int(values.size)]


def event_page(
    scenes: Scene | Sequence[Scene],
    path: str | Path,
    *,
    points: Track | Sequence[Track] | None = None,
    title: str = "",
    note: str = "",
    above: float = ABOVE,
) -> Path:
    """Write a page with one or more events that can be turned, enlarged and taken apart.

    Layers of charge (raw voxels, drifted, hits), clusters and truth are switched by buttons; position and charge of
    the marker under the pointer are shown. Library and data are compressed: a 10 MeV event takes about 2 MB. Browsers from 2023 on
    can open it, without a network.

    Parameters
    ----------
    scenes : Scene or sequence of Scene
        At most `MAXIMUM_EVENTS`, and so many that there are about `MAXIMUM_MARKERS` markers: others are left out,
        and the page says so. Voxels with labels can be coloured by cluster.
    path : str or Path
        Where the page is written.
    points : Track or sequence of Track, optional
        Tracks, one for each scene, whose points can be shown one by one too.
    title : str
        Of the page; that of the first event by default.
    note : str
        Shown on the page.
    above : float
        Interactions with less energy are not marked [keV].

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UsageError
        If there is no event, or there are more or fewer tracks than events.
    """
    from firstlight.files import write_text
    from firstlight.view.interactive import interactive_page

    given = [scenes] if isinstance(scenes, Scene) else list(scenes)
    if not given:
        what = "no event to show"
        raise UsageError(what, hint="scene_of(track)")
    tracks: list[Track | None] = [None] * len(given)
    if points is not None:
        tracks = [points] if isinstance(points, Track) else list(points)
        if len(tracks) != len(given):
            what = f"{len(tracks)} tracks of points for {len(given)} events"
            raise UsageError(what, hint="one track for each event, in their order")
    sizes = [
        sum(len(layer) for layer in scene.layers) + (len(track) if track else 0)
        for scene, track in zip(given, tracks, strict=True)
    ]
    n_shown = int(np.searchsorted(np.cumsum(sizes), MAXIMUM_MARKERS, side="right"))
    n_shown = max(1, min(n_shown, MAXIMUM_EVENTS, len(given)))
    notes = [note] if note else []
    if n_shown < len(given):
        notes.append(
            f"the first {n_shown} of {len(given)} events: a page holds at most {MAXIMUM_EVENTS} events or "
            f"{MAXIMUM_MARKERS:,} markers"
        )
    store = _Store([])
    shown = list(zip(given, tracks, strict=True))[:n_shown]
    heading = title or given[0].title or "event"
    data = {
        "title": heading,
        "note": "; ".join(notes),
        "colours": _colour_steps(),
        "origin": ORIGIN,
        "events": [_event(scene, track, store, above) for scene, track in shown],
    }
    head = json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
    content = len(head).to_bytes(4, "little") + head + b" " * (-(4 + len(head)) % 4) + b"".join(store.parts)
    # compressed data are no scripts to a browser: the last one unpacks and runs them
    scripts = (
        f'<script type="text/plain" id="library">{_library()}</script>\n'
        f'<script type="text/plain" id="data">{_packed(content)}</script>\n<script>{SCRIPT}</script>'
    )
    return write_text(Path(path), interactive_page(heading, BODY, scripts, style=STYLE))


def _packed(content: bytes) -> str:
    """Return bytes compressed, in letters that can stand in a page whatever they were."""
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def _library() -> str:
    from plotly.offline import get_plotlyjs

    return _packed(get_plotlyjs().encode())


def _colour_steps() -> list[list[Any]]:
    from matplotlib.colors import to_hex

    from firstlight.detectors.lartpc.views.marks import charge_colours

    places = np.linspace(0, 1, _STEPS)
    return [[round(float(place), 4), to_hex(charge_colours()(place))] for place in places]


def _event(scene: Scene, track: Track | None, store: _Store, above: float) -> dict[str, Any]:
    layers = [_layer(layer, store) for layer in scene.layers]
    if track is not None:
        layers.append({**_layer(raw_layer(track, points=True), store), "name": "points"})
    return {
        "title": scene.title,
        "facts": [list(fact) for fact in scene.facts],
        "layers": layers,
        "truth": None if scene.truth is None else _truth(scene.truth, above),
        "whole": _cube(scene.whole),
        "core": _cube(scene.core),
    }


def _cube(cube: Cube) -> list[float]:
    return [*(round(float(value) * _MM, 5) for value in cube.centre), round(cube.edge * _MM, 5)]


def _layer(layer: Layer, store: _Store) -> dict[str, Any]:
    """Return a layer with its arrays, largest charges last, lengths in mm."""
    order = np.argsort(layer.charge, kind="stable")
    found = {
        "name": layer.name,
        "about": layer.about,
        "marker": layer.marker,
        "total": round(float(layer.charge.sum())),
        "xyz": store.add(layer.positions[:, order] * _MM, "<f4"),
        "q": store.add(layer.charge[order], "<f4"),
    }
    if layer.label is not None:
        names = np.unique(layer.label)
        found["label"] = store.add(layer.label[order], "<i4")
        found["labels"] = [
            [int(name), colour] for name, colour in zip(names, label_colours(names), strict=True)
        ]
    if "time" in layer.values:
        found["time"] = store.add(layer.values["time"][order], "<f4")
    return found


def _truth(truth: Truth, above: float) -> dict[str, Any]:
    """Return what is marked, lengths in mm."""
    origin = truth.origin * _MM
    length = float(np.linalg.norm(truth.direction))
    along = truth.direction / length if np.isfinite(length) and length > 0 else np.zeros(3)
    return {
        "particle": truth.particle,
        "origin": _listed(origin) if np.isfinite(origin).all() else None,
        "along": _listed(along) if along.any() else None,
        "marks": [
            {
                "words": KINDS[kind].words,
                "least": least_text(kind, above),
                "symbol": KINDS[kind].page_symbol,
                "colour": KINDS[kind].colour,
                "xyz": [_listed(row * _MM) for row in positions],
                "energy": [round(float(value), 2) for value in energies],
            }
            for kind, (positions, energies) in marks_of(truth, above).items()
        ],
    }


def _listed(values: Floats) -> list[float]:
    return [round(float(value), 4) for value in values]
