"""Verdicts on simulated spills: short and long, clean and with faults, with and without a reference."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from firstlight.data.cube import Axis, HistogramCube
from firstlight.data.schema import Span
from firstlight.detector import get_detector
from firstlight.detectors.spinquest.channels import channel_map
from firstlight.detectors.spinquest.checks import checks
from firstlight.detectors.spinquest.efficiency import EfficiencyParameters, efficiency, measure
from firstlight.detectors.spinquest.geometry import load_geometry
from firstlight.detectors.spinquest.options import Options
from firstlight.detectors.spinquest.quality import median_times
from firstlight.detectors.spinquest.simulate import simulate_spill
from firstlight.detectors.spinquest.source import SOURCES
from firstlight.run.chain import Settings, process
from firstlight.run.progress import Progress
from firstlight.steps.step import Context

QUIET = Settings(progress=Progress(quiet=True), plots=False)
GEOMETRY = load_geometry("E1039")
CHANNELS = channel_map(GEOMETRY)
PLANE_OF_REFERENCE = ["H1L", "H1R", "H2L", "H4Y1R", "H4Y2L"]


def spill(folder, name, **parameters):
    path = folder / f"{name}.root"
    simulate_spill(path, **parameters)
    return path


def judged(folder, paths, name="run", **configuration):
    return process(get_detector("spinquest"), paths, folder / name, configuration, QUIET)


def alarms(run) -> set[tuple[str, str]]:
    return {(c["name"], c["subject"]) for c in run.record["checks"] if c["verdict"] in ("bad", "warn")}


# 20 events: one burst of a card is a hot wire, and the median of 200 drift times is known to 20 ns
@pytest.mark.parametrize(
    ("n_events", "seeds"), [(1, (62, 63)), (20, (9054, 9088, 9105, 9122)), (100, (9168, 9253))]
)
def test_short_clean_spills_give_no_alarm(n_events, seeds, tmp_path):
    for seed in seeds:
        path = spill(tmp_path, f"clean{seed}", seed=seed, n_events=n_events)
        assert alarms(judged(tmp_path, [path], f"run{seed}")) == set(), seed


def test_element_where_the_illumination_ends_is_not_low(tmp_path):
    """D0Vp 1 is a wire of a few centimetres: its neighbours tell less than that illumination falls to nothing."""
    path = spill(tmp_path, "clean", seed=12716, n_events=3716)
    assert alarms(judged(tmp_path, [path])) == set()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    return judged(folder, [spill(folder, "clean", seed=12733, n_events=3716)])


@pytest.mark.parametrize("n_events", [400, 3716])
def test_faults_of_planes_without_partner_are_found_with_a_reference(n_events, reference, tmp_path):
    slow = [f"rate:{plane}=0.6" for plane in PLANE_OF_REFERENCE]
    moved = ["shift:H1T=36", "shift:H2R=36", "shift:H4Y1L=-36", "shift:DP1TL=36", "shift:D0U=36"]
    path = spill(tmp_path, "faulty", seed=78, n_events=n_events, faults=[*slow, *moved])
    run = judged(tmp_path, [path], quality={"reference": str(reference.folder)})
    expected = {("plane low", plane) for plane in PLANE_OF_REFERENCE}
    expected |= {("time shifted", plane) for plane in ("H1T", "H2R", "H4Y1L", "DP1TL", "D0U")}
    assert alarms(run) == expected
    shifts = dict(run["quality/times"].to_polars().select("plane", "shift").iter_rows())
    assert shifts["H1T"] == pytest.approx(36, abs=4)
    assert shifts["H4Y1L"] == pytest.approx(-36, abs=4)


@pytest.mark.parametrize("seed", [9020, 9037, 9054])
def test_short_clean_spill_against_a_reference(seed, reference, tmp_path):
    path = spill(tmp_path, "clean", seed=seed, n_events=20)
    assert alarms(judged(tmp_path, [path], quality={"reference": str(reference.folder)})) == set()


def test_of_a_pair_that_is_alone_the_plane_that_moved_is_named(tmp_path):
    path = spill(tmp_path, "shifted", seed=79, n_events=3716, faults=["shift:P1Y1=36"])
    assert alarms(judged(tmp_path, [path])) == {("time shifted", "P1Y1")}


def test_plane_without_in_time_flag_is_named(tmp_path):
    path = spill(tmp_path, "unfilled", seed=80, n_events=400, faults=["flag:H2T"])
    assert alarms(judged(tmp_path, [path])) == {("in-time flag of a plane", "H2T")}


def cube_of(rows: np.ndarray) -> HistogramCube:
    axes = (Axis("channel", len(CHANNELS)), Axis("tdc_time", 216, 280.0, 2008.0))
    return HistogramCube(axes, np.pad(rows, ((0, 0), (1, 1))))


def test_error_of_a_median_knows_of_bursts():
    """Independent hits: sigma of the median is sqrt(pi / 2) that of the mean. Twenty hits at once: sqrt(20) more."""
    plane = CHANNELS.group_names.index("D2X")
    first, n = int(np.searchsorted(CHANNELS.group_index, plane)), 112
    edges = np.linspace(280, 2008, 217)
    errors: dict[int, list[float]] = {1: [], 20: []}
    medians: dict[int, list[float]] = {1: [], 20: []}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        for size in (1, 20):
            time = np.repeat(rng.normal(1000, 100, 4000 // size), size)
            element = np.repeat(rng.integers(0, n, 4000 // size), size)
            rows = np.zeros((len(CHANNELS), 216), dtype=np.int64)
            np.add.at(rows, (first + element, np.digitize(time, edges) - 1), 1)
            found = median_times(cube_of(rows), None, CHANNELS, GEOMETRY)
            medians[size].append(found[0][plane])
            errors[size].append(found[1][plane])
    for size in (1, 20):
        true = np.std(medians[size])
        assert true == pytest.approx(100 * np.sqrt(np.pi / 2 * size / 4000), rel=0.3)
        assert 0.8 * true < np.mean(errors[size]) < 1.3 * true


@pytest.mark.parametrize(
    ("n_spills", "n_events", "seed"), [(30, 100, 52100), (30, 400, 51400), (3, 400, 51400)]
)
def test_trend_of_clean_spills_has_at_most_one_step(n_spills, n_events, seed, tmp_path):
    paths = [
        spill(tmp_path, f"{i:03d}", seed=seed + 7 * i, n_events=n_events, spill_id=i + 1)
        for i in range(n_spills)
    ]
    points = judged(tmp_path, paths)["trend/points"].to_polars()
    assert points.filter(pl.col("state").is_in(["high", "low"])).height <= (n_spills > 10)


def test_trend_finds_the_spill_in_which_a_plane_moved(tmp_path):
    paths = [
        spill(
            tmp_path, f"{i}", seed=600 + i, n_events=1000, spill_id=i + 1,
            faults=["shift:D2U=60", "rate:H1L=0.5"] if i == 4 else [],
        )
        for i in range(9)
    ]  # fmt: skip
    points = (
        judged(tmp_path, paths)["trend/points"].to_polars().filter(pl.col("state").is_in(["high", "low"]))
    )
    assert set(points.select("quantity", "subject", "label").iter_rows()) == {
        ("mean TDC time", "D2U", "5"),
        ("share of hits", "H1L", "5"),
    }


def test_section_is_not_missed_by_a_few_muons(sample_data, tmp_path):
    path = sample_data / "spinquest/mc_rus/Mess_Gen_single_muons.root"
    few = process(get_detector("spinquest"), [path], tmp_path / "few", {}, QUIET, max_events=2)
    assert alarms(few) == set()
    assert alarms(judged(tmp_path, [path])) == {("detector group without hits", "DP-1")}


def test_efficiencies_of_simulated_muons(tmp_path):
    path = spill(
        tmp_path, "muons", seed=31, n_events=6000, mean_hits=60, n_tracks=1, faults=["efficiency:D2U=0.8", "efficiency:P1X2=0.8"]
    )  # fmt: skip
    context = Context(CHANNELS, Options())
    parameters = EfficiencyParameters()
    found = SOURCES[0].describe(path)
    chunks = SOURCES[0].read(Span(str(path), 0, 0, found.n_events), efficiency.needs(parameters), CHANNELS)
    partial = None
    for chunk in chunks:
        one = measure(chunk, parameters, context)
        partial = one if partial is None else partial + one
    planes = efficiency.finish(partial, parameters, context)["planes"]
    rows = {row["plane"]: row for row in planes.frame.iter_rows(named=True)}
    # so wide a window holds most of the bars: what is beside it is no expected number but a probability
    assert all(row["efficiency"] is not None for row in rows.values() if row["state"] == "ok")
    assert rows["H1B"]["state"] == "ok"
    for plane, true in {"D2U": 0.8, "D2X": 0.95, "D3pV": 0.95, "D0U": 0.95}.items():
        row = rows[plane]
        reach = 2 * np.hypot((row["high"] - row["low"]) / 2, row["systematic"])
        assert row["efficiency"] == pytest.approx(true, abs=reach), plane
    # tubes leave gaps, for which the limit of the check allows: 0.94 * 4.76 / 5.08
    assert rows["P1X1"]["efficiency"] == pytest.approx(0.94 * 0.9375, abs=0.02)
    found_checks = checks({"efficiency/planes": planes}, context)
    assert {c.subject for c in found_checks if c.verdict == "warn"} == {"D2U", "P1X2"}
