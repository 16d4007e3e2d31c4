"""The interactive event display: one self-contained page that works without a network."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.spinquest.display.event import Event
from firstlight.detectors.spinquest.display.pictures import VIEW_COLOURS
from firstlight.detectors.spinquest.display.scene import STATES, short_name
from firstlight.detectors.spinquest.geometry import OUTLINES, Geometry, element_position, wire_ends
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["MAXIMUM_EVENTS", "MAXIMUM_HITS", "event_page"]

MAXIMUM_EVENTS = 50
MAXIMUM_HITS = 60_000  # with these the page stays below 6 MB, of which plotly takes 4.9


def event_page(
    events: Event | Sequence[Event], geometry: Geometry, path: str | Path, *, note: str = ""
) -> Path:
    """Write a page with one or more events: map, side views and wires in space.

    The page shows plane, element, time, drift distance and the in-time flag of the hit under the pointer;
    hits out of time and groups of planes can be switched off. It needs no network.

    Parameters
    ----------
    events : Event or sequence of Event
        At most `MAXIMUM_EVENTS`, and so many that there are about `MAXIMUM_HITS` hits: others are left out,
        and the page says so.
    geometry : Geometry
        Planes.
    path : str or Path
        Where the page is written.
    note : str
        Shown on the page.

    Returns
    -------
    Path
        The page.
    """
    from plotly.offline import get_plotlyjs

    from firstlight.files import write_text
    from firstlight.view.interactive import interactive_page

    given = [events] if isinstance(events, Event) else list(events)
    if not given:
        what = "no event to show"
        raise UsageError(what)
    totals = np.cumsum([event.n_hits for event in given])
    n_shown = max(1, min(MAXIMUM_EVENTS, int(np.searchsorted(totals, MAXIMUM_HITS, side="right"))))
    shown = given[:n_shown]
    notes = [note] if note else []
    if n_shown < len(given):
        notes.append(
            f"the first {n_shown} of {len(given)} events: a page holds at most {MAXIMUM_EVENTS} events or "
            f"{MAXIMUM_HITS} hits"
        )
    data = {
        "events": [_event(event) for event in shown],
        "planes": _planes(geometry),
        "outlines": [[line.name, line.z_low, line.z_high, line.x_half, line.y_half] for line in OUTLINES],
        "states": {str(key): list(words) for key, words in STATES.items()},
        "colours": VIEW_COLOURS,
        "geometry": geometry.version,
        "note": "; ".join(notes),
    }
    # no text of a file can end the script
    content = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    scripts = f"<script>{get_plotlyjs()}</script>\n<script>const DATA = {content};\n{_SCRIPT}</script>"
    page = interactive_page(shown[0].title, _BODY, scripts, style=_STYLE, least_height=620)
    return write_text(Path(path), page)


def _packed(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode("ascii")


def _event(event: Event) -> dict[str, Any]:
    """Return one event; times in units of 1/16 ns and distances in µm, -32768 where not known."""

    def scaled(values: NDArray[np.float64], factor: float) -> str:
        whole = np.clip(np.round(np.nan_to_num(values * factor, nan=-32768)), -32768, 32767)
        return _packed(np.where(np.isfinite(values), np.maximum(whole, -32767), -32768), "<i2")

    return {
        "title": event.title,
        "facts": " · ".join(event.facts),
        "number": event.number,
        "plane": _packed(event.detector_id, "<i2"),
        "element": _packed(event.element_id, "<i2"),
        "tdc": scaled(event.tdc, 8.0),
        "drift": scaled(event.drift, 1e4),
        "state": _packed(event.state, "<i1"),
    }


def _planes(geometry: Geometry) -> list[dict[str, Any]]:
    """Return the planes in drawing order with the ends of all their elements [mm]."""
    found = []
    names = geometry.planes.group_by("group").agg("name").rows()
    labels = {group: short_name(sorted(own)) for group, own in names}
    for row in geometry.planes.sort("drawing_order").iter_rows(named=True):
        element = np.arange(1, row["n_elements"] + 1)
        ends = np.stack(wire_ends(geometry, row["detector_id"], element))
        where = element_position(geometry, row["detector_id"], element)
        found.append(
            {
                **{name: row[name] for name in ("detector_id", "name", "group", "kind", "n_elements")},
                **{name: round(row[name], 2) for name in ("x0", "y0", "z0", "width", "height", "cell_width")},
                "view": row["view"][0],
                "label": labels[row["group"]],
                "optional": row["n_optional"] >= row["n_elements"],
                # x1, y1, x2, y2 and the position, one after the other, in 0.1 mm
                "ends": _packed(np.round(100 * np.stack([*ends[[0, 1, 3, 4]], where])), "<i2"),
            }
        )
    return found


_STYLE = """#groups{font-size:.82rem;gap:.1rem .8rem}#groups label{white-space:nowrap;cursor:pointer}
#groups button{font-size:.82rem;padding:0 .5rem}#groups input{vertical-align:-2px;margin:0 .25rem 0 0}
#steps input{width:16rem}.set{display:flex}
#plot{flex:1;min-height:380px;margin:0 .4rem}
"""

_BODY = """<header><h1 id="title"></h1><p id="about"></p><p id="note"></p></header>
<div class="bar"><span class="set" id="views"></span><span class="set" id="times"></span>
<span id="steps"><button id="back">◀ previous</button> <input type="range" id="slide" aria-label="event">
<button id="next">next ▶</button> <span id="count"></span></span></div>
<div class="bar" id="groups"></div>
<div id="plot"></div><p id="hint" class="bar"></p>
"""

_SCRIPT = r"""
"use strict";
const at = (id) => document.getElementById(id);
const unpack = (text, Type) => new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const planeOf = {};
for (const plane of DATA.planes) {
  const ends = unpack(plane.ends, Int16Array), n = plane.n_elements;
  plane.end = (element, part) => ends[part * n + element - 1] / 100;
  planeOf[plane.detector_id] = plane;
}
const everFired = new Set(DATA.events.flatMap((e) => [...unpack(e.plane, Int16Array)]));
const groups = [...new Set(DATA.planes.filter((p) => !p.optional || everFired.has(p.detector_id)).map((p) => p.group))];
const show = {event: 0, view: "map", inTime: false, groups: new Set(groups)};
const cache = {};
function hitsOf(index) {
  if (cache[index]) return cache[index];
  const e = DATA.events[index];
  const plane = unpack(e.plane, Int16Array), element = unpack(e.element, Int16Array);
  const tdc = unpack(e.tdc, Int16Array), drift = unpack(e.drift, Int16Array), state = unpack(e.state, Int8Array);
  const hits = [];
  for (let i = 0; i < plane.length; i++) {
    const p = planeOf[plane[i]];
    const text = `<b>${p.name}</b> element ${element[i]} of ${p.n_elements}` +
      (tdc[i] > -32768 ? `<br>TDC ${(tdc[i] / 8).toFixed(1)} ns` : "") +
      (drift[i] > -32768 && (p.kind === "chamber" || p.kind === "prop_tube") ?
        `<br>drift ${(drift[i] / 1e4).toFixed(3)} cm` : "") +
      `<br>${p.end(element[i], 4).toFixed(2)} cm along ${p.view}<br>${DATA.states[state[i]][0]}`;
    hits.push({p, e: element[i], state: state[i], text});
  }
  return (cache[index] = hits);
}
const chosen = () => hitsOf(show.event).filter((h) => show.groups.has(h.p.group) && (!show.inTime || h.state === 1));
const STATES = [0, -1, 1];
const isBar = (p) => p.kind === "hodoscope" || p.kind === "dark_photon";
function planesShown() {
  const fired = new Set(hitsOf(show.event).map((h) => h.p));
  return DATA.planes.filter((p) => show.groups.has(p.group) && (!p.optional || fired.has(p)));
}
const base = {margin: {l: 64, r: 16, t: 64, b: 70}, hovermode: "closest", plot_bgcolor: "#fff", showlegend: true,
  legend: {orientation: "h", x: 0, xanchor: "left", y: 1, yref: "container", yanchor: "top"}, autosize: true,
  hoverlabel: {align: "left"}, font: {family: "DejaVu Sans, Segoe UI, Roboto, Arial, sans-serif", size: 13, color: "#22303c"}};
