"""The camera and its light source: rules against the files of the experiment."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from firstlight.detectors.digicam import camera, light_source
from firstlight.errors import UsageError


def _rows(path):
    """Return the words of all lines but comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="module")
def geometry(sample_data):
    folder = sample_data / "digicam" / "geometry"
    if not folder.is_dir():
        pytest.skip(f"sample data of the camera not found in {folder}")
    return folder


@pytest.fixture(scope="module")
def file(geometry):
    """Return the camera file as an array, a row for each pixel in order."""
    table = np.array([[float(word) for word in row] for row in _rows(geometry / "camera_config.cfg")])
    assert table.shape == (1296, 42)
    return table[np.argsort(table[:, 8])]


# columns of the file: name here, column there
_COLUMNS = {
    "crate": 0, "can_node": 1, "module": 2, "sector": 3, "board": 4, "quad": 5, "fadc_channel": 6,
    "pixel_in_module": 7, "channel": 8, "patch": 11, "pixel_in_patch": 12, "patch_in_module": 13,
    "module_in_sector": 14, "trigger_patch": 15,
}  # fmt: skip


@pytest.mark.parametrize("name", _COLUMNS)
def test_every_number_of_every_pixel_is_that_of_the_file(file, name):
    assert np.array_equal(camera.pixels()[name].to_numpy(), file[:, _COLUMNS[name]])


def test_positions_are_those_of_the_file(file):
    # the file has two digits
    pixels = camera.pixels()
    assert np.abs(pixels["x"].to_numpy() - file[:, 9]).max() < 0.0051
    assert np.abs(pixels["y"].to_numpy() - file[:, 10]).max() < 0.0055


def test_no_column_is_left_out_of_the_comparison():
    assert set(camera.pixels().columns) == {*_COLUMNS, "x", "y"}


@pytest.mark.parametrize(("n", "first"), [(7, 16), (19, 23)])
def test_clusters_are_those_of_the_file(file, n, first):
    patch = file[:, 11].astype(int)
    assert np.array_equal(camera.clusters(n)[patch], file[:, first : first + n])


def test_published_numbers_of_the_camera():
    sizes = (camera.neighbours() >= 0).sum(axis=1)
    assert np.bincount(sizes).tolist() == [0, 0, 3, 69, 0, 69, 1155]
    patches = camera.patch_table()["patch"].to_numpy()
    assert patches.tolist() == list(range(432))
    # per row of the file, that is for each pixel
    complete = (camera.clusters(7) >= 0).sum(axis=1)
    assert np.bincount(3 * [*complete.tolist()]).tolist() == [0, 0, 0, 0, 18, 189, 0, 1089]
    assert round(camera.PIXEL_AREA, 1) == 511.4


def test_neighbours_are_a_pitch_apart_and_mutual():
    pixels, neighbours = camera.pixels(), camera.neighbours()
    place = np.stack([pixels["x"], pixels["y"]], axis=1)
    one, slot = np.nonzero(neighbours >= 0)
    other = neighbours[one, slot]
    distance = np.hypot(*(place[one] - place[other]).T)
    assert np.abs(distance - camera.PITCH).max() < 1e-9
    pairs = set(zip(one.tolist(), other.tolist(), strict=True))
    assert {(b, a) for a, b in pairs} == pairs


def test_pixels_of_a_patch_touch_and_share_module_and_centre():
    table, neighbours, pixels = camera.patch_table(), camera.neighbours(), camera.pixels()
    members = table.select("pixel_0", "pixel_1", "pixel_2").to_numpy().astype(int)
    for a, b, c in members:
        assert {b, c} <= set(neighbours[a])
        assert c in neighbours[b]
    assert sorted(members.ravel()) == list(range(1296))
    for name in ("module", "sector", "trigger_patch", "patch_in_module"):
        assert (pixels[name].to_numpy()[members] == table[name].to_numpy()[:, None]).all()
    assert np.allclose(pixels["x"].to_numpy()[members].mean(axis=1), table["x"])


def test_sectors_are_turned_by_120_degrees():
    pixels = camera.pixels().sort("sector", "board", "fadc_channel")
    place = (pixels["x"].to_numpy() + 1j * pixels["y"].to_numpy()).reshape(3, 432)
    turn = np.exp(2j * np.pi / 3)
    assert np.abs(place[0] * turn - place[1]).max() < 1e-9
    assert np.abs(place[1] * turn - place[2]).max() < 1e-9


def test_read_out_order_is_that_of_the_raw_files(sample_data):
    protozfits = pytest.importorskip("protozfits")
    files = sorted((sample_data / "digicam" / "zfits").glob("*.fits.fz"))
    assert len(files) == 2
    for path in files:
        # protozfits crashes where the file is gone before its events
        with protozfits.File(str(path)) as opened:
            orders = [np.array(event.hiGain.waveforms.pixelsIndices) for event in opened.Events]
        assert orders
        assert all(np.array_equal(order, camera.read_out_order()) for order in orders)


def test_read_out_order_without_files():
    order = camera.read_out_order()
    assert order[:2].tolist() == [425, 461]
    assert order[-2:].tolist() == [727, 728]
    assert sorted(order) == list(range(1296))
    with pytest.raises(ValueError, match="read-only"):
        order[0] = 1


def test_unknown_clusters_are_refused():
    with pytest.raises(UsageError, match="no clusters of 8"):
        camera.clusters(8)


