"""Pictures of tracks: what stands in them, at which scale, in which unit."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from firstlight.detectors.lartpc.drift import Drifted
from firstlight.detectors.lartpc.readout.hits import Hits
from firstlight.detectors.lartpc.track import Interactions, Track, Truth
from firstlight.detectors.lartpc.views.boxes import draw_box, project
from firstlight.detectors.lartpc.views.compare import draw_comparison
from firstlight.detectors.lartpc.views.cubes import Cube, cube_of
from firstlight.detectors.lartpc.views.gallery import Entry, draw_gallery, entries_of, save_pictures
from firstlight.detectors.lartpc.views.marks import label_colours
from firstlight.detectors.lartpc.views.projections import PLANES, charge_image, draw_projections, pixel_of
from firstlight.detectors.lartpc.views.quest import QuestEntry, draw_quest
from firstlight.detectors.lartpc.views.scene import particle_labels, scene_of
from firstlight.detectors.lartpc.views.summaries import (
    draw_charge_scale,
    draw_densities,
    draw_diffusion,
    draw_energies,
    draw_extents,
    draw_profiles,
    draw_roc,
    minimum_ionising,
    spread,
)
from firstlight.detectors.lartpc.views.three import (
    display_track,
    draw_layer,
    draw_panels,
    draw_track,
    prepare_axes,
)
from firstlight.errors import InputError, UsageError
from firstlight.run.progress import Progress
from firstlight.view.draw import sheet


def a_track(particle="photon", energy=5000.0, length=0.03, name="walk", seed=1, far=True):
    """Return a curved line of points that starts at the origin, with a far satellite."""
    rng = np.random.default_rng(seed)
    line = np.cumsum(rng.normal([[1.0], [0.3], [-0.2]], 1.0, (3, 3000)), axis=1)
    line = (line - line[:, :1]) * length / np.ptp(line, axis=1).max()
    satellite = np.full((3, 40), 0.4) if far else np.zeros((3, 0))
    positions = np.concatenate([line, satellite], axis=1)
    num_e = rng.integers(1, 30, positions.shape[1])
    kinds = Interactions(
        np.array(["brem", "compton", "pair", "annihilation"]),
        np.array([500.0, 100.0, 3978.0, 511.0]),
        np.concatenate([line[:, [1500]], np.full((3, 1), 0.4), line[:, [0]], line[:, [2999]]], axis=1),
        np.full(4, -1, dtype=np.int32),
    )
    first = "pair" if particle == "photon" else ""
    truth = Truth(particle, energy, line[:, 0], np.array([0.0, 0.6, 0.8]), first, kinds)
    return Track(positions, num_e, truth, name=name)


def drifted_of(track):
    shift = np.random.default_rng(3).normal(0, 6e-4, track.positions.shape)
    time = 100 - 500 * track.positions[2]
    return Drifted(track.positions + shift, track.num_e, time, np.arange(len(track)), None, 0.175, 0.3, 12.5)


def hits_of(track, pitch=5e-4):
    index, place = np.unique(np.floor(track.positions / pitch).astype(np.int64), axis=1, return_inverse=True)
    true = np.bincount(place.ravel(), weights=track.num_e).astype(np.int64)
    return Hits(
        (index + 0.5) * pitch, index, true.astype(float), true, true > 20, np.full(true.size, -1),
        (pitch, pitch, pitch), 5.0, 20.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scene():
    track = a_track()
    label = (np.arange(len(track)) >= 3000).astype(int)
    return scene_of(track, drifted_of(track), hits_of(track), labels={"raw": label})


def words_of(figure):
    """Return all words of a figure."""
    found = [text.get_text() for text in figure.texts]
    for legend in [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]:
        found += [text.get_text() for text in legend.get_texts()]
    for ax in figure.axes:
        found += [text.get_text() for text in ax.texts]
        found += [ax.get_title(loc=where) for where in ("left", "center")]
        found += [ax.get_xlabel(), ax.get_ylabel()]
        if ax.name == "3d":
            found.append(ax.get_zlabel())
    return [words for words in found if words]


def rendered(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def in_space(figure):
    return [ax for ax in figure.axes if ax.name == "3d"]


def inside_of(figure):
    """Return the words of a figure that reach out of it, those that clip to their axes left out."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    out = []
    parts = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    parts += [text for ax in figure.axes for text in (ax.xaxis.label, ax.yaxis.label, ax.title)]
    for text in parts:
        box = text.get_window_extent()
        if text.get_text() and not (
            box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1
        ):
            out.append(text.get_text())
    return out