const axis = (title, more) => ({title: {text: title}, zeroline: false, showgrid: false, showline: true,
  linecolor: "#5b7083", ticks: "outside", ...more});

function map() {
  const planes = planesShown(), most = Math.max(1, ...planes.map((p) => p.n_elements));
  const column = new Map(planes.map((p, i) => [p, i]));
  const z = [], text = [];
  for (let e = 1; e <= most; e++) {
    z.push(planes.map((p) => (e <= p.n_elements ? 1 : 0)));
    text.push(planes.map((p) => (e <= p.n_elements ? `<b>${p.name}</b> element ${e}: not fired` : "")));
  }
  const code = {"-1": 2, 0: 3, 1: 4};
  for (const h of chosen()) {
    const c = column.get(h.p), row = h.e - 1, before = z[row][c];
    z[row][c] = Math.max(before, code[h.state]);
    text[row][c] = before > 1 ? text[row][c] + "<br>" + h.text : h.text;
  }
  const colours = ["#dfe3e8", "#ffffff", DATA.states["-1"][1], DATA.states["0"][1], DATA.states["1"][1]];
  const scale = colours.flatMap((c, i) => [[i / 5, c], [(i + 1) / 5, c]]);
  const data = [{type: "heatmap", z, text, x: planes.map((p, i) => i), y: z.map((_, i) => i + 1), zmin: -0.5,
    zmax: 4.5, colorscale: scale, showscale: false, hovertemplate: "%{text}<extra></extra>"}];
  const occurs = new Set(chosen().map((h) => h.state));
  for (const s of [1, -1, 0]) if (occurs.has(s)) data.push(key(DATA.states[s][0], DATA.states[s][1]));
  data.push(key("not fired", "#ffffff"), key("no such element", "#dfe3e8"));
  const shapes = [], annotations = [];
  let start = 0;
  planes.forEach((p, i) => {
    const last = i + 1 === planes.length || planes[i + 1].group !== p.group;
    if (!last) return;
    if (i + 1 < planes.length) shapes.push({type: "line", x0: i + 0.5, x1: i + 0.5, y0: 0, y1: 1, yref: "paper",
      line: {color: "#5b7083", width: 1}});
    annotations.push({x: (start + i) / 2, y: most, text: p.group, showarrow: false, textangle: -90, yanchor: "top",
      yshift: -4, font: {size: 11, color: "#56616c"}});
    start = i + 1;
  });
  return [data, {...base, shapes, annotations,
    xaxis: axis("plane", {tickvals: planes.map((p, i) => i), ticktext: planes.map((p) => p.name), tickangle: -90,
      tickfont: {size: 11}, range: [-0.5, planes.length - 0.5]}),
    yaxis: axis("element", {range: [0.5, most + 0.5]})}];
}
const key = (name, color) => ({type: "scatter", mode: "markers", x: [null], y: [null], name, hoverinfo: "skip",
  marker: {color, symbol: "square", size: 11, line: {color: "#8c96a0", width: 1}}});

