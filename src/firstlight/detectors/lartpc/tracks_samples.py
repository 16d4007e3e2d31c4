"""Samples of a read-out under the names of the original."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from firstlight.detectors.lartpc.readout.hits import Hits
    from firstlight.detectors.lartpc.readout.read import Readout
    from firstlight.detectors.lartpc.readout.wires import WirePlane

__all__ = ["samples_of"]


def samples_of(read: Readout, *, stats: bool = False) -> dict[str, dict[str, Any]]:
    """Return the samples of a read-out by the attribute of `Tracks` under which they stand.

    Parameters
    ----------
    read : Readout
        What was read.
    stats : bool
        Add the number of triggered samples.
    """
    found: dict[str, dict[str, Any]] = {}
    if read.hits is not None:
        found["pixel_samples"] = _pixels(read.hits, stats=stats)
    if read.wires is not None:
        found["coarse_grids_samples"] = _grids(read)
    if read.tiles is not None:
        found["coarse_tiles_samples"] = _pixels(read.tiles, stats=stats)
    if read.anode is not None:
        found["anode_grid_samples"] = _wires(read.anode)
    return found


def _pixels(hits: Hits, *, stats: bool) -> dict[str, Any]:
    over, charged = hits.triggered, hits.charge_true > 0
    x, y, z = hits.positions[:, over]
    samples: dict[str, Any] = {
        "samples_triggered": hits.charge[over],
        "r_triggered": hits.positions[:, over],
        "samples_raw": hits.charge_true[charged],
        "r_raw": hits.positions[:, charged],
        "x": x,
        "y": y,
        "z": z,
        "charge": hits.charge[over],
        "z_edges": _edges(hits.positions[2], hits.pitch[2]),
    }
    if stats:
        samples["num_pixels_triggered"] = int(np.unique(hits.index[:2, over], axis=1).shape[1])
    return samples


def _edges(centres: Any, pitch: float) -> Any:
    if centres.size == 0:
        return np.zeros(0)
    number = round((centres.max() - centres.min()) / pitch) + 1
    return centres.min() - 0.5 * pitch + pitch * np.arange(number + 1)


def _wires(plane: WirePlane) -> dict[str, Any]:
    over = plane.triggered
    return {
        "samples_raw": plane.charge_true,
        "samples_noisy": plane.charge,
        "samples_triggered": plane.charge[over],
        "where": {
            "centers": plane.positions,
            "indices": plane.index,
            "triggered_centers": plane.positions[:, over],
            "triggered_indices": plane.index[:, over],
        },
    }


def _grids(read: Readout) -> dict[str, Any]:
    wires = read.wires
    if wires is None:
        return {}
    planes = (wires.x, wires.y)
    pitch = planes[0].pitch[1]
    middle = _slice_zero(planes)
    slices = np.arange(wires.first_slice, wires.last_slice + 1)
    return {
        "samples_raw": [plane.charge_true for plane in planes],
        "samples_noisy": [plane.charge for plane in planes],
        "samples_triggered": [plane.charge[plane.triggered] for plane in planes],
        "where": {
            "locations": [list(plane.positions) for plane in planes],
            "indices": [list(plane.index) for plane in planes],
            "triggered_locations": [list(plane.positions[:, plane.triggered]) for plane in planes],
            "triggered_indices": [list(plane.index[:, plane.triggered]) for plane in planes],
        },
        "voxel_trigger": {
            "trigger": wires.cubes,
            "z_centers_span": middle + pitch * slices,
            "z_edges_span": middle + pitch * (np.append(slices, wires.last_slice + 1) - 0.5),
        },
    }


def _slice_zero(planes: tuple[WirePlane, WirePlane]) -> float:
    """Return the middle of slice 0 in z [m]."""
    for plane in planes:
        if len(plane):
            return float(plane.positions[1, 0] - plane.index[1, 0] * plane.pitch[1])
    return 0.0