# ---------------------------------------------------------------- in space


def test_panels_have_common_limits_equal_scales_and_units(scene):
    figure = draw_panels(scene, units="mm")
    axes = in_space(figure)
    assert len(axes) == 4
    limits = [np.array([ax.get_xlim(), ax.get_ylim(), ax.get_zlim()]) for ax in axes]
    for own in limits[1:]:
        np.testing.assert_allclose(own, scene.core.limits * 1e3)
    np.testing.assert_allclose(limits[0], scene.whole.limits * 1e3)
    for ax, own in zip(axes, limits, strict=True):
        np.testing.assert_allclose(np.ptp(own, axis=1), np.ptp(own[0]))
        assert len(set(np.round(ax._box_aspect, 12))) == 1
        assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_zlabel()) == ("x [mm]", "y [mm]", "z [mm]")
    words = words_of(figure)
    assert "5 MeV photon · pair · walk" in words
    assert "electrons per voxel or sample" in words
    assert [word for word in words if word in ("whole event", "raw", "drifted", "hits")] == [
        "whole event", "raw", "drifted", "hits",
    ]  # fmt: skip
    assert inside_of(figure) == []


def test_nothing_is_drawn_outside_of_the_cube_and_the_title_says_how_much(scene):
    figure = draw_panels(scene, truth=False, units="cm")
    low, high = (scene.core.limits * 1e2).T
    raw = scene.layers[0]
    points = np.stack(in_space(figure)[1].collections[0]._offsets3d)
    assert points.shape[1] == scene.core.holds(raw.positions).sum() < len(raw)
    assert (points > low[:, None] - 1e-9).all()
    assert (points < high[:, None] + 1e-9).all()
    share = raw.charge[scene.core.holds(raw.positions)].sum() / raw.charge.sum()
    assert any(f"{share:.1%} of it shown" in words for words in words_of(figure))


def test_whole_event_has_no_panel_of_its_own_where_it_is_shown_anyway(scene):
    assert len(in_space(draw_panels(scene, zoom="all"))) == 3
    assert len(in_space(draw_panels(scene, whole=False))) == 3
    compact = scene_of(a_track(far=False))
    assert len(in_space(draw_panels(compact))) == 1


@pytest.mark.parametrize("particle", ["photon", "electron"])
def test_truth_is_marked_and_counted(particle):
    figure = draw_panels(scene_of(a_track(particle)))
    words = words_of(figure)
    assert "bremsstrahlung > 20 keV: 1" in words
    assert "Compton > 20 keV: 0 (+1 outside)" in words
    assert "pair: 1" in words
    assert "annihilation: 1" in words
    assert ("photon comes in" in words) == (particle == "photon")
    assert ("initial direction" in words) == (particle == "electron")
    assert inside_of(figure) == []
    assert not figure.axes[0].collections[1].get_depthshade()


def test_one_panel_alone_keeps_its_words_in_the_figure():
    figure = draw_track(a_track(name="TrackE0005000_D20250527_T1332724312"), zoom="all")
    assert len(in_space(figure)) == 1
    assert inside_of(figure) == []


def test_colour_and_area_follow_the_charge(scene):
    figure = sheet(4, 4)
    ax = prepare_axes(figure, (0, 0, 1, 1), scene.whole)
    drawn = draw_layer(ax, scene.layers[0], scene.whole)
    charge = drawn.get_array()
    assert charge.sum() == pytest.approx(scene.layers[0].charge.sum())
    area = drawn.get_sizes()
    assert (np.diff(charge) >= 0).all(), "the largest charges are drawn last, on top"
    assert (np.diff(area) >= 0).all()
    assert area.max() > 5 * area.min()


def test_labels_and_time_colour_the_panels(scene):
    figure = draw_panels(scene, colour_by="label", truth=False)
    rendered(figure)
    labels = {to_hex(colour) for colour in in_space(figure)[0].collections[0].get_facecolors()}
    assert labels == set(label_colours(np.array([0, 1])))
    figure = draw_panels(scene, colour_by="time", truth=False)
    assert "drift time [µs]" in words_of(figure)
    with pytest.raises(UsageError, match="unknown unit"):
        draw_panels(scene, units="inch")