function side(k) {
  const own = "XY"[k], other = "YX"[k], letter = "xy"[k];
  const frame = {x: [], y: []};
  for (const p of planesShown()) {
    const c = k ? p.y0 : p.x0, half = (k ? p.height : p.width) / 2;
    frame.x.push(p.z0, p.z0, null); frame.y.push(c - half, c + half, null);
  }
  const data = [{type: "scatter", mode: "lines", ...frame, line: {color: "#cfd5dc", width: 1}, hoverinfo: "skip",
    showlegend: false}];
  for (const s of STATES) {
    const [words, colour] = DATA.states[s];
    const lines = {x: [], y: [], text: []}, points = {x: [], y: [], text: [], symbol: [], size: []};
    const boxes = {x: [], y: []}, bars = {x: [], y: [], text: []};
    for (const h of chosen()) {
      if (h.state !== s) continue;
      const lo = h.p.end(h.e, k), hi = h.p.end(h.e, k + 2), mid = (lo + hi) / 2, z = h.p.z0;
      if (h.p.view === own && isBar(h.p)) {
        const half = h.p.cell_width / 2;
        boxes.x.push(z - 4.5, z + 4.5, z + 4.5, z - 4.5, z - 4.5, null);
        boxes.y.push(mid - half, mid - half, mid + half, mid + half, mid - half, null);
        bars.x.push(z); bars.y.push(mid); bars.text.push(h.text);
      } else if (h.p.view === own) {
        points.x.push(z); points.y.push(mid); points.text.push(h.text);
        points.symbol.push(h.p.kind === "prop_tube" ? "circle-open" : "circle");
        points.size.push(h.p.kind === "prop_tube" ? 9 : 6);
      } else if (h.p.view !== other) {
        lines.x.push(z, z, z, null); lines.y.push(lo, mid, hi, null);
        lines.text.push(h.text, h.text, h.text, null);
      }
    }
    const common = {type: "scatter", hovertemplate: "%{text}<extra></extra>", legendgroup: words, showlegend: false};
    data.push({...common, mode: "lines", ...lines, line: {color: colour, width: 1}, opacity: k ? 0.2 : 0.45});
    data.push({...common, mode: "lines", ...boxes, fill: "toself", fillcolor: colour, line: {color: colour, width: 0},
      hoverinfo: "skip", hovertemplate: undefined});
    data.push({...common, mode: "markers", ...bars, marker: {color: colour, size: 10, opacity: 0}});
    data.push({...common, mode: "markers", x: points.x, y: points.y, text: points.text,
      marker: {color: colour, opacity: 1, symbol: points.symbol, size: points.size, line: {width: 1.5}}});
    if (points.x.length + bars.x.length + lines.x.length) data.push({...key(words, colour), legendgroup: words});
  }
  const shapes = [], annotations = [];
  for (const [name, low, high, xHalf, yHalf] of DATA.outlines) {
    const known = k ? yHalf : xHalf, half = known || 105;
    if (low === high) {
      data.push({type: "scatter", mode: "markers+text", x: [low], y: [0], text: [name], textposition: "top center",
        marker: {symbol: "diamond", size: 9, color: "#555"}, hoverinfo: "skip", showlegend: false});
      continue;
    }
    shapes.push({type: "rect", layer: "below", x0: low, x1: high, y0: -half, y1: half, fillcolor: "#f4f1ea",
      line: {color: "#a89f8d", width: 1, dash: known ? "solid" : "dash"}});
    annotations.push({x: (low + high) / 2, y: half, yanchor: "top", showarrow: false, font: {color: "#6b6353"},
      text: name + (known ? " (opening)" : (k ? "<br>(height not to scale)" : "<br>(width not to scale)"))});
  }
  const stations = new Map();
  for (const p of planesShown()) stations.set(p.label, [...(stations.get(p.label) || []), p.z0]);
  const places = [...stations].map(([text, z]) => [text, z.reduce((a, b) => a + b) / z.length]).sort((a, b) => a[1] - b[1]);
  let place = -1e9;
  for (const [text, z] of places) {
    place = Math.max(z, place + 34);
    annotations.push({x: place, y: 1, yref: "paper", yanchor: "bottom", text, textangle: -90, showarrow: false,
      font: {size: 11}});
  }
  return [data, {...base, shapes, annotations, xaxis: axis("z along the beam (cm)", {range: [-350, 2440]}),
    yaxis: axis(`${letter} (${k ? "up" : "to the left"}) (cm)`, {range: [-205, 205], zeroline: true,
      zerolinecolor: "#b7c0c9"})}];
}

