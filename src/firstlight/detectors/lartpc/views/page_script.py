"""The page of events: what is special about its look, its elements and its script. Texts are only ever set as text."""

from __future__ import annotations

__all__ = ["BODY", "SCRIPT", "STYLE"]

STYLE = """.bar>span>b{font-weight:400;color:#56616c;font-size:.85rem;margin-right:.35rem}
select{max-width:26rem}
main{flex:1;display:flex;min-height:380px}
#plot{flex:1;min-width:0}
#facts{max-width:22rem;overflow:auto;font-size:.86rem;padding:.3rem 1rem;margin:0;border-left:1px solid #e3e7eb;
 grid-template-columns:auto auto;gap:.1rem .8rem;align-content:start}
#facts dt{color:#56616c}#facts dd{margin:0;text-align:right}
"""

BODY = """<header><h1 id="title"></h1><p id="about"></p><p id="note"></p></header>
<div class="bar"><span id="layers"></span><span class="set" id="colours"></span><span class="set" id="frames"></span>
<span class="set" id="cameras"></span></div>
<div class="bar" id="steps"><button id="back">◀ previous</button><select id="which" aria-label="event"></select>
<button id="next">next ▶</button><span id="count"></span></div>
<main><div id="plot"></div><dl id="facts"></dl></main><p id="hint" class="bar">opening …</p>
"""