def test_pictures_need_no_display_and_no_pyplot(tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from firstlight.detectors.lartpc.track import Track\n"
        "from firstlight.detectors.lartpc.views.three import draw_track\n"
        "from firstlight.view.save import save_canvas\n"
        "from pathlib import Path\n"
        "track = Track(np.random.default_rng(1).normal(0, 1e-3, (3, 50)), np.ones(50, dtype=np.int64))\n"
        "save_canvas(draw_track(track), Path(sys.argv[1]), 60)\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    path = tmp_path / "a.png"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_empty_track_is_drawn():
    empty = Track(np.zeros((3, 0)), np.zeros(0, dtype=np.int64), name="empty")
    assert rendered(draw_track(empty)).shape[2] == 4


# ---------------------------------------------------------------- as the original


def test_display_has_the_options_of_the_original():
    track = a_track()
    figure, ax, limits = display_track(
        track, units="mm", view_angles=(30, -60), plot_lims=[[0, 30], [-15, 15], [-9, 9]]
    )
    assert ax.figure is figure
    np.testing.assert_allclose(limits, [[0, 30], [-15, 15], [-9, 9]])
    assert (ax.get_xlim(), ax.get_ylim(), ax.get_zlim()) == ((0, 30), (-15, 15), (-9, 9))
    np.testing.assert_allclose(ax._box_aspect / ax._box_aspect[0], [1, 1, 0.6])
    assert (ax.elev, ax.azim) == (30, -60)
    assert ax.get_xlabel() == "x [mm]"
    assert any("5 MeV photon" in words for words in words_of(figure))


def test_display_takes_centimetres_and_a_cube_by_default():
    _, ax, limits = display_track(a_track())
    assert ax.get_zlabel() == "z [cm]"
    assert limits.shape == (3, 2)
    np.testing.assert_allclose(np.ptp(limits, axis=1), np.ptp(limits[0]))
    assert 40 < np.ptp(limits[0]) < 50


def test_display_centres_on_the_mean_of_the_points():
    track = a_track(far=False)
    _, ax, limits = display_track(track, center=True, units="m")
    points = np.stack(ax.collections[0]._offsets3d)
    charge = ax.collections[0].get_array()
    mean = (points * charge).sum(axis=1) / charge.sum()
    expected = (track.positions * track.num_e).sum(axis=1) / track.charge - track.positions.mean(axis=1)
    np.testing.assert_allclose(mean, expected, atol=1e-12)
    assert (limits[:, 0] < 0).all()
    assert (limits[:, 1] > 0).all()


def test_display_draws_hits_larger_and_around_them():
    track = a_track()
    hits = hits_of(track)
    _, ax, limits = display_track(track, hits=hits, max_pixel_samples=1e4, max_num_e=1e9)
    assert ax.collections[0].get_sizes().max() == pytest.approx(100 * hits.charge.max() / 1e4)
    assert ax.collections[1].get_sizes().max() == pytest.approx(1.6)
    seen = 100 * hits.positions[:, hits.triggered]
    assert (limits[:, 0] < seen.min(axis=1)).all()
    assert (limits[:, 1] > seen.max(axis=1)).all()
    assert np.ptp(limits, axis=1).max() < 1.2 * np.ptp(seen, axis=1).max()
    # a single hit beside a track: the track is shown, too
    few = replace(hits, triggered=np.arange(len(hits)) == 0)
    _, _, limits = display_track(track, hits=few)
    assert np.ptp(limits, axis=1).min() > 3.0


def test_display_leaves_away_what_is_not_wanted():
    figure, ax, _ = display_track(
        a_track(), no_axes=True, show_title=False, show_origin=False, show_initial_vector=False
    )
    assert not ax.axison
    assert not figure.texts
    assert ax.get_legend() is None
    assert len(ax.collections) == 1
    figure, ax, _ = display_track(drifted=drifted_of(a_track()), track=a_track())
    assert any("5 MeV photon" in words for words in words_of(figure))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"raw": None}, "nothing to display"),
        ({"units": "inch"}, "unknown unit 'inch'"),
        ({"resolution": 0.0}, "resolution 0.0 m"),
        ({"view_angles": (1, 2, 3)}, "view_angles"),
        ({"plot_lims": [[1, 0], [0, 1], [0, 1]]}, "three pairs"),
    ],
)
def test_display_says_what_is_wrong(options, words):
    with pytest.raises(UsageError, match=words):
        display_track(**{"raw": a_track(), **options})


# ---------------------------------------------------------------- projections