def test_the_module_imports_nothing_heavy():
    # the reader takes the order of the pixels from here
    heavy = "{'polars', 'scipy', 'numba', 'matplotlib'} & set(sys.modules)"
    code = (
        f"import sys; before = {heavy}; import firstlight.detectors.digicam.camera; print({heavy} - before)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


# -- the light source --------------------------------------------------------------------------------------------------


def _led_file(path, columns):
    rows = _rows(path)
    return [row[0] for row in rows], dict(
        zip(columns, np.array([[float(w) for w in row[1:]] for row in rows]).T, strict=True)
    )


def test_light_source_of_2018_is_that_of_the_file(geometry):
    names = ("led", "led_patch", "led_board", "led_in_board", "led_in_patch", "x", "y", "pixel", "patch")
    kinds, file = _led_file(geometry / "cts_config_0.cfg", names)
    table = light_source.light_sources(2)
    assert table["led_type"].to_list() == kinds
    for name in ("led", "led_patch", "led_board", "led_in_board", "led_in_patch", "pixel", "patch"):
        assert np.array_equal(table[name].to_numpy(), file[name]), name
    # the file has been turned there and back with few digits
    assert np.abs(table["x"].to_numpy() - file["x"]).max() < 0.03
    assert np.abs(table["y"].to_numpy() - file["y"]).max() < 0.03
    assert table["pixel_2016"].null_count() == table.height


def test_light_source_of_2016_is_that_of_the_file(geometry):
    names = ("led", "led_patch", "led_board", "led_in_patch", "led_in_board", "x", "y", "pixel_2016", "patch")
    kinds, file = _led_file(geometry / "cts_config_0_old.cfg", names)
    table = light_source.light_sources(1)
    assert table["led_type"].to_list() == kinds
    for name in ("led", "led_patch", "led_board", "led_in_board", "led_in_patch", "pixel_2016"):
        assert np.array_equal(table[name].to_numpy(), file[name]), name
    assert np.abs(table["x"].to_numpy() + 12.15 - file["x"]).max() < 0.01
    # LED boards 2 and 3 are a little off their place in the file
    off = table["y"].to_numpy() - 21.044 - file["y"]
    boards = table["led_board"].to_numpy()
    assert np.abs(off[~np.isin(boards, (2, 3))]).max() < 0.01
    assert np.ptp(off[boards == 2]) < 0.01
    assert np.ptp(off[boards == 3]) < 0.01
    assert np.abs(off).max() < 2.0
    assert len(set(file["patch"][:528])) == table["patch"][:528].n_unique() == 176


def test_the_light_source_of_2016_in_todays_numbers():
    # pixels and patches that stand in the file of this light source after the camera was renumbered
    table = light_source.light_sources(1)
    pixels = {0: 899, 1: 934, 2: 935, 48: 623, 96: 696, 98: 660, 144: 625, 192: 335, 240: 473, 288: 761}
    assert {led: table["pixel"][led] for led in pixels} == pixels
    patches = {0: 307, 48: 215, 96: 228, 144: 204, 192: 119, 240: 165, 288: 261, 324: 296}
    assert {led: table["patch"][led] for led in patches} == patches
    # and pixels in the file of the same time for 120 degrees
    turned = light_source.light_sources(1, 120)["pixel_2016"]
    assert [turned[led] for led in (0, 2, 48, 96, 144, 294)] == [106, 105, 661, 659, 732, 448]


@pytest.mark.parametrize("sector", [1, 2, 3])
def test_which_pixels_the_light_source_of_2016_reaches(sector):
    lit = light_source.lit_pixels(sector, version=1)
    pixels = camera.pixels()
    in_sector = pixels["sector"].to_numpy() == sector
    assert lit.sum() == 528
    assert lit[in_sector].all()
    # of the others the innermost boards
    assert set(pixels["board"].to_numpy()[lit & ~in_sector]) == {1}
    angle = light_source.ANGLE_OF_SECTOR[sector]
    assert np.array_equal(lit, light_source.lit_pixels(angle=angle, version=1))
    table = light_source.light_sources(1, angle)
    assert np.array_equal(np.unique(table["pixel"]), np.flatnonzero(lit))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("angle", [120, 240])
def test_the_light_source_turns_as_a_whole(version, angle):
    at_zero, turned = (light_source.light_sources(version, one) for one in (0, angle))
    place = at_zero["x"].to_numpy() + 1j * at_zero["y"].to_numpy()
    expected = place * np.exp(1j * np.radians(angle))
    assert np.abs(expected - (turned["x"].to_numpy() + 1j * turned["y"].to_numpy())).max() < 1e-9


def test_three_positions_reach_the_whole_camera():
    assert np.logical_or.reduce([light_source.lit_pixels(k, version=1) for k in (1, 2, 3)]).all()
    assert light_source.lit_pixels(version=2).all()


def test_unknown_positions_of_the_light_source_are_refused():
    with pytest.raises(UsageError, match="no sector 4"):
        light_source.lit_pixels(4)
    with pytest.raises(UsageError, match="90 degrees"):
        light_source.lit_pixels(angle=90)
    with pytest.raises(UsageError, match="version 3"):
        light_source.light_sources(3)
    with pytest.raises(UsageError, match="sector 1 is at 120"):
        light_source.lit_pixels(1, angle=0)
