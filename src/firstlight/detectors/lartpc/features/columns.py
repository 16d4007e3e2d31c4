"""The columns of the tables of features, and rows for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from firstlight.data.schema import Column, TableSchema

if TYPE_CHECKING:
    from firstlight.detectors.lartpc.features.measure import Features
    from firstlight.detectors.lartpc.features.truth import TruthFeatures
    from firstlight.detectors.lartpc.track import Track

__all__ = ["FEATURES", "TRUTH_FEATURES", "feature_row", "truth_row"]

_WHOSE = (
    Column("track", pl.String, "name of the track"),
    Column("particle", pl.String, "electron, positron or photon; empty where nothing says so"),
    Column("energy", pl.Float64, "kinetic energy of the particle", "keV", minimum=0, nullable=True),
)


def _share(name: str, description: str) -> Column:
    return Column(name, pl.Float64, description, minimum=0, maximum=1 + 1e-9, nullable=True)


def _length(name: str, description: str) -> Column:
    return Column(name, pl.Float64, description, "mm", minimum=0, nullable=True)


def _number(name: str, description: str, unit: str = "") -> Column:
    return Column(name, pl.Float64, description, unit, minimum=0, nullable=True)


def _count(name: str, description: str) -> Column:
    return Column(name, pl.Int64, description, minimum=0)


FEATURES = TableSchema(
    "features",
    (
        *_WHOSE,
        _count("n_points", "points, or hits, with charge"),
        Column("charge", pl.Float64, "sum of charge", "electrons", minimum=0),
        _count("n_voxels", "cubes with charge"),
        _length("box", "longest side of the box around all charge"),
        _share("f_main", "share of the charge in the largest cluster"),
        _count("n_satellites", "other clusters with more than 0.2 % of the charge"),
        _share("q_satellites", "share of the charge in those"),
        _share("q_largest", "share of the charge in the largest of those"),
        _share("q_second", "share of the charge in the second largest"),
        _share("q_third", "share of the charge in the third largest"),
        _length("farthest", "distance of the farthest of those from the largest cluster, centre to centre"),
        _share("spread", "1 - length of the mean direction of those: 0 all on one side, 1 all around"),
        _share(
            "q_upstream",
            "share of the charge in the largest of those behind the vertex, as seen from the arms",
        ),
        _share("q_ahead", "share of the charge in clusters ahead of the arms, within 26 degrees"),
        _count("n_ahead", "satellites ahead of the arms, within 45 degrees"),
        _count("n_beside", "satellites neither ahead nor behind"),
        _count("n_behind", "satellites behind the vertex, within 45 degrees"),
        _share("linearity", "(v1 - v2) / v1 of the variances along the axes of the largest cluster"),
        _share("planarity", "(v2 - v3) / v1 of the same"),
        _length("width", "standard deviation of its charge across its first axis"),
        _length("path", "longest way through its spanning tree"),
        _length("straight", "distance of the ends of this path"),
        _number("tortuosity", "path over that distance"),
        _share("branch_charge", "share of its charge off the path"),
        _length("branch_distance", "largest distance of its charge from the path"),
        _count("n_branches", "separate pieces off the path with more than half a per cent of its charge"),
        _number("end_ratio", "charge around one end of the path over that around the other, at least 1"),
        Column("stops", pl.Boolean, "whether that ratio says which end is that of a particle that stopped"),
        _number("start_density", "dQ/dx in the first 4 mm of the path over its median"),
        _number("end_density", "dQ/dx in the last 4 mm of the path over its median"),
        _number("start_turning", "mean change of direction in the first 8 mm of the path", "rad/mm"),
        _number("end_turning", "mean change of direction in the last 8 mm of the path", "rad/mm"),
        _share("vertex_chance", "chance that the vertex is where it was found, by the scores of all points"),
        _length("vertex_from_end", "distance of the vertex from the nearer end, along the path"),
        _number("vertex_density", "charge near the vertex over that of one arm with the median dQ/dx"),
        _share("q_vertex", "share of the charge within 1.5 mm of the vertex, in the largest cluster"),
        _share("q_near", "the same within 8 mm"),
        _share("q_middle", "the same within 16 mm"),
        _share("q_wide", "the same within 32 mm"),
        _share("forward", "length of the mean direction of the charge around the vertex"),
        _share("ray_quality", "part of the spread of directions around the vertex that two rays explain"),
        _share("ray_overlap", "part of the distances from the vertex where the shorter ray is not alone"),
        Column("separable", pl.Boolean, "whether two arms can be told apart around the vertex"),
        Column("opening", pl.Float64, "angle between them", "deg", minimum=0, maximum=180, nullable=True),
        _length(
            "fork", "distance from the vertex at which the tree divides into two arms; none beyond 10 mm"
        ),
        _share("arm_share", "share of the arm with less charge in both, behind that fork"),
        _length("arm_long", "length of the longer arm along the tree"),
        _length("arm_short", "length of the shorter arm along the tree"),
        _share("arm_linearity", "linearity of the less straight arm"),
        _length(
            "parting",
            "distance from the vertex at which the arms part, where they may stay together for 30 mm",
        ),
        _share("q_trunk", "share of the charge before that, and of what is neither arm"),
        _share("q_lesser", "share of the charge in the arm with less, behind it"),
        _share("q_greater", "share of the charge in the arm with more"),
        _length("reach_lesser", "length of the arm with less charge, along the tree from the vertex"),
        _length("reach_greater", "length of the arm with more charge"),
    ),
    "the shape of an event",
)
TRUTH_FEATURES = TableSchema(
    "truth_features",
    (
        *_WHOSE,
        Column("radiated", pl.Float64, "share of the energy in bremsstrahlung photons", minimum=0),
        _count("n_hard", "bremsstrahlung photons above 20 keV"),
        Column("n_deltas", pl.Int64, "delta rays with more than a tenth of the energy", nullable=True),
        _count("n_compton", "Compton scatterings"),
        _count("n_photo", "photoelectric absorptions"),
        Column("first", pl.String, "first interaction of a photon; empty for other particles"),
        _count("n_other_pairs", "pairs beside the first interaction"),
        _share("around", "how evenly secondary photons interacted on all sides of the vertex"),
        _number("positron_energy", "kinetic energy of the positron of the first pair", "keV"),
        _number("electron_energy", "kinetic energy of its electron", "keV"),
        _share("positron_share", "share of the positron in both"),
        _length("shorter_arm", "distance from the vertex that the shorter arm reaches"),
        Column("source", pl.String, "where these are from: recorded, rows, or empty"),
    ),
    "the truth record of an event in the terms of the Quest",
)


def feature_row(features: Features, track: Track) -> dict[str, Any]:
    """Return a row of `FEATURES`."""
    return _whose(track) | features.row()


def truth_row(truth: TruthFeatures, track: Track) -> dict[str, Any]:
    """Return a row of `TRUTH_FEATURES`."""
    return _whose(track) | truth.row()


def _whose(track: Track) -> dict[str, Any]:
    truth = track.truth
    return {
        "track": track.name,
        "particle": truth.particle if truth else "",
        "energy": truth.energy if truth else None,
    }