@pytest.mark.parametrize("plane", PLANES)
def test_projection_sums_the_charge_along_the_line_of_sight(plane):
    track = a_track(far=False)
    cube = cube_of(track.positions)
    charge = track.num_e.astype(float)
    image, extent = charge_image(track.positions, charge, cube, plane, 1e-3)
    assert image.sum() == track.charge
    first, second = PLANES[plane]
    column = np.floor(track.positions[first] / 1e-3) - round(extent[0] / 1e-3)
    row = np.floor(track.positions[second] / 1e-3) - round(extent[2] / 1e-3)
    expected = np.zeros(image.shape)
    np.add.at(expected, (row.astype(int), column.astype(int)), charge)
    np.testing.assert_array_equal(image, expected)
    assert extent[0] <= cube.limits[first, 0]
    assert extent[1] >= cube.limits[first, 1]
    assert (extent[1] - extent[0]) / image.shape[1] == pytest.approx(1e-3)
    assert (extent[3] - extent[2]) / image.shape[0] == pytest.approx(1e-3)


def test_voxels_of_the_size_of_a_pixel_do_not_beat_with_it(scene):
    hits = scene.layer("hits")
    assert pixel_of(hits, Cube(np.zeros(3), 0.01)) == hits.edge
    assert pixel_of(hits, Cube(np.zeros(3), 0.12)) == pytest.approx(2 * hits.edge)
    cube = cube_of(hits.positions)
    image, _ = charge_image(hits.positions, np.ones(len(hits)), cube, "xy", hits.edge)
    columns = np.unique(np.round(hits.positions[:2] / hits.edge - 0.5), axis=1)
    assert (image > 0).sum() == columns.shape[1]


def test_projections_have_one_scale_and_units(scene):
    figure = draw_projections(scene, units="cm")
    axes = figure.axes[:3]
    assert [(ax.get_xlabel(), ax.get_ylabel()) for ax in axes] == [
        ("x [cm]", "y [cm]"),
        ("x [cm]", "z [cm]"),
        ("y [cm]", "z [cm]"),
    ]
    for ax in axes:
        assert np.ptp(ax.get_xlim()) == pytest.approx(scene.core.edge * 100)
        assert np.ptp(ax.get_ylim()) == pytest.approx(scene.core.edge * 100)
        assert ax.get_aspect() == 1
    assert any(words.startswith("electrons per pixel of") for words in words_of(figure))
    assert inside_of(figure) == []


def pictures_of(track):
    """Return the projections of a track, and its stages in one to four panels."""
    stages = [(), (drifted_of(track),), (drifted_of(track), hits_of(track))]
    yield draw_projections(scene_of(track))
    yield draw_track(track, zoom="all")
    for stage in stages:
        yield draw_track(track, *stage)


def test_marks_of_every_kind_are_named_inside_of_the_picture():
    track = a_track()
    kinds = np.repeat(["brem", "photo", "compton", "pair", "delta", "annihilation"], 2 * 24)
    places = np.tile([track.positions[:, 1500], np.full(3, 0.4)], (6 * 24, 1)).T
    inside_and_outside = Interactions(
        kinds, np.full(kinds.size, 100.0), places, np.full(kinds.size, -1, dtype=np.int32)
    )
    track = replace(track, truth=replace(track.truth, interactions=inside_and_outside))
    for figure in pictures_of(track):
        named = [words for words in words_of(figure) if re.search(r": (24 \(\+24 outside\)|48)$", words)]
        assert len(named) == 6
        assert inside_of(figure) == []


def test_projections_by_cluster_and_by_time(scene):
    figure = draw_projections(scene, zoom="all", colour_by="label")
    charge = scene.layers[0].charge
    share = charge[scene.layers[0].label == 1].sum() / charge.sum()
    assert f"cluster 1: {share:.1%}" in words_of(figure)
    assert inside_of(figure) == []
    assert "drift time [µs]" in words_of(draw_projections(scene, layer="drifted", colour_by="time"))
    with pytest.raises(UsageError, match="to colour by 'time'"):
        draw_projections(scene, layer="raw", colour_by="time")
    with pytest.raises(UsageError, match="unknown plane"):
        charge_image(np.zeros((3, 1)), np.ones(1), scene.core, "xt", 1e-3)


# ---------------------------------------------------------------- many events


def test_orthographic_view_is_that_of_matplotlib():
    axes = np.eye(3)
    right, up, towards = project(axes, (90.0, -90.0))
    np.testing.assert_allclose([right, up, towards], np.eye(3), atol=1e-15)
    turned = np.stack(project(axes, (22.0, -58.0)))
    np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-15)
    assert np.linalg.det(turned) == pytest.approx(1)
    figure = sheet(4, 4)
    ax = prepare_axes(figure, (0, 0, 1, 1), Cube(np.zeros(3), 2e-3), view=(22.0, -58.0))
    rendered(figure)
    from mpl_toolkits.mplot3d import proj3d

    points = np.random.default_rng(5).uniform(-1, 1, (3, 20))
    x, y, _ = proj3d.proj_transform(*points, ax.get_proj())
    own_x, own_y, _ = project(points, (22.0, -58.0))
    np.testing.assert_allclose(x - x.mean(), (own_x - own_x.mean()) * np.ptp(x) / np.ptp(own_x), atol=1e-9)
    np.testing.assert_allclose(y - y.mean(), (own_y - own_y.mean()) * np.ptp(x) / np.ptp(own_x), atol=1e-9)


