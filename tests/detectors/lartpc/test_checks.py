"""Verdicts on tables that were made for them: each limit is met from both sides."""

from __future__ import annotations

from types import SimpleNamespace

import polars as pl
import pytest

from firstlight.data.schema import Table
from firstlight.detectors.lartpc.checks import checks
from firstlight.detectors.lartpc.inventory import TRACKS
from firstlight.detectors.lartpc.readout.step import READOUT

NO_CONTEXT = SimpleNamespace()


def table(schema, rows):
    """Return a table of rows whose other columns are empty, or zero where they must be filled."""
    zeros = {pl.String: "", pl.Boolean: False}
    full = []
    for row in rows:
        blank = {
            column.name: None
            if column.nullable
            else zeros.get(column.dtype, max(0, int(column.minimum or 0)))
            for column in schema.columns
        }
        full.append(blank | row)
    return Table.from_rows(schema, full)


def tracks(rows):
    """Return tracks that were read, with different points each."""
    named = [
        {"track": f"T{number}", "status": "read", "has_truth": True, "digest": str(number)} | row
        for number, row in enumerate(rows)
    ]
    return table(TRACKS, named)


def verdict(name, rows, readout=None):
    """Return the verdict of a check on tracks and what was read out of them."""
    products = {"tracks/tracks": tracks(rows)}
    if readout is not None:
        products["readout/tracks"] = table(READOUT, readout)
    (found,) = (check for check in checks(products, NO_CONTEXT) if check.name == name)
    return found


# ---------------------------------------------------------------- charge scale


def folders(*scales):
    """Return three electrons of each energy, whose charge per energy is that of their folder."""
    energies = (1000.0, 2000.0, 3000.0, 5000.0, 10_000.0)
    return [
        {"particle": "electron", "energy": energy, "charge_per_energy": scale}
        for energy, scale in zip(energies, scales, strict=True)
        for _ in range(3)
    ]


@pytest.mark.parametrize(
    ("off", "expected"),
    [
        (0.0, "ok"),
        (0.028, "ok"),
        (-0.028, "ok"),
        (0.032, "warn"),
        (-0.04, "warn"),
        (0.098, "warn"),
        (0.102, "bad"),
        (-0.12, "bad"),
    ],
)
def test_a_folder_with_another_charge_scale_warns_from_three_and_is_bad_from_ten_per_cent(off, expected):
    found = verdict("charge scale", folders(30.0, 30.0, 30.0, 30.0 * (1 + off), 30.0))
    assert found.verdict == expected
    assert found.value == pytest.approx(abs(off), abs=1e-12)
    told = ("5 MeV electrons: ",) if expected != "ok" else ()
    assert tuple(detail[: len("5 MeV electrons: ")] for detail in found.details) == told


def test_one_energy_says_nothing_of_the_charge_scale():
    found = verdict("charge scale", folders(30.0, 30.0, 30.0, 30.0, 30.0)[:3])
    assert found.verdict == "no-statistics"


# ---------------------------------------------------------------- pairs


@pytest.mark.parametrize(
    ("balance", "expected"), [(1.0, "ok"), (1.019, "ok"), (0.981, "ok"), (1.021, "warn"), (0.979, "warn")]
)
def test_arms_of_a_pair_have_its_energy_within_two_per_cent(balance, expected):
    rows = [{"particle": "photon", "energy": 10_000.0, "pair_balance": value} for value in (1.0, balance)]
    found = verdict("energies of pairs", rows)
    assert found.verdict == expected
    assert found.value == pytest.approx(abs(balance - 1), abs=1e-12)
    assert len(found.details) == (expected == "warn")


# ---------------------------------------------------------------- read-out


def read(n_noise, expected_noise, n_tracks=10):
    """Return tracks all of whose charge arrived and was sampled, with hits of noise alone."""
    row = {"survivors": 1000, "sampled": 1000, "bunch": 1.0, "expected_noise_hits": expected_noise / n_tracks}
    hits = [n_noise // n_tracks + (number < n_noise % n_tracks) for number in range(n_tracks)]
    return [row | {"track": f"T{number}", "n_noise_hits": number_of} for number, number_of in enumerate(hits)]


# limits of a Poisson number of mean 100 that is as unlikely as 1e-3 on both sides: 69 to 135
@pytest.mark.parametrize(
    ("seen", "expected"),
    [(0, "warn"), (60, "warn"), (80, "ok"), (100, "ok"), (120, "ok"), (145, "warn"), (400, "warn")],
)
def test_as_many_hits_of_noise_as_there_must_be(seen, expected):
    found = verdict("hits of noise", [{}], read(seen, 100.0))
    assert found.verdict == expected
    assert (found.value > 1e-3) == (expected == "ok")
    if seen == 400:
        assert found.value < 1e-12
    if seen == 100:
        assert found.value > 0.5


def test_charge_that_is_not_in_the_voxels_is_bad():
    rows = read(100, 100.0)
    assert verdict("charge in the read-out", [{}], rows).verdict == "ok"
    rows[3] |= {"sampled": 999}
    found = verdict("charge in the read-out", [{}], rows)
    assert found.verdict == "bad"
    assert found.details == ("T3, 1000, 999",)


@pytest.mark.parametrize(("beyond", "expected"), [(0, "ok"), (95, "ok"), (105, "warn")])
def test_a_tenth_of_the_charge_may_arrive_beyond_the_map(beyond, expected):
    rows = [row | {"beyond": beyond} for row in read(100, 100.0)]
    assert verdict("map of the anode", [{}], rows).verdict == expected


def test_tracks_without_charge_are_told(tmp_path):
    from dataclasses import replace

    from firstlight.detectors.lartpc.reading.tracks import save
    from firstlight.detectors.lartpc.simulation.generate import simulate_tracks
    from firstlight.face import process

    folder = tmp_path / "electrons" / "E0000500"
    for number, track in enumerate(simulate_tracks("electron", 500.0, 2, seed=1)):
        charges = track.num_e if number else track.num_e * 0
        save(replace(track, num_e=charges), folder / f"TrackE0000500_D20250101_T000000000{number}")
    run = process(folder, tmp_path / "run", plots=False, quiet=True)
    found = {check["name"]: check for check in run.record["checks"]}
    assert found["tracks without charge"]["verdict"] == "warn"
    assert found["tracks without charge"]["details"] == ["TrackE0000500_D20250101_T0000000000"]
    assert run["readout/tracks"].to_polars().height == 1


def test_an_unknown_readout_is_told_before_anything_is_read(tmp_path, tree):
    from firstlight.errors import UsageError
    from firstlight.face import process

    with pytest.raises(UsageError, match="unknown read-out 'GAMPix'"):
        process(
            tree.folders[0], tmp_path / "run", configuration={"readout": {"design": "GAMPix"}}, quiet=True
        )
