"""Figures of SpinQuest: everything is drawn once, under names of its own, whatever the data lack."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from firstlight.data.cube import Axis, HistogramCube
from firstlight.data.schema import Block, Table, TableSchema
from firstlight.detectors.spinquest import steps, views
from firstlight.detectors.spinquest.channels import channel_map, geometry_of
from firstlight.detectors.spinquest.layouts import TRIGGERS
from firstlight.detectors.spinquest.options import Options
from firstlight.errors import ConfigError
from firstlight.run.chain import Settings, process
from firstlight.run.progress import Progress
from firstlight.steps.step import Context
from firstlight.view.figure import Figure
from firstlight.view.save import save_figures
from firstlight.view.style import ABSENT, styled

DATA = Path(os.environ.get("FIRSTLIGHT_DATA", Path(__file__).parents[4] / "shared" / "data")) / "spinquest"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no test data in {DATA}: set FIRSTLIGHT_DATA")


def context(geometry="E1039", files=("a.root",), **view):
    return Context(channel_map(geometry_of(geometry, {62})), Options(view=view), tuple(files))


def table(name, **columns):
    return Table(pl.DataFrame(columns), TableSchema(name, ()))


def make(channels, *, n_spills=1, seed=5, times=True, trigger=True, in_time=True, rate=200.0):
    """Return products like those of a run; hits of D1 are missing, as in the data."""
    random = np.random.default_rng(seed)
    hits = np.where(channels.optional, 0, random.poisson(rate, len(channels)))
    names = channels.group_names
    plane_hits = channels.sum_groups(hits)
    kinds = ["hits", "events", "in_time", "events_in_time"]
    tdc = Axis("tdc_time", 216, 280.0, 2008.0, unit="ns")
    drift = Axis("drift_distance", 130, 0.0, 2.6, unit="cm")
    cubes = [HistogramCube.zeros(Axis("channel", len(channels)), axis) for axis in (tdc, tdc, drift)]
    cubes[0].counts[:, 100 if times else 0] = hits
    cubes[1].counts[:, 100 if times else 0] = hits // 2 if in_time else 0
    cubes[2].counts[:, 1:20] = hits[:, np.newaxis] // 19
    spread = np.zeros((16, 40), dtype=np.int64)
    spread[:, 0], spread[:, 30] = 3, 97
    sections = ["all", *channels.frame["section"].unique(maintain_order=True).to_list()][:16]
    spills = {
        "file": [f"{i}.root" for i in range(n_spills)],
        "spill_id": [1000 - i for i in range(n_spills)],
        "n_events": [100] * n_spills,
        "n_hits": [int(hits.sum())] * n_spills,
        "n_in_time": [int(hits.sum()) // 2 if in_time else None] * n_spills,
        "n_no_trigger": [4 if trigger else None] * n_spills,
    }
    planes = {
        "file": [file for file in spills["file"] for _ in names],
        "spill_id": [spill for spill in spills["spill_id"] for _ in names],
        "plane": names * n_spills,
        "n_hits": plane_hits.tolist() * n_spills,
        "tdc_mean": [1000.0 if times else None] * len(names) * n_spills,
    }
    triggers = [(t, 10, p, int(h) // 10) for t in TRIGGERS for p, h in zip(names, plane_hits, strict=True)]
    schema = {"trigger": pl.String, "n_events": pl.Int64, "plane": pl.String, "n_hits": pl.Int64}
    return {
        "occupancy/counts": Block(np.stack([hits, hits // 4, hits // 2, hits // 8], 1), ("channel", "kind"), coordinates={"kind": kinds}),
        "occupancy/totals": table("t", n_events=[100 * n_spills], n_empty=[3], n_hits=[int(hits.sum())]),
        "spills/spills": table("s", **spills),
        "spills/planes": Table(pl.DataFrame(planes, schema_overrides={"tdc_mean": pl.Float64}), steps.PLANES),
        "spills/triggers": Table(pl.DataFrame(triggers if trigger else [], schema=schema, orient="row"), steps.TRIGGER_TABLE),
        "spills/invalid": table("i", reason=["bad element"], detector_id=[3], element_id=[200], hits=[7]),
        "multiplicity/hits_per_event": Block(spread[: len(sections)], ("section", "n_hits"), coordinates={"section": sections}),
        "tdc/all": cubes[0], "tdc/in_time": cubes[1], "drift/all": cubes[2],
    }  # fmt: skip


def judged(channels, products):
    hits = products["occupancy/counts"].select(kind="hits")
    states = np.where(channels.optional & (hits == 0), "absent", "ok").astype("U16")
    for number, state in enumerate(("dead", "hot", "low", "masked", "no_statistics")):
        states[channels.channels_of("D0X")[10 * number : 10 * number + 5]] = state
    expected = np.where(states == "no_statistics", None, 200.0)
    frame = pl.DataFrame(
        {
            "channel": np.arange(len(channels)),
            "state": states,
            "expected": pl.Series(expected.tolist(), dtype=pl.Float64),
        }
    )
    return {**products, "quality/channels": Table(frame, TableSchema("q", ()))}


def drawn(figures, folder, *names):
    chosen = [figure for figure in figures if not names or figure.name in names]
    records = save_figures(chosen, folder, ("png",), Progress(quiet=True))
    assert all((folder / record["file"]).stat().st_size > 1000 for record in records)
    return records


def test_every_figure_has_a_name_and_a_copy_of_its_own(tmp_path):
    here = context()
    figures = views.figures(make(here.channels), here)
    names = [figure.name for figure in figures]
    copies = [copy for figure in figures for copy in figure.copies]
    assert len(set(map(str.lower, names))) == len(names)
    assert len(set(map(str.lower, copies))) == len(copies)
    assert "Station 1/Station_1_plot.png" in copies
    assert "Hodo-4Y2X/Hodo-4Y2X_plot.png" in copies
    assert {"overall_occupancy_with_separators.png", "overall_occupancy_no_separators.png"} <= set(copies)
    assert all(figure.caption and figure.title and figure.section for figure in figures)
    drawn(figures, tmp_path)
    assert all((tmp_path / copy).is_file() for copy in copies)


def test_overall_map_has_the_size_of_the_original(tmp_path):
    from PIL import Image

    here = context()
    drawn(views.figures(make(here.channels), here), tmp_path, "overall_occupancy_with_separators")
    with Image.open(tmp_path / "overall_occupancy_with_separators.png") as picture:
        assert picture.size == (2400, 1500)


def group_planes(figures):
    return {
        figure.name: figure.title.split(": ")[1].split(", ")
        for figure in figures
        if figure.section == "Detector groups"
    }


def test_all_planes_are_drawn_and_absent_ones_are_not():
    here = context()
    groups = group_planes(views.figures(make(here.channels), here))
    planes = [plane for group in groups.values() for plane in group]
    assert len(planes) == len(set(planes)) == 56
    assert sum(plane.startswith("H") for plane in planes) == 16
    assert not any(plane.startswith("D1") for plane in planes)


def test_planes_that_may_be_absent_are_drawn_where_they_have_hits():
    here = context()
    products = make(here.channels)
    products["occupancy/counts"].values[here.channels.channels_of("D1X")[:4]] = 9
    scene = views.scene_of(products, here)
    assert "D1X" in scene.planes
    assert "D1U" not in scene.planes


def test_the_map_is_in_drawing_order_with_the_last_elements():
    here = context(scale="linear")
    products = make(here.channels)
    scene = views.scene_of(products, here)
    assert scene.planes[:6] == ("D0V", "D0Vp", "D0Xp", "D0X", "D0U", "D0Up")
    figure = next(f for f in views.figures(products, here) if f.name == "overall_occupancy_no_separators")
    with styled():
        canvas = figure.draw()
    axes = next(ax for ax in canvas.axes if ax.images)
    image = axes.images[0].get_array()
    assert axes.get_ylim() == (0.5, 201.5)
    assert image.shape[:2] == (201, 56)
    absent = tuple(int(ABSENT[i : i + 2], 16) for i in (1, 3, 5))
    for column, plane in enumerate(scene.planes):
        optional = here.channels.optional[here.channels.channels_of(plane)]
        n = int((~optional).sum())
        assert tuple(image[n - 1, column, :3]) != absent, plane
        assert n == 201 or tuple(image[n, column, :3]) == absent, plane


def test_legacy_layout_uses_the_names_of_the_original_and_loses_no_plane(tmp_path):
    here = context(legacy_layout=True)
    figures = views.figures(make(here.channels), here)
    groups = group_planes(figures)
    copies = {copy for figure in figures for copy in figure.copies}
    assert {"Hodo/Hodo_plot.png", "Prop/Prop_plot.png", "Station 3+/Station_3+_plot.png"} <= copies
    assert len(groups["occupancy_Hodo"]) == 16
    assert len(groups["occupancy_Prop"]) == 8
    assert len(groups) == 8
    drawn(figures, tmp_path, "occupancy_Hodo", "trend")


@pytest.mark.parametrize("view", [{"quantity": "events"}, {"scale": "linear"}, {"scale": "per-detector"}])
def test_other_ways_to_draw(view, tmp_path):
    here = context(**view)
    products = judged(here.channels, make(here.channels))
    figures = views.figures(products, here)
    scene = views.scene_of(products, here)
    if "quantity" in view:
        assert scene.values.max() <= 1
        assert scene.label == "occupancy (fraction of events)"
        assert scene.expected is None
    drawn(
        figures,
        tmp_path,
        "overall_occupancy_with_separators",
        "occupancy_Station_1",
        "occupancy_DP-2",
        "states",
    )


def test_verdicts_are_drawn(tmp_path):
    here = context()
    figures = views.figures(judged(here.channels, make(here.channels)), here)
    assert "states" in {figure.name for figure in figures}
    drawn(figures, tmp_path)


def test_titles_name_the_selection():
    here = context()
    options = Options(in_time=True, trigger=("NIM3", "FPGA1"), first_hit=True)
    scene = views.scene_of(make(here.channels), replace(here, options=options))
    assert "in-time hits only, trigger NIM3 or FPGA1, first hit of each element" in scene.about


def reasons(figures):
    return next((figure.caption for figure in figures if figure.name == "left_out"), "")


def test_a_simulation_without_times_says_so(tmp_path):
    here = context()
    figures = views.figures(make(here.channels, times=False, trigger=False, in_time=False), here)
    names = {figure.name for figure in figures}
    assert not names & {"tdc_spectra", "tdc_time_of_elements", "triggers", "trend"}
    assert "simulations write 0" in reasons(figures)
    assert "no trigger bits" in reasons(figures)
    assert "spills were not followed" in reasons(figures)
    drawn(figures, tmp_path)


def test_in_time_flag_not_filled_is_said():
    here = context()
    figures = views.figures(make(here.channels, in_time=False), here)
    assert "not filled" in next(figure.caption for figure in figures if figure.name == "tdc_spectra")


@pytest.mark.parametrize("n_spills", [2, 60])
@pytest.mark.parametrize("times", [True, False])
def test_trends(n_spills, times, tmp_path):
    here = context(files=[f"{i}.root" for i in range(n_spills)])
    figures = views.figures(make(here.channels, n_spills=n_spills, times=times, in_time=times), here)
    drawn(figures, tmp_path, "trend")


def test_an_empty_run(tmp_path):
    here = context()
    products = make(here.channels, n_spills=0, rate=0.0)
    products["multiplicity/hits_per_event"].values[:] = 0
    figures = views.figures(judged(here.channels, products), here)
    assert [figure.name for figure in figures if figure.section == "Occupancy"]
    assert "no element has a hit" in reasons(figures)
    drawn(figures, tmp_path)


def test_only_what_is_needed(tmp_path):
    here = context()
    products = {name: value for name, value in make(here.channels).items() if name.startswith("occupancy")}
    figures = views.figures(products, here)
    assert "were not counted" in reasons(figures)
    drawn(figures, tmp_path, "left_out", "overall_occupancy_no_separators")
    assert views.tables(products, here) == []


@pytest.mark.parametrize("geometry", ["E906", "original"])
def test_other_geometries(geometry, tmp_path):
    here = context(geometry)
    figures = views.figures(make(here.channels), here)
    planes = [plane for group in group_planes(figures).values() for plane in group]
    assert len(planes) == {"E906": 48, "original": 56}[geometry]
    drawn(figures, tmp_path)


def test_tables_name_products_that_are_there():
    here = context()
    products = judged(here.channels, make(here.channels))
    assert [table.product for table in views.tables(products, here)] == [
        "quality/channels",
        "spills/spills",
        "spills/invalid",
    ]


def test_figures_can_be_drawn_in_another_process():
    here = context()
    for figure in views.figures(make(here.channels, n_spills=2), here):
        assert isinstance(pickle.loads(pickle.dumps(figure)), Figure)  # noqa: S301


# -- groups of the user ------------------------------------------------------------------------------------


def written(folder, text, name="groups.toml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_own_groups(tmp_path):
    path = written(tmp_path, '[groups]\n"My group" = ["D0X", "h1t"]\n"a/b: c" = ["P2Y2"]\n')
    here = context(groups=path)
    figures = views.figures(make(here.channels), here)
    groups = group_planes(figures)
    assert list(groups) == ["occupancy_My_group", "occupancy_a_b_c"]
    scene = views.scene_of(make(here.channels), here)
    assert scene.planes[:3] == ("D0X", "H1T", "P2Y2")
    assert len(scene.planes) == 56  # none is lost from the overall map
    assert {"My group/My_group_plot.png", "a_b_ c/a_b_c_plot.png"} <= {
        copy for f in figures for copy in f.copies
    }
    drawn(figures, tmp_path / "run", "overall_occupancy_with_separators", "occupancy_My_group")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[groups]\n"x" = ["D0Q"]', "unknown plane 'D0Q'"),
        ('[groups]\n"x" = "D0X"', "must be a list"),
        ('[groups]\n"x" = []', "must be a list"),
        ('[groups]\n"x" = [1]', "must be a list"),
        ('[groups]\n"x" = ["D0X"]\n"y" = ["D0X"]', "is in the group 'x' already"),
        ('[group]\n"x" = ["D0X"]', "no table"),
        ("[groups]", "no table"),
        ("[groups", "not valid TOML"),
    ],
)
def test_wrong_groups_name_what_exists(text, message, tmp_path):
    here = context(groups=written(tmp_path, text))
    with pytest.raises(ConfigError, match=message) as caught:
        views.figures(make(here.channels), here)
    assert caught.value.where.startswith(str(tmp_path))


def test_missing_file_of_groups(tmp_path):
    here = context(groups=str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match="does not exist"):
        views.figures(make(here.channels), here)


# -- real data ---------------------------------------------------------------------------------------------


@needs_data
def test_real_occupancy_shows_all_its_hits(tmp_path):
    here = context()
    cells = json.loads(
        (DATA / "real_run005994" / "spill_001924510_total_hits_data.json").read_text(encoding="utf-8")
    )
    detector, element = here.channels.column("detector_id"), here.channels.column("position")
    hits = np.array([cells.get(f"{d}_{e}", 0) for d, e in zip(detector, element, strict=True)])
    products = make(here.channels)
    products["occupancy/counts"].values[:, 0] = hits
    scene = views.scene_of(products, here)
    shown = sum(scene.values[here.channels.channels_of(plane)].sum() for plane in scene.planes)
    assert shown == 4_099_549
    drawn(views.figures(products, here), tmp_path, "overall_occupancy_with_separators", "occupancy_Station_1")


@needs_data
@pytest.mark.parametrize(
    "name",
    [
        "synthetic_sraw/synth_sraw_e1039",
        "synthetic_sraw/synth_sraw_e906layout",
        "mc_rus/noisy_output",
        "mc_trackqa/trackQA1",
    ],
)
def test_runs_are_drawn(name, tmp_path):
    from firstlight.detector import get_detector
    from firstlight.run.finishing import Products

    path = DATA / f"{name}.root"
    run = process(get_detector("spinquest"), [path], tmp_path / "run", settings=Settings(plots=False))
    version = run.record["channels"]["version"]
    here = Context(channel_map(geometry_of(version, {62})), Options(), (path.name,))
    figures = views.figures(Products(run), here)
    drawn(figures, tmp_path / "drawn")
    # the simulation with noise has hits in D1, which is drawn then
    expected = {"synth_sraw_e1039": 14, "synth_sraw_e906layout": 12, "noisy_output": 15, "trackQA1": 14}
    assert len(group_planes(figures)) == expected[path.stem]