def test_box_says_how_long_it_is(scene):
    figure = sheet(2, 2)
    ax = figure.add_axes((0, 0, 1, 1))
    handles = draw_box(
        ax, scene.layers[0], Cube(scene.core.centre, 0.04), view=(22.0, -58.0), truth=scene.truth
    )
    assert "x  40 mm" in [text.get_text() for text in ax.texts]
    assert ax.get_aspect() == 1
    assert any("bremsstrahlung" in handle.get_label() for handle in handles)
    inside = Cube(scene.core.centre, 0.04).holds(scene.layers[0].positions).sum()
    assert len(ax.collections[1].get_offsets()) == inside


def test_rows_of_a_comparison_have_one_scale():
    tracks = {
        1000.0: {
            "electron": a_track("electron", 1000.0, 0.004, far=False),
            "photon": a_track("photon", 1000.0, 0.002),
        },
        10000.0: {"electron": a_track("electron", 10000.0, 0.05)},
    }
    figure = draw_comparison(tracks)
    lengths = [words for words in words_of(figure) if words.startswith("x  ")]
    assert len(lengths) == 6
    assert lengths[0] == lengths[1] != lengths[4]
    assert lengths[2] == lengths[3] != lengths[0]
    words = words_of(figure)
    assert {"1 MeV", "10 MeV", "electron", "photon", "electrons per voxel"} <= set(words)
    assert words.count("no track") == 2
    assert any(word.startswith("pair, ") and word.endswith("% of the charge") for word in words)
    assert inside_of(figure) == []
    with pytest.raises(UsageError, match="no track to compare"):
        draw_comparison({1000.0: {}})


def some_entries():
    return [
        Entry(
            particle,
            energy,
            a_track(particle, energy, energy * 5e-6, name=f"{particle}{energy:.0f}_{index}", seed=index),
        )
        for particle in ("electron", "photon")
        for energy in (1000.0, 10000.0)
        for index in range(3)
    ]


def test_gallery_has_a_panel_for_every_track_and_one_scale_in_a_row():
    entries = some_entries()
    figure = draw_gallery(entries)
    lengths = [words for words in words_of(figure) if words.startswith("x  ")]
    assert len(lengths) == 12
    assert len(set(lengths[:6])) == len(set(lengths[6:])) == 1
    assert lengths[0] != lengths[6]
    figure = draw_gallery(entries, columns=2)
    words = words_of(figure)
    assert sum(word.startswith("x  ") for word in words) == 8
    assert words.count("1 more") == 4
    assert inside_of(figure) == []
    with pytest.raises(UsageError, match="no track for a gallery"):
        draw_gallery([])


def test_gallery_reads_files_and_shows_progress(tmp_path, capsys):
    read = []

    def load(path):
        read.append(path)
        return a_track(name=path.stem)

    rows = pl.DataFrame(
        {
            "particle": ["photons", "electrons", "photons"],
            "energy": [1e3, 1e3, 1e3],
            "path": ["b.npz", "c.npz", "a.npz"],
        }
    )
    entries = entries_of(rows, tmp_path)
    assert [(entry.particle, entry.name) for entry in entries] == [
        ("electron", "c"),
        ("photon", "a"),
        ("photon", "b"),
    ]
    assert len(entries_of(rows, tmp_path, per_energy=1)) == 2
    draw_gallery(entries, load=load, progress=Progress(interval=0))
    assert read == [tmp_path / "c.npz", tmp_path / "a.npz", tmp_path / "b.npz"]
    assert "reading: 3 of 3 tracks" in capsys.readouterr().err
    with pytest.raises(UsageError, match="unknown column 'energy'"):
        entries_of([{"particle": "photon", "path": "a.npz"}])


