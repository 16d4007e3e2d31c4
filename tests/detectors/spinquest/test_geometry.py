"""Tables of planes, positions of elements, X-T relations; check A17 against simulated true tracks."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from firstlight.detectors.spinquest import geometry as module
from firstlight.detectors.spinquest.geometry import (
    OUTLINES,
    Plane,
    available_geometries,
    drift_distance,
    drift_time,
    element_position,
    in_time_window,
    load_geometry,
    wire_ends,
)
from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from firstlight.detectors.spinquest.geometry import Geometry

REPOSITORY = Path(__file__).parents[3]
DATA = Path(os.environ.get("FIRSTLIGHT_DATA", REPOSITORY.parent / "shared" / "data")) / "spinquest"
MUONS = DATA / "mc_rus" / "MUM_Dump_10K.root"

# what the first viewer drew, in its order
ORIGINAL_GROUPS = [
    ("Station 1", "D0V D0Vp D0Xp D0X D0U D0Up"),
    ("Hodo", "H1L H1R H1B H1T"),
    ("DP-1", "DP1TL DP1TR DP1BL DP1BR"),
    ("Station 2", "D2V D2Vp D2Xp D2X D2U D2Up"),
    ("Hodo", "H2R H2L H2T H2B"),
    ("DP-2", "DP2TL DP2TR DP2BL DP2BR"),
    ("Station 3+", "D3pVp D3pV D3pXp D3pX D3pUp D3pU"),
    ("Station 3-", "D3mVp D3mV D3mXp D3mX D3mUp D3mU"),
    ("Hodo", "H3T H3B"),
    ("Prop", "P1Y1 P1Y2"),
    ("Hodo", "H4Y1R H4Y1L"),
    ("Prop", "P1X1 P1X2"),
    ("Hodo", "H4Y2R H4Y2L H4T H4B"),
    ("Prop", "P2X1 P2X2 P2Y1 P2Y2"),
]
D0 = ("D0U", "D0Up", "D0X", "D0Xp", "D0V", "D0Vp")
D2 = ("D2V", "D2Vp", "D2Xp", "D2X", "D2U", "D2Up")
D3 = tuple(f"D3{side}{view}" for side in "pm" for view in ("Vp", "V", "Xp", "X", "Up", "U"))


@pytest.fixture(scope="module")
def e1039() -> Geometry:
    return load_geometry("E1039")


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize(("name", "planes"), [("E1039", 62), ("E906", 54), ("original", 56)])
def test_built_in_tables(name: str, planes: int) -> None:
    table = load_geometry(name)
    ids = table.planes["detector_id"].to_list()
    assert available_geometries() == ["E1039", "E906", "original"]
    assert (table.version, table.source, table.planes.height) == (name, "built in", planes)
    assert table.valid_for
    assert ids == sorted(ids)
    assert table.planes["drawing_order"].sort().to_list() == list(range(1, planes + 1))
    assert table.planes.columns == [field.name for field in dataclasses.fields(Plane)]
    assert load_geometry(name.lower()) is table
    assert str(planes) in repr(table)


def test_numbers_of_elements(e1039: Geometry) -> None:
    original = load_geometry("original")
    assert original.planes["n_elements"].sum() == 4768
    assert not set(range(7, 13)) & set(original.planes["detector_id"])
    assert [e1039.plane(i).n_elements for i in range(7, 13)] == [384, 384, 320, 320, 384, 384]
    assert {e1039.plane(i).n_elements for i in range(59, 63)} == {50}
    assert {original.plane(i).n_elements for i in range(59, 63)} == {48}
    assert {e1039.plane(i).n_elements - e1039.plane(i).n_optional for i in range(59, 63)} == {48}
    d1 = e1039.planes.filter(pl.col("name").str.starts_with("D1"))
    assert d1["n_optional"].to_list() == d1["n_elements"].to_list()
    others = e1039.planes.filter(~pl.col("name").str.contains("^(D1|DP2)"))
    assert others["n_optional"].sum() == 0
    assert e1039.planes["n_elements"].sum() == 4768 + 4 * 2 + 4 * 384 + 2 * 320
    blocks = e1039.planes.filter(pl.col("block") > 0)
    assert blocks["name"].to_list() == "P1Y1 P1Y2 P1X1 P1X2 P2X1 P2X2 P2Y1 P2Y2".split()  # noqa: SIM905
    assert set(blocks["block"]) == {8}


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (1, "D0U"),
        (6, "D0Vp"),
        (7, "D1V"),
        (15, "D2Xp"),
        (19, "D3pVp"),
        (30, "D3mU"),
        (31, "H1B"),
        (41, "H4Y1L"),
        (43, "H4Y2L"),
        (44, "H4Y2R"),
        (47, "P1Y1"),
        (54, "P2Y2"),
        (55, "DP1TL"),
        (62, "DP2BR"),
    ],
)
def test_names_and_ids(e1039: Geometry, number: int, name: str) -> None:
    assert e1039.plane(number).name == name
    assert e1039.plane(name.lower()).detector_id == number
    assert e1039.plane(int(np.int16(number))) is e1039.plane(name)


def test_groups_and_order_of_the_first_viewer() -> None:
    planes = load_geometry("original").planes.sort("drawing_order")
    wanted = [(name, label) for label, names in ORIGINAL_GROUPS for name in names.split()]
    assert list(zip(planes["name"], planes["legacy_group"], strict=True)) == wanted
    runs = planes["group"].rle().struct.field("value").to_list()  # every group in one piece, every label once
    assert runs == [
        "Station 1", "Hodo-1", "DP-1", "Station 2", "Hodo-2", "DP-2", "Station 3+", "Station 3-", "Hodo-3",
        "Prop-P1Y", "Hodo-4Y1", "Prop-P1X", "Hodo-4Y2X", "Prop-P2",
    ]  # fmt: skip
    full = load_geometry("E1039").planes.sort("drawing_order")
    assert full["group"].rle().struct.field("value").to_list() == [*runs[:1], "Station 1 (D1)", *runs[1:]]


@pytest.mark.parametrize("name", ["E1039", "E906", "original"])
def test_partners(name: str) -> None:
    table = load_geometry(name)
    without = set()
    for number in table.planes["detector_id"]:
        plane = table.plane(number)
        if not plane.partner:
            without.add(plane.name)
            continue
        partner = table.plane(plane.partner)
        assert partner.partner == plane.name != partner.name
        assert partner.n_elements == plane.n_elements
        assert partner.view.rstrip("'") == plane.view.rstrip("'")
    assert without == set("H1L H1R H2L H2R H4Y1L H4Y1R H4Y2L H4Y2R".split())  # noqa: SIM905
    assert table.plane("D2X").partner == "D2Xp"
    assert table.plane("H4B").partner == "H4T"


def test_unknown_plane_names_the_nearest(e1039: Geometry) -> None:
    with pytest.raises(ConfigError, match="'D3pXX'") as caught:
        e1039.plane("D3pXX")
    assert "D3pX" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="plane '63'"):
        e1039.plane(63)
    with pytest.raises(ConfigError, match="E1039") as caught:
        load_geometry("E1093")
    assert caught.value.known == ["E1039", "E906", "original"]


# ---------------------------------------------------------------- positions


def test_positions_by_hand(e1039: Geometry) -> None:
    # X plane: 18 pitches from the middle, which lies between elements 80 and 81
    wanted = (62 - 80.5) * 0.635 + 0.159 - 0.198353 + 0.884 + 2.771 * math.sin(-0.000634)
    assert element_position(e1039, 3, 62) == pytest.approx(wanted, abs=2e-4)
    # U plane: both coordinates of the centre count
    angle = 0.244974 + 0.00503
    wanted = (1 - 64.5) * 2.021 - 0.505 - 0.003348 - 0.612 * math.cos(angle) - 0.622 * math.sin(angle)
    assert element_position(e1039, 17, 1) == pytest.approx(wanted, abs=1e-5)
    # horizontal bars measure y; element 8 of 16 lies half a pitch below the middle
    assert element_position(e1039, 41, 8) == pytest.approx(-11.58 + 0.376 - 2.113 + 0.00414 * -66.04, abs=0.6)
    # tubes: element 1 is in the ninth module, at the lowest y (x)
    module_9 = -162.364 + (1 - 4.5) * 5.08 + 1.27
    assert element_position(e1039, 47, 1) == pytest.approx(module_9 - 1.232, abs=0.01)
    for first, second, shift in ((47, 48, 2.54), (49, 50, 2.54), (51, 52, 2.54), (53, 54, 2.54)):
        difference = element_position(e1039, first, 30) - element_position(e1039, second, 30)
        assert difference == pytest.approx(shift)


def test_positions_are_vectorised_and_nan_for_what_is_not_there(e1039: Geometry) -> None:
    position = element_position(e1039, np.array([3, 3, 3, 0, 63, -1], dtype=np.int16), [0, 160, 161, 1, 1, 1])
    assert np.isfinite(position).tolist() == [False, True, False, False, False, False]
    assert element_position(e1039, [[1], [3]], [1, 2, 3]).shape == (2, 3)
    assert np.isnan(element_position(load_geometry("original"), 7, 1))
    ends = wire_ends(e1039, [3, 3, 99], [0, 1, 1])
    assert all(np.isfinite(end).tolist() == [False, True, False] for end in ends)


def test_bottom_dark_photon_planes_count_backwards(e1039: Geometry) -> None:
    number = np.arange(1, 51)
    for name, sign in (("DP2TL", 1), ("DP2TR", 1), ("DP2BL", -1), ("DP2BR", -1)):
        plane = e1039.plane(name)
        position = element_position(e1039, plane.detector_id, number)
        assert np.diff(position) == pytest.approx(sign * 1.9)
        assert plane.reversed == (sign < 0)
        assert np.sign(position.mean()) == sign
    # the 48 elements of the first viewer stand where they stand in the full table
    original = load_geometry("original")
    for detector in (59, 60, 61, 62):
        few = element_position(original, detector, number[:48])
        assert few == pytest.approx(element_position(e1039, detector, number[:48]))


@pytest.mark.parametrize("name", ["E1039", "E906", "original"])
def test_ends_lie_on_the_line_of_the_element(name: str) -> None:
    table = load_geometry(name)
    for number in table.planes["detector_id"]:
        plane = table.plane(number)
        element = np.arange(1, plane.n_elements + 1)
        x1, y1, z1, x2, y2, z2 = wire_ends(table, number, element)
        angle = plane.angle + plane.theta_z
        wanted = element_position(table, number, element)
        for x, y, z in ((x1, y1, z1), (x2, y2, z2)):
            assert x * np.cos(angle) + y * np.sin(angle) == pytest.approx(wanted, abs=1e-9)
            assert z.tolist() == [plane.z0] * plane.n_elements
        length = np.hypot(x2 - x1, y2 - y1)
        assert length.max() < np.hypot(plane.width, plane.height) + 1e-6
        if plane.view == "Y":
            assert length == pytest.approx(plane.width)
            assert np.all(x1 > x2)
        else:
            assert length[plane.n_elements // 2] == pytest.approx(plane.height / math.cos(plane.angle))
            assert np.all(y1 < y2)


def test_left_is_at_positive_x(e1039: Geometry) -> None:
    for left, right in (
        ("H1L", "H1R"),
        ("H2L", "H2R"),
        ("H4Y1L", "H4Y1R"),
        ("H4Y2L", "H4Y2R"),
        ("DP1TL", "DP1TR"),
    ):
        assert e1039.plane(left).x0 > 0 > e1039.plane(right).x0


def test_outlines() -> None:
    boxes = {box.name: box for box in OUTLINES}
    assert boxes["KMAG"].z_high - boxes["KMAG"].z_low == pytest.approx(2 * 304.8)
    assert all(box.z_low <= box.z_high for box in OUTLINES)


# ---------------------------------------------------------------- X-T relations


@pytest.mark.parametrize(
    "name", ["D0U", "D0Vp", "D1X", "D2V", "D2Xp", "D3pV", "D3mX", "P1Y1", "P1X2", "P2Y2"]
)
def test_drift_round_trip(e1039: Geometry, name: str) -> None:
    plane = e1039.plane(name)
    window = in_time_window(plane)
    assert window is not None
    assert plane.drift_maximum is not None
    distance = np.linspace(0.05, 0.95, 181) * plane.drift_maximum
    time = drift_time(distance, plane)
    assert drift_distance(time, plane) == pytest.approx(distance, abs=1e-9)
    assert np.all(np.diff(time) < 0)  # common stop: far tracks have small times
    ends = drift_time([0.0, plane.drift_maximum], plane)
    assert np.all((ends >= window[0]) & (ends <= window[1]))
    assert np.isnan(drift_time([-0.01, plane.drift_maximum * 1.01, np.nan], plane)).all()
    # both edges are in, one nanosecond beyond is out
    inside = drift_distance(list(window), plane)
    assert inside == pytest.approx([plane.drift_maximum, 0.0], abs=0.035)
    assert np.isnan(drift_distance([window[0] - 1, window[1] + 1], plane)).all()


def test_drift_windows(e1039: Geometry) -> None:
    assert in_time_window(e1039.plane("D0X")) == (1130, 1330)
    assert in_time_window(e1039.plane("D3pVp")) == (736, 1296)
    assert in_time_window(e1039.plane("H1B")) is None
    assert in_time_window(load_geometry("E906").plane("D0X")) == (1650, 1750)
    with pytest.raises(ConfigError, match="H1B has no X-T relation"):
        drift_distance(1000.0, e1039.plane("H1B"))
    for number in e1039.planes["detector_id"]:
        plane = e1039.plane(number)
        assert bool(plane.drift_curve) == (plane.kind in {"chamber", "prop_tube"})
        if (window := in_time_window(plane)) is not None:
            assert plane.tdc_histogram_low < window[0] < window[1] < plane.tdc_histogram_high


def test_drift_points_against_the_published_relation(e1039: Geometry) -> None:
    path = DATA / "geometry" / "xt_param_e1039.tsv"
    if not path.is_file():
        pytest.skip(f"no {path}; set FIRSTLIGHT_DATA")
    table = pl.read_csv(path, separator="\t", infer_schema_length=None)
    for (name,), part in table.group_by("#det", maintain_order=True):
        plane = e1039.plane(str(name))
        found = drift_distance(part["t"].to_numpy(), plane)
        worst = np.abs(found - part["x"].to_numpy()).max()
        assert worst < (0.005 if plane.name.startswith("D0") else 0.05), name


# ---------------------------------------------------------------- malformed files


def _write(tmp_path: Path, change: dict[str, str] | None = None, extra: str = "", drop: str = "") -> Path:
    """Write a table of two planes; `change` alters cells of the second."""
    rows = load_geometry("E1039").planes.filter(pl.col("detector_id").is_in([3, 4])).cast(pl.String)
    rows = rows.with_columns(pl.col("reversed").str.to_lowercase()).fill_null("")
    for column, value in (change or {}).items():
        new = pl.when(pl.col("detector_id") == "4").then(pl.lit(value)).otherwise(pl.col(column))
        rows = rows.with_columns(new.alias("new")).with_columns(pl.col("new").alias(column)).drop("new")
    path = tmp_path / "mine.csv"
    path.write_text("# version: mine\n\n" + rows.drop(drop or []).write_csv() + extra)
    return path


def test_own_table(tmp_path: Path) -> None:
    path = _write(tmp_path, {"z0": "700.5", "partner": "d0X".upper(), "tdc_low": "", "tdc_high": ""})
    table = load_geometry(path)
    assert (table.version, table.source, table.planes.height) == ("mine", str(path), 2)
    assert table.plane("D0Xp").z0 == 700.5
    assert in_time_window(table.plane("D0Xp")) is None
    assert drift_distance(1130, table.plane("D0Xp")) == pytest.approx(0.3175)  # the window of the relation
    assert load_geometry(str(path)).plane(3) == load_geometry("E1039").plane(3)


@pytest.mark.parametrize(
    ("change", "column", "part"),
    [
        ({"pitch": "wide"}, "pitch", "'wide' is not a finite number"),
        ({"z0": "nan"}, "z0", "'nan' is not a finite number"),
        ({"n_elements": "1.5"}, "n_elements", "'1.5' is not a whole number"),
        ({"n_elements": "0"}, "n_elements", "0 is below 1"),
        ({"n_elements": "9" * 400}, "n_elements", "is not a whole number"),
        ({"n_elements": "99999"}, "n_elements", "99999 is above 32767"),
        ({"n_optional": "161"}, "n_optional", "161 is above n_elements = 160"),
        ({"name": "d0x"}, "name", "'d0x' stands twice: D0X has it already"),
        ({"name": ""}, "name", "is empty"),
        ({"partner": "D0Y"}, "partner", "unknown plane 'D0Y'"),
        ({"kind": "chambre"}, "kind", "'chambre' is not known here"),
        ({"drift_curve": "D9"}, "drift_curve", "'D9' is not known here"),
        ({"reversed": "no"}, "reversed", "'no' is not true or false"),
        ({"pitch": "-0.6"}, "pitch", "-0.6 is not above 0"),
        ({"tdc_high": ""}, "tdc_high", "None does not go with tdc_low = 1130.0"),
        ({"tdc_high": "1130"}, "tdc_high", "1130.0 does not go with tdc_low = 1130.0"),
        ({"drawing_order": "4"}, "drawing_order", "4 stands twice"),
    ],
)
def test_bad_cells_are_named(tmp_path: Path, change: dict[str, str], column: str, part: str) -> None:
    path = _write(tmp_path, change)
    with pytest.raises(ConfigError) as caught:
        load_geometry(path)
    text = str(caught.value)
    assert f"{path}, line 5" in text  # the comment, an empty line, the names, D0X, D0Xp
    assert f"column {column}" in text
    assert part in text


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="column detector_id: 3 stands twice: D0X has it already"):
        load_geometry(_write(tmp_path, {"detector_id": "3"}))
    with pytest.raises(ConfigError, match="line 3: these columns are not there exactly once: pitch"):
        load_geometry(_write(tmp_path, drop="pitch"))
    with pytest.raises(ConfigError, match="line 6: 2 cells, but there are 30 columns"):
        load_geometry(_write(tmp_path, extra="5,D0V\n"))
    path = _write(tmp_path)
    path.write_text(path.read_text().replace("pitch", "pich"))
    with pytest.raises(ConfigError, match="unknown column 'pich'") as caught:
        load_geometry(path)
    assert "pitch" in str(caught.value.hint)
    path.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="has no table"):
        load_geometry(path)
    path.write_bytes(b"\xff\xfe\x00root")
    with pytest.raises(ConfigError, match="cannot be read as text"):
        load_geometry(path)
    with pytest.raises(ConfigError, match="no such file"):
        load_geometry(tmp_path / "none.csv")


def test_only_light_imports() -> None:
    source = Path(module.__file__).read_text()
    imported = {
        line.split()[1].split(".")[0] for line in source.splitlines() if line.startswith(("import ", "from "))
    }
    assert imported == {
        "__future__",
        "csv",
        "math",
        "dataclasses",
        "functools",
        "pathlib",
        "typing",
        "numpy",
        "polars",
        "firstlight",
    }


# ---------------------------------------------------------------- A17: simulated true tracks


@pytest.fixture(scope="module")
def muons() -> dict[str, np.ndarray]:
    """Return one row a hit: detector, element, drift, and the true track of its event at stations 1 and 3."""
    if not MUONS.is_file():
        pytest.skip(f"no {MUONS}; set FIRSTLIGHT_DATA to the folder that contains spinquest/")
    uproot = pytest.importorskip("uproot")
    awkward = pytest.importorskip("awkward")
    with uproot.open(MUONS) as file:
        tree = file["tree"]
        truth = [f"g{part}_st{station}" for part in ("x", "y", "z", "px", "py", "pz") for station in (1, 3)]
        arrays = tree.arrays(["detectorID", "elementID", "driftDistance", *truth])
    count = awkward.to_numpy(awkward.num(arrays["detectorID"]))
    hits = {name: awkward.to_numpy(awkward.flatten(arrays[name])) for name in arrays.fields[:3]}
    for name in truth:  # one muon an event
        hits[name] = np.repeat(awkward.to_numpy(awkward.flatten(arrays[name])), count)
    return hits


def _residual(table: Geometry, hits: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, ...]:
    """Return track minus element [cm], signed drift distance [cm], track position w [cm], element number."""
    plane = table.plane(name)
    chosen = hits["detectorID"] == plane.detector_id
    station = 1 if plane.z0 < 1000 else 3
    point = {part: hits[f"g{part}_st{station}"][chosen] for part in ("x", "y", "z", "px", "py", "pz")}
    x = point["x"] + point["px"] / point["pz"] * (plane.z0 - point["z"])
    y = point["y"] + point["py"] / point["pz"] * (plane.z0 - point["z"])
    angle = plane.angle + plane.theta_z
    along = x * np.cos(angle) + y * np.sin(angle)
    element = hits["elementID"][chosen]
    wire = element_position(table, plane.detector_id, element)
    return along - wire, hits["driftDistance"][chosen], along, element


@pytest.mark.parametrize("name", [*D0, *D2, *D3])
def test_a17_signed_residuals(e1039: Geometry, muons: dict[str, np.ndarray], name: str) -> None:
    plane = e1039.plane(name)
    residual, drift, _, _ = _residual(e1039, muons, name)
    assert residual.size > 4500
    assert np.isfinite(residual).all()
    difference = residual - drift
    correlation = np.corrcoef(residual, drift)[0, 1]
    print(f"A17 {name}: n {residual.size}, correlation {correlation:.4f}, "
          f"mean {difference.mean():+.4f} cm, rms {difference.std():.4f} cm, "
          f"within one cell {np.mean(np.abs(residual) < plane.pitch):.5f}")  # fmt: skip
    lowest, widest = (
        (0.99, 0.05) if name in (*D2, *D3) else (0.98, 0.035) if "V" not in name else (0.96, 0.05)
    )
    assert correlation > lowest
    assert difference.std() < widest
    assert abs(difference.mean()) < 0.035
    assert np.mean(np.abs(residual) < plane.pitch) > 0.9999  # at most one delta electron


@pytest.mark.parametrize("name", "H1B H1T H1L H1R H3B H3T H4Y1L H4Y1R H4Y2L H4Y2R H4B H4T".split())  # noqa: SIM905
def test_a17_hodoscopes(e1039: Geometry, muons: dict[str, np.ndarray], name: str) -> None:
    residual, _, _, _ = _residual(e1039, muons, name)
    median = np.median(residual)
    print(f"A17 {name}: n {residual.size}, median {median:+.3f} cm, rms {residual.std():.3f} cm")
    assert np.abs(residual).max() < e1039.plane(name).pitch
    assert abs(median) < 0.25


@pytest.mark.parametrize(("name", "sign"), [("DP2TL", 1), ("DP2TR", 1), ("DP2BL", -1), ("DP2BR", -1)])
def test_a17_dark_photon_direction(
    e1039: Geometry, muons: dict[str, np.ndarray], name: str, sign: int
) -> None:
    residual, _, along, element = _residual(e1039, muons, name)
    slope = np.polyfit(element, along, 1)[0]
    print(f"A17 {name}: slope {slope:+.4f} cm/element, rms {residual.std():.3f} cm")
    assert slope == pytest.approx(sign * 1.9, abs=0.01)
    assert np.abs(residual).max() < 1.9


@pytest.mark.parametrize("name", ["P1Y1", "P1Y2", "P1X1", "P1X2", "P2X1", "P2X2", "P2Y1", "P2Y2"])
def test_a17_tubes(e1039: Geometry, muons: dict[str, np.ndarray], name: str) -> None:
    residual, _, along, element = _residual(e1039, muons, name)
    median = np.median(residual)
    near = np.abs(residual) < 5.08  # without tracks that scattered in the absorber
    slope = np.polyfit(element[near], along[near], 1)[0]
    print(f"A17 {name}: slope {slope:.4f} cm/tube, median {median:+.3f} cm, near {near.mean():.4f}")
    assert slope == pytest.approx(5.08, abs=0.03)
    assert near.mean() > 0.985
    assert abs(median) < 0.15


def test_a17_left_planes_see_tracks_at_positive_x(e1039: Geometry, muons: dict[str, np.ndarray]) -> None:
    for name, sign in (("H4Y2L", 1), ("H4Y2R", -1), ("H4Y1L", 1), ("H4Y1R", -1)):
        plane = e1039.plane(name)
        chosen = muons["detectorID"] == plane.detector_id
        slope = muons["gpx_st3"][chosen] / muons["gpz_st3"][chosen]
        x = muons["gx_st3"][chosen] + slope * (plane.z0 - muons["gz_st3"][chosen])
        inside = np.mean(np.abs(x - plane.x0) < plane.width / 2)
        print(f"A17 {name}: {inside:.5f} of {x.size} inside, median x {np.median(x):+.1f} cm")
        assert inside > 0.99  # the halves overlap by 20 cm in the middle
        assert sign * np.median(x) > 30