function space() {
  const frame = {x: [], y: [], z: []};
  for (const p of planesShown()) {
    for (const [a, b] of [[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) {
      frame.x.push(p.z0); frame.y.push(p.x0 + a * p.width / 2); frame.z.push(p.y0 + b * p.height / 2);
    }
    frame.x.push(null); frame.y.push(null); frame.z.push(null);
  }
  const data = [{type: "scatter3d", mode: "lines", ...frame, line: {color: "#dde2e7", width: 1}, hoverinfo: "skip",
    showlegend: false}];
  for (const [name, low, high, xHalf, yHalf] of DATA.outlines) {
    if (!xHalf || !yHalf) continue;
    const edge = {x: [], y: [], z: []};
    const line = (...corners) => { for (const [c, a, b] of corners) {
      edge.x.push(c); edge.y.push(a * xHalf); edge.z.push(b * yHalf); }
      edge.x.push(null); edge.y.push(null); edge.z.push(null); };
    const ring = [[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]];
    for (const c of [low, high]) line(...ring.map(([a, b]) => [c, a, b]));
    for (const [a, b] of ring.slice(0, 4)) line([low, a, b], [high, a, b]);
    data.push({type: "scatter3d", mode: "lines", ...edge, line: {color: "#b5a988", width: 3}, hoverinfo: "skip",
      name: name + " (opening)"});
  }
  for (const late of [true, false]) for (const view of "XUVY") {
    const part = {x: [], y: [], z: [], text: []};
    for (const h of chosen()) {
      if (h.p.view !== view || (h.state === 0) !== late) continue;
      const [x1, y1, x2, y2] = [0, 1, 2, 3].map((i) => h.p.end(h.e, i));
      part.x.push(h.p.z0, h.p.z0, h.p.z0, null); part.y.push(x1, (x1 + x2) / 2, x2, null);
      part.z.push(y1, (y1 + y2) / 2, y2, null); part.text.push(h.text, h.text, h.text, null);
    }
    if (part.x.length) data.push({type: "scatter3d", mode: "lines", ...part, hovertemplate: "%{text}<extra></extra>",
      name: view + (late ? ", out of time" : ""), opacity: late ? 0.35 : 1,
      line: {color: late ? "#98a2ad" : DATA.colours[view], width: late ? 2 : 4}});
  }
  const scene = {aspectmode: "manual", aspectratio: {x: 2.6, y: 1, z: 1}, dragmode: "orbit",
    camera: {eye: {x: -0.5, y: -2.3, z: 0.9}, center: {x: 0, y: 0, z: -0.1}},
    xaxis: {title: {text: "z (cm)"}, backgroundcolor: "#fff"}, yaxis: {title: {text: "x (cm)"}},
    zaxis: {title: {text: "y (cm)"}}};
  return [data, {...base, margin: {l: 0, r: 0, t: 30, b: 0}, scene}];
}

const VIEWS = {map: ["Map", map, "One column for each plane, one cell for each element."],
  xz: ["x–z (from above)", () => side(0), "Points and circles: wires and tubes that measure x; boxes: bars that measure " +
    "x (thickness not to scale); thin lines: extent of fired U and V wires. Hits of Y planes are not shown."],
  yz: ["y–z (from the side)", () => side(1), "Circles: tubes that measure y; boxes: bars that measure y (thickness not " +
    "to scale); thin lines: extent of fired U and V wires. Hits of X planes are not shown."],
  space: ["Wires in 3-D", space, "Fired wires, tubes and bars where they stand: X, U, V, Y. Drag to turn, wheel to zoom."]};
function press(box, value) { for (const b of at(box).children) b.setAttribute("aria-pressed", b.value === value); }
function render() {
  const e = DATA.events[show.event];
  at("title").textContent = e.title;
  at("about").textContent = `${e.facts} · geometry ${DATA.geometry}`;
  at("slide").value = show.event;
  at("count").textContent = `event ${e.number} (${show.event + 1} of ${DATA.events.length} in this page)`;
  at("back").disabled = show.event === 0; at("next").disabled = show.event + 1 === DATA.events.length;
  const flagged = hitsOf(show.event).some((h) => h.state !== -1);
  const only = [...at("times").children].find((b) => b.value === "in");
  only.disabled = !flagged; only.title = flagged ? "" : "this event has no in-time flags";
  if (!flagged) show.inTime = false;
  press("views", show.view); press("times", show.inTime ? "in" : "all");
  at("hint").textContent = VIEWS[show.view][2];
  const [data, layout] = VIEWS[show.view][1]();
  layout.uirevision = show.view; // zoom and camera stay from event to event
  Plotly.react("plot", data, layout, {responsive: true, displaylogo: false, scrollZoom: true});
}
function button(box, value, words, act) {
  const b = document.createElement("button");
  b.value = value; b.textContent = words; b.onclick = () => { act(); render(); };
  at(box).append(b);
}
for (const [name, [words]] of Object.entries(VIEWS)) button("views", name, words, () => {
  show.view = name; Plotly.purge("plot"); });
button("times", "all", "all hits", () => { show.inTime = false; });
button("times", "in", "in time only", () => { show.inTime = true; });
const boxes = groups.map((name) => {
  const label = document.createElement("label"), box = document.createElement("input");
  box.type = "checkbox"; box.checked = true;
  box.onchange = () => { show.groups[box.checked ? "add" : "delete"](name); render(); };
  label.append(box, name); at("groups").append(label);
  return [name, box];
});
for (const [words, on] of [["all groups", true], ["none", false]]) button("groups", words, words, () => {
  for (const [name, box] of boxes) { box.checked = on; show.groups[on ? "add" : "delete"](name); } });
const step = (by) => { show.event = Math.min(Math.max(show.event + by, 0), DATA.events.length - 1); render(); };
at("back").onclick = () => step(-1); at("next").onclick = () => step(1);
at("slide").max = DATA.events.length - 1; at("slide").min = 0;
at("slide").oninput = () => { show.event = Number(at("slide").value); render(); };
at("steps").style.display = DATA.events.length > 1 ? "" : "none";
document.addEventListener("keydown", (k) => {
  if (k.target.type === "range") return;
  if (k.key === "ArrowLeft") step(-1); else if (k.key === "ArrowRight") step(1); });
new ResizeObserver(() => { if (at("plot").data) Plotly.Plots.resize("plot"); }).observe(at("plot"));
at("note").textContent = DATA.note;
const wanted = location.hash.slice(1);
if (wanted in VIEWS) show.view = wanted;
render();
"""