def test_every_track_gets_a_picture_with_a_safe_name(tmp_path):
    entries = [
        Entry("electron", 1000.0, a_track("electron", 1000.0, name="a")),
        Entry("electron", 1000.0, a_track("electron", 1000.0, name="a", seed=2)),
        Entry("photon", 300.0, a_track("photon", 300.0, name="../../x<y>")),
    ]
    saved = save_pictures(entries, tmp_path, dpi=40)
    assert [path.relative_to(tmp_path).as_posix() for path in saved] == [
        "electrons/E0001000/a.png",
        "electrons/E0001000/a_2.png",
        "photons/E0000300/x_y.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in saved)
    assert saved[0].read_bytes() != saved[1].read_bytes()


def test_picture_of_a_track_without_charge_is_refused_with_its_name(tmp_path):
    empty = Track(np.zeros((3, 0)), np.zeros(0, dtype=np.int64))
    with pytest.raises(InputError, match=r"lost\.npz: there is no charge"):
        save_pictures([Entry("photon", 1e3, tmp_path / "lost.npz")], tmp_path, load=lambda path: empty)


# ---------------------------------------------------------------- summaries


def axes_of():
    return sheet(5, 4).add_axes((0.15, 0.15, 0.8, 0.8))


def test_theory_of_diffusion_is_that_of_the_specification():
    assert spread(1000.0, 13.24, 1.6011) == pytest.approx(1.286, rel=1e-3)
    assert spread(1000.0, 6.63, 1.6011) == pytest.approx(0.910, rel=1e-3)
    np.testing.assert_allclose(spread([0.0, 400.0], 8.0, 1.6), [0.0, np.sqrt(2 * 8e-4 * 250)])


def test_diffusion_against_length_has_theory_and_ratio():
    length = np.array([100.0, 400.0, 900.0])
    transverse, longitudinal = spread(length, 13.24, 1.6) * 1.02, spread(length, 6.6, 1.6)
    figure = draw_diffusion(
        length,
        transverse,
        longitudinal,
        velocity=1.6,
        coefficients=(13.24, 6.6),
        errors=(length * 1e-5, None),
    )
    ax, ratio = figure.axes
    theory = ax.lines[0]
    np.testing.assert_allclose(theory.get_ydata(), spread(theory.get_xdata(), 13.24, 1.6))
    points = ratio.containers[0].lines[0]
    np.testing.assert_allclose(points.get_ydata(), 1.02)
    assert ratio.get_xlabel() == "drift length [mm]"
    assert "transverse: √(2Dt), D = 13.2 cm²/s" in words_of(figure)
    assert inside_of(figure) == []
    with pytest.raises(UsageError, match="lengths differ"):
        draw_diffusion(length, transverse[:2], longitudinal, velocity=1.6, coefficients=(13.0, 6.0))


def test_charge_scale_shows_means_and_their_errors():
    energy = [1000.0, 1000.0, 1000.0, 10000.0, 1000.0]
    value = [29.0, 30.0, 31.0, 30.5, 28.0]
    ax = draw_charge_scale(axes_of(), energy, value, ["electron"] * 4 + ["photon"], expected=30.0)
    electrons, photons = ax.containers
    np.testing.assert_allclose(electrons.lines[0].get_ydata(), [30.0, 30.5])
    segment = electrons.lines[2][0].get_segments()[0]
    assert np.ptp(segment[:, 1]) == pytest.approx(2 / np.sqrt(3))
    np.testing.assert_allclose(photons.lines[0].get_ydata(), [28.0])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "electron, 4 tracks",
        "photon, 1 track",
    ]
    assert ax.get_ylabel() == "charge per energy [e⁻/keV]"


def test_extents_are_medians_on_a_logarithmic_scale():
    ax = draw_extents(
        axes_of(), [1e3] * 3, [1.0, 2.0, 90.0], ["electron"] * 3, csda=([500, 1000], [1.7, 4.3])
    )
    assert ax.get_yscale() == ax.get_xscale() == "log"
    assert ax.containers[0].lines[0].get_ydata().tolist() == [2.0]
    half = ax.containers[0].lines[2][0].get_segments()[0][:, 1]
    np.testing.assert_allclose(half, [1.5, 46.0])
    assert ax.lines[0].get_xdata().tolist() == [0.5, 1.0]
    figure = draw_energies([1e3, 2e3], [30.0, 29.0], [1.0, 2.0], ["electron", "photon"])
    assert inside_of(figure) == []
    with pytest.raises(UsageError, match="lengths differ"):
        draw_extents(axes_of(), [1e3], [1.0, 2.0], ["electron"])


def test_summaries_of_nothing_say_so():
    for ax in (draw_charge_scale(axes_of(), [], [], []), draw_densities(axes_of(), {"a": ([], [])})):
        assert any("no data" in text.get_text() for text in ax.texts)