SCRIPT = r"""
"use strict";
const at = (id) => document.getElementById(id);
let DATA, BYTES, START;
const show = {event: 0, layers: null, colour: "charge", frame: "core", camera: "space"};
const HINT = "drag: turn · wheel: zoom · right button: move · 1 mm is as long on every axis";
const CAMERAS = {
  space: ["in space", {eye: {x: 0.7, y: -1.13, z: 0.44}, center: {x: 0, y: 0, z: -0.1}, up: {x: 0, y: 0, z: 1}}],
  xy: ["x–y", {eye: {x: 0, y: 0, z: 1.3}, up: {x: 0, y: 1, z: 0}}, "z"],
  xz: ["x–z", {eye: {x: 0, y: -1.3, z: 0}, up: {x: 0, y: 0, z: 1}}, "y"],
  yz: ["y–z", {eye: {x: 1.3, y: 0, z: 0}, up: {x: 0, y: 0, z: 1}}, "x"]};
const NAMES = {raw: "raw voxels", drifted: "drifted", hits: "hits", points: "every point"};
const SYMBOLS = {raw: "circle", drifted: "circle", hits: "square", points: "circle"};
async function inflate(id) {
  const text = at(id).textContent;
  at(id).remove();
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}
const KINDS = {f4: Float32Array, i4: Int32Array};
const array = ([kind, first, size]) => new KINDS[kind](BYTES, START + first, size);
const number = (v) => (v >= 100 ? Math.round(v).toLocaleString("en-US") : Number(v).toPrecision(3));
function ticks(low, high) {
  const found = [];
  for (const steps of [[1, 1.5, 2, 3, 4, 5, 7], [1, 2, 5], [1, 3], [1]]) {
    found.length = 0;
    for (let d = Math.floor(low); d <= Math.ceil(high); d++)
      for (const s of steps) { const v = d + Math.log10(s); if (v >= low - 1e-9 && v <= high + 1e-9) found.push(v); }
    if (found.length <= 9) break;
  }
  return {tickvals: found, ticktext: found.map((v) => Math.round(10 ** v).toLocaleString("en-US"))};
}
function chargeRange(layers) {
  let low = Infinity, high = 1;
  for (const layer of layers) {
    const q = array(layer.q);
    if (!q.length) continue;
    // sorted: below the low end lies a fiftieth of the charge of the layer
    let sum = 0, total = 0, i = 0;
    for (const value of q) total += value;
    while (i < q.length - 1 && sum + q[i] < 0.02 * total) sum += q[i++];
    low = Math.min(low, Math.max(1, q[i]));
    high = Math.max(high, q[q.length - 1]);
  }
  low = Math.min(low, high / 2);
  return [Math.log10(Math.max(low, 0.5)), Math.log10(Math.max(high, 1))];
}
const event = () => DATA.events[show.event];
const chosen = () => event().layers.filter((layer) => show.layers.has(layer.name));
const canColour = (by) => by === "charge" || event().layers.some((layer) => (by === "time" ? layer.time : layer.label));
function traces() {
  const found = [], layers = chosen(), [low, high] = chargeRange(layers);
  let bar = true;
  for (const layer of layers) {
    const xyz = array(layer.xyz), q = array(layer.q), n = q.length;
    if (!n) continue;
    const x = xyz.subarray(0, n), y = xyz.subarray(n, 2 * n), z = xyz.subarray(2 * n);
    const full = q[n - 1], most = Math.min(11, Math.max(4.5, 11 * (300 / n) ** 0.25));
    const size = Array.from(q, (v) => Math.max(1.6, most * Math.sqrt(v / full)));
    const what = `${layer.marker}<br>x %{x:.3f} mm<br>y %{y:.3f} mm<br>z %{z:.3f} mm<br><b>%{customdata:,.0f} e⁻</b>`;
    const name = NAMES[layer.name] || layer.name;
    const base = {type: "scatter3d", mode: "markers", x, y, z, customdata: q, name,
      hovertemplate: what + `<extra></extra>`, showlegend: false};
    const common = {size, symbol: SYMBOLS[layer.name] || "circle", line: {width: 0}, opacity: 1};
    const logs = Float32Array.from(q, (v) => Math.log10(Math.max(v, 0.5)));
    let marker;
    if (show.colour === "label" && layer.label) {
      const colours = new Map(layer.labels), labels = array(layer.label);
      marker = {...common, color: Array.from(labels, (l) => colours.get(l))};
      base.text = Array.from(labels, (l) => (l < 0 ? "in no cluster" : `cluster ${l}`));
      base.hovertemplate = `%{text}<br>` + what + `<extra></extra>`;
    } else if (show.colour === "time" && layer.time) {
      const times = array(layer.time), [low, high] = timeRange(times, x, y, z);
      marker = {...common, color: times, colorscale: "Cividis", cmin: low, cmax: high, showscale: true,
        colorbar: {title: {text: "drift time [µs]", side: "right"}, thickness: 14, len: 0.7, outlinewidth: 0}};
      base.text = Array.from(times, (t) => `${t.toFixed(2)} µs`);
      base.hovertemplate = what + `<br>%{text}<extra></extra>`;
    } else {
      marker = {...common, color: logs, colorscale: DATA.colours, cmin: low, cmax: high, showscale: bar,
        colorbar: {title: {text: "electrons per marker", side: "right"}, thickness: 14, len: 0.7, outlinewidth: 0,
          ...ticks(low, high)}};
      bar = false;
    }
    found.push({...base, marker});
  }
  if (show.colour === "label") found.push(...labelKeys(layers));
  if (show.layers.has("truth") && event().truth) found.push(...truthTraces(event().truth));
  return found;
}
function timeRange(times, x, y, z) {
  const [cx, cy, cz, edge] = event()[show.frame], half = edge / 2;
  let low = Infinity, high = -Infinity;
  times.forEach((t, i) => {
    if (Math.abs(x[i] - cx) > half || Math.abs(y[i] - cy) > half || Math.abs(z[i] - cz) > half) return;
    low = Math.min(low, t); high = Math.max(high, t);
  });
  return low < high ? [low, high] : [0, 1];
}
function labelKeys(layers) {
  const layer = layers.find((l) => l.label);
  if (!layer) return [];
  const labels = array(layer.label), q = array(layer.q), sums = new Map();
  labels.forEach((l, i) => sums.set(l, (sums.get(l) || 0) + q[i]));
  const colours = new Map(layer.labels), total = q.reduce((a, b) => a + b, 0);
  const key = (name, color) => ({type: "scatter3d", mode: "markers", x: [null], y: [null], z: [null], name,
    marker: {size: 7, color}, hoverinfo: "skip"});
  const share = (sum) => `${(100 * sum / total).toFixed(1)} %`;
  const sorted = [...sums].sort((a, b) => b[1] - a[1]), rest = sorted.slice(12);
  const keys = sorted.slice(0, 12).map(([l, sum]) => key(`${l < 0 ? "no cluster" : "cluster " + l}: ${share(sum)}`, colours.get(l)));
  if (rest.length) keys.push(key(`${rest.length} more: ${share(rest.reduce((a, b) => a + b[1], 0))}`, "rgba(0,0,0,0)"));
  return keys;
}
function truthTraces(truth) {
  const found = [];
  const photon = truth.particle === "photon", reach = 0.25 * event()[show.frame][3] * (photon ? -1 : 1);
  if (truth.origin && truth.along) {
    const [x, y, z] = truth.origin.map((o, i) => [o, o + reach * truth.along[i]]);
    found.push({type: "scatter3d", mode: "lines", x, y, z, name: photon ? "photon comes in" : "initial direction",
      hoverinfo: "skip", line: {color: "#111", width: 4, dash: photon ? "dash" : "solid"}});
  }
  for (const mark of truth.marks) found.push({type: "scatter3d", mode: "markers", x: mark.xyz[0], y: mark.xyz[1],
    z: mark.xyz[2], customdata: mark.energy, name: `${mark.words}${mark.least}: ${mark.energy.length}`,
    hovertemplate: `${mark.words}<br>%{customdata:,.1f} keV<br>x %{x:.3f} mm<br>y %{y:.3f} mm<br>z %{z:.3f} mm<extra></extra>`,
    marker: {symbol: mark.symbol, size: 7, color: mark.colour, line: {color: mark.colour, width: 2}}});
  // axes in space have no star among their symbols: it is a letter, and its key too
  const star = {type: "scatter3d", legendgroup: "origin"}, words = photon ? "origin: first deposit" : "origin";
  if (truth.origin) found.push({...star, mode: "text", x: [truth.origin[0]], y: [truth.origin[1]], z: [truth.origin[2]],
    text: ["★"], textfont: {size: 22, color: DATA.origin}, textposition: "middle center", showlegend: false, name: words,
    hovertemplate: `${words}<br>x %{x:.3f} mm<br>y %{y:.3f} mm<br>z %{z:.3f} mm<extra></extra>`},
    {...star, mode: "markers", x: [null], y: [null], z: [null], marker: {color: "rgba(0,0,0,0)"}, hoverinfo: "skip",
    name: `<span style="color:${DATA.origin}">★</span> ${words}`});
  return found;
}
// the axis along which a flat view looks has no room for its numbers, until the view is turned
const hidden = (name) => CAMERAS[show.camera].length > 2 && CAMERAS[show.camera][2] === name;
function unhide(change) {
  const name = CAMERAS[show.camera][2];
  if (!name || !change["scene.camera"]) return;
  Plotly.relayout("plot", {[`scene.${name}axis.title.text`]: `${name} [mm]`, [`scene.${name}axis.showticklabels`]: true});
}
function layout() {
  const [cx, cy, cz, edge] = event()[show.frame];
  // the ranges are equally long, so that a cube has equal scales; "data" would take the extent of hidden parts instead
  const axis = (name, c) => ({title: {text: `${name} [mm]`}, range: [c - edge / 2, c + edge / 2], autorange: false,
    backgroundcolor: "#f8f9fb", showbackground: true, gridcolor: "#d5dbe1", zeroline: false, nticks: 6,
    showspikes: false, tickfont: {size: 11}, ...(hidden(name) ? {title: {text: ""}, showticklabels: false} : {})});
  return {margin: {l: 0, r: 0, t: 0, b: 0}, autosize: true, showlegend: true, uirevision: show.camera + show.event,
    legend: {x: 0.01, y: 0.99, bgcolor: "rgba(255,255,255,0.75)", font: {size: 12}, itemsizing: "constant"},
    font: {family: "DejaVu Sans, Segoe UI, Roboto, Arial, sans-serif", size: 13, color: "#22303c"},
    hoverlabel: {align: "left"},
    scene: {xaxis: axis("x", cx), yaxis: axis("y", cy), zaxis: axis("z", cz), aspectmode: "cube",
      camera: {...CAMERAS[show.camera][1], projection: {type: "orthographic"}}, uirevision: show.camera + show.event}};
}
function buttons(place, words, entries, pressed, press) {
  const span = at(place);
  span.replaceChildren();
  const head = document.createElement("b");
  head.textContent = words;
  span.append(head);
  for (const [key, text, enabled] of entries) {
    const button = document.createElement("button");
    button.textContent = text;
    button.disabled = !enabled;
    button.setAttribute("aria-pressed", pressed(key));
    button.onclick = () => { press(key); render(); };
    span.append(button, place === "layers" ? " " : "");
  }
}
function render() {
  const e = event(), toggle = (key) => (show.layers.has(key) ? show.layers.delete(key) : show.layers.add(key));
  const has = (name) => e.layers.some((layer) => layer.name === name && layer.q[2]);
  const names = ["raw", "drifted", "hits", "points"].filter((n) => DATA.events.some((o) => o.layers.some((l) => l.name === n)));
  const layers = names.map((n) => [n, NAMES[n], has(n)]);
  const clusters = e.layers.some((layer) => layer.label);
  buttons("layers", "layers", [...layers, ["clusters", "clusters", clusters], ["truth", "truth", Boolean(e.truth)]],
    (k) => (k === "clusters" ? show.colour === "label" : show.layers.has(k)),
    (k) => (k === "clusters" ? (show.colour = show.colour === "label" ? "charge" : "label") : toggle(k)));
  const by = [["charge", "charge"], ["time", "drift time"]].filter(([k]) => k === "charge" || canColour(k));
  buttons("colours", "colour", by.map(([k, t]) => [k, t, true]), (k) => show.colour === k, (k) => (show.colour = k));
  buttons("frames", "show", [["core", "core", true], ["whole", "whole event", true]], (k) => show.frame === k,
    (k) => (show.frame = k));
  buttons("cameras", "view", Object.entries(CAMERAS).map(([k, [t]]) => [k, t, true]), (k) => show.camera === k,
    (k) => (show.camera = k));
  at("title").textContent = e.title || DATA.title;
  at("about").textContent = chosen().map((l) => `${NAMES[l.name] || l.name}: ${l.about}, ${number(l.total)} e⁻`).join(" · ");
  at("facts").replaceChildren(...e.facts.flatMap(([name, value]) => {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name; dd.textContent = value;
    return [dt, dd];
  }));
  at("facts").style.display = e.facts.length ? "grid" : "none";
  at("which").value = show.event;
  at("count").textContent = `${show.event + 1} of ${DATA.events.length}`;
  at("back").disabled = show.event === 0;
  at("next").disabled = show.event + 1 === DATA.events.length;
  Plotly.react("plot", traces(), layout(), {responsive: true, displaylogo: false,
    modeBarButtonsToRemove: ["resetCameraLastSave3d"],
    toImageButtonOptions: {filename: (e.title || "event").replace(/\W+/g, "_"), scale: 2}});
}
const step = (by) => { show.event = Math.max(0, Math.min(DATA.events.length - 1, show.event + by)); render(); };
async function open() {
  if (typeof DecompressionStream === "undefined") throw Error("this browser is too old: one of 2023 or later is needed");
  BYTES = await inflate("data");
  const size = new DataView(BYTES).getUint32(0, true);
  DATA = JSON.parse(new TextDecoder().decode(new Uint8Array(BYTES, 4, size)));
  START = 4 + size + ((4 - ((4 + size) % 4)) % 4);
  const script = document.createElement("script");
  script.textContent = new TextDecoder().decode(await inflate("library"));
  document.head.append(script);
  show.layers = new Set(["raw", "truth"]);
  if (!DATA.events.some((e) => e.layers.some((l) => l.name === "raw"))) show.layers.add(DATA.events[0].layers[0].name);
  for (const wanted of location.hash.slice(1).split(",")) {
    if (wanted in CAMERAS) show.camera = wanted;
    if (wanted === "core" || wanted === "whole") show.frame = wanted;
    if (wanted === "clusters") show.colour = "label";
    if (wanted === "time") show.colour = "time";
    if (wanted in NAMES) show.layers.add(wanted);
    if (/^-\w+$/.test(wanted)) show.layers.delete(wanted.slice(1));
    if (/^\d+$/.test(wanted)) show.event = Math.min(DATA.events.length, Math.max(1, Number(wanted))) - 1;
  }
  at("which").replaceChildren(...DATA.events.map((e, i) => {
    const option = document.createElement("option");
    option.value = i; option.textContent = e.title || `event ${i + 1}`;
    return option;
  }));
  at("which").onchange = () => { show.event = Number(at("which").value); render(); };
  at("back").onclick = () => step(-1);
  at("next").onclick = () => step(1);
  at("steps").style.display = DATA.events.length > 1 ? "" : "none";
  document.addEventListener("keydown", (k) => {
    if (k.target.tagName === "SELECT") return;
    if (k.key === "ArrowLeft") step(-1); else if (k.key === "ArrowRight") step(1); });
  at("note").textContent = DATA.note;
  render();
  at("plot").on("plotly_relayout", unhide);
  at("hint").textContent = HINT;
}
open().catch((error) => { at("hint").textContent = `cannot be shown: ${error.message}`; });
"""