def test_charge_along_the_path_stands_in_its_bins():
    ax = draw_densities(
        axes_of(), {"a": ([0.5, 1.5, 2.5], [5000, 6000, 15000]), "b": ([], [])}, expected=6000
    )
    values, edges, _ = ax.patches[0].get_data()
    np.testing.assert_allclose(edges, [0, 1, 2, 3])
    assert values.tolist() == [5000, 6000, 15000]
    assert ax.get_xlabel() == "distance along the path [mm]"
    assert ax.get_ylabel() == "dQ/dx [e⁻/mm]"
    key = [text.get_text() for text in ax.get_legend().get_texts()]
    assert key == ["a", "minimum ionising: 6,000 e⁻/mm"]
    assert not ax.texts


def test_separation_names_areas_with_errors():
    curves = {"satellites": ([0, 0.2, 1], [0, 0.8, 1]), "all": ([0, 1], [0, 1])}
    ax = draw_roc(axes_of(), curves, {"satellites": (0.84, 0.031)})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "satellites: area 0.840 ± 0.031",
        "all",
    ]
    assert ax.get_aspect() == 1


def test_quest_shows_winners_numbers_and_runners_up(scene):
    entries = [
        QuestEntry(
            f"Category {index}",
            scene,
            0.9 - 0.1 * index,
            [("linearity", "0.99")],
            [("second" * 8, 0.5)],
            "a note",
        )
        for index in range(3)
    ]
    figure = draw_quest(entries)
    assert len(in_space(figure)) == 3
    words = words_of(figure)
    assert {"Category 0", "score 0.90", "score 0.70", "linearity", "0.99", "0.50", "a note"} <= set(words)
    assert "electrons per voxel" in words
    assert inside_of(figure) == []
    with pytest.raises(UsageError, match="no category"):
        draw_quest([])


def boxes_of(figure):
    """Return words of a figure, with the places that they cover [pixels], without those of axes in space."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    texts = [*figure.texts, *(ax.title for ax in figure.axes)]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_text()]


@pytest.mark.parametrize("many", [1, 12])
def test_no_words_of_the_quest_stand_on_others_however_many_there_are(scene, many):
    numbers = [
        (f"a number with a very long name, of which there are {index}", "0.123") for index in range(many)
    ]
    entry = QuestEntry("Weird pair", scene, 0.7, numbers, [("T" * 60, 0.5)] * 4, "more to be said of it " * 8)
    figure = draw_quest([entry, QuestEntry("Neat electron", scene, 0.9)])
    found = boxes_of(figure)
    assert len(found) > 2 * many
    width, height = figure.canvas.get_width_height()
    for index, (words, box) in enumerate(found):
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0, words
        # places of letters have a pixel of air around them
        others = [
            other
            for other, place in found[index + 1 :]
            if min(box.x1, place.x1) - max(box.x0, place.x0) > 2
            and min(box.y1, place.y1) - max(box.y0, place.y0) > 2
        ]
        assert others == [], words


def test_a_category_without_a_good_track_says_so(scene):
    entries = [QuestEntry("Weird pair", scene, 0.004), QuestEntry("Neat electron", scene, 0.0101)]
    words = words_of(draw_quest(entries))
    assert "no good one: best score 0.00" in words
    assert "score 0.01" in words
    assert "score 0.00" not in words


def test_curves_are_named_in_words_that_every_feature_has():
    from firstlight.detectors.lartpc.separation import OBSERVABLES
    from firstlight.detectors.lartpc.views.report import FEATURE_WORDS

    assert set(FEATURE_WORDS) == {"all", *OBSERVABLES}
    assert len(set(FEATURE_WORDS.values())) == len(FEATURE_WORDS)
    assert not any("_" in words or len(words) > 32 for words in FEATURE_WORDS.values())


def test_sheets_say_what_lines_and_stars_are():
    def key_of(figure):
        return [text.get_text() for legend in figure.legends for text in legend.get_texts()]

    electron, photon = a_track("electron", 1000.0, 0.004), a_track("photon", 1000.0, 0.004)
    both = ["initial direction", "photon comes in", "origin, of a photon its first deposit"]
    assert key_of(draw_comparison({1000.0: {"electron": electron, "photon": photon}})) == both
    assert key_of(draw_comparison({1000.0: {"electron": electron}}, truth=False)) == []
    assert key_of(draw_gallery(some_entries())) == both
    assert key_of(draw_gallery([Entry("electron", 1000.0, electron)])) == ["initial direction", "origin"]
    assert key_of(draw_gallery(some_entries(), truth=False)) == []


def test_letters_of_a_sheet_can_be_read_on_a_page():
    """The sheet of a run, 1100 pixels wide as on its page, has no letters below 8 pixels."""
    from firstlight.detectors.lartpc.views.report import _draw_sheet

    rows = [
        {"file": "a", "track": f"{particle}{energy:.0f}_{index}", "particle": particle, "energy": energy}
        for particle in ("electron", "photon")
        for energy in (1000.0, 10_000.0)
        for index in range(16)
    ]
    rng = np.random.default_rng(8)
    voxels = pl.DataFrame(
        [
            {"file": "a", "track": row["track"], "charge": 100.0, **dict(zip("xyz", place, strict=True))}
            for row in rows
            for place in rng.normal(0, row["energy"] / 1000, (20, 3))
        ]
    )
    figure = _draw_sheet(pl.DataFrame(rows), voxels, 1e-3)
    words = [text for ax in figure.axes for text in ax.texts]
    assert sum(text.get_text().startswith("x  ") for text in words) == 2 * 2 * 5
    pixels_of_a_point = 1100 / figure.get_figwidth() / 72
    smallest = min(text.get_fontsize() for text in [*figure.texts, *words])
    assert smallest * pixels_of_a_point > 8


def test_profiles_of_many_tracks_have_a_title_and_say_what_is_expected():
    curves = [(f"track {index % 5}", ([0.5, 1.5], [5000, 6000])) for index in range(6)]
    figure = draw_profiles(curves, expected=minimum_ionising(30.0), title="dQ/dx of six tracks")
    assert len(figure.axes) == 2
    words = words_of(figure)
    assert "dQ/dx of six tracks" in words
    assert words.count("minimum ionising: 6,316 e⁻/mm") == 2
    assert words.count("track 0") == 2
    twins = draw_profiles([("twin", ([0.5], [5000])), ("twin", ([0.5], [6000]))])
    assert {"twin", "twin (2)"} <= set(words_of(twins))
    assert not any("minimum" in word for word in words_of(twins))
    # 1.508 MeV cm2/g in 1.396 g/cm3 are 210.5 keV/mm
    assert minimum_ionising(1.0) == pytest.approx(210.5, abs=0.05)
    assert minimum_ionising(1.0, 1.0) == pytest.approx(150.8)


def test_marks_are_the_same_in_pictures_and_on_the_page():
    from firstlight.detectors.lartpc.views.marks import KINDS

    of_plotly = {"o": "circle", "s": "square", "D": "diamond", "P": "cross", "X": "x"}
    for mark in KINDS.values():
        assert mark.page_symbol == of_plotly[mark.symbol] + ("" if mark.filled else "-open")
    assert len({mark.page_symbol for mark in KINDS.values()}) == len(KINDS)


def test_projections_are_coloured_by_particle():
    track = replace(a_track(), particle_id=np.repeat([3, 1], [2000, 1040]).astype(np.int32))
    particles = scene_of(track, labels={"raw": particle_labels(track)})
    words = words_of(draw_projections(particles, colour_by="label", words="particle"))
    shares = [track.num_e[:2000].sum() / track.charge, track.num_e[2000:].sum() / track.charge]
    assert {f"particle {rank}: {share:.1%}" for rank, share in enumerate(shares)} <= set(words)


# ---------------------------------------------------------------- real tracks


@pytest.fixture(scope="module")
def real_track(sample_data):
    path = sample_data / "lartpc/Tracks/LAr/photons/E0010000/TrackE0010000_D20250527_T1333526475.npz"
    if not path.is_file():
        pytest.skip(f"{path} not found")
    with np.load(path, allow_pickle=False) as content:
        return Track(content["r"], content["num_e"], name=path.stem)


def test_a_10_mev_track_is_drawn_with_all_its_charge(real_track):
    scene = scene_of(real_track)
    assert scene.layers[0].charge.sum() == 299_626
    assert len(scene.layers[0]) < 4000
    assert scene.core.edge < 0.04
    assert scene.whole.edge > 0.15
    image = rendered(draw_panels(scene))[:, :, :3]
    assert (image.max(axis=2) - image.min(axis=2) > 60).sum() > 2000, "there is colour in the picture"


@pytest.mark.slow
def test_a_10_mev_track_is_drawn_in_less_than_three_tenths_of_a_second(real_track, tmp_path):
    import statistics
    import time

    from firstlight.view.save import save_canvas

    def seconds():
        start = time.perf_counter()
        save_canvas(draw_track(real_track, zoom="all"), tmp_path / "a.png", 110)
        return time.perf_counter() - start

    seconds()
    assert statistics.median(seconds() for _ in range(7)) < 0.3
