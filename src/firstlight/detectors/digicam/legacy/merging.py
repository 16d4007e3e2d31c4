"""Histograms of several files or runs added up."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.data.cube import HistogramCube
from firstlight.detectors.digicam.legacy import histograms
from firstlight.detectors.digicam.legacy.npz import NpzFile, Rows, write_npz
from firstlight.errors import InputError, SchemaError, UsageError
from firstlight.files import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["kind_of_input", "merge_cubes", "merge_npz"]

_KEYS = {"adcs": 0, "mpes": 1, "full_mpe": 0, "peaks": 0}  # with the axis of pixels
_BEYOND = ("mpes_underflow", "mpes_overflow")


def kind_of_input(path: Path) -> str:
    """Return what a path is: ``"run"``, ``"npz"`` or ``"cube"``.

    Raises
    ------
    InputError
        If it is nothing that can be added up.
    """
    if (path / "run.json").is_file() or path.name == "run.json":
        return "run"
    if path.suffix == ".npz":
        return "npz"
    if path.suffix in (".h5", ".hdf5"):
        return "cube"
    what = "this is no run directory, no histogram file (.npz) and no cube (.h5)"
    raise InputError(what, where=path)


def merge_npz(paths: Sequence[Path], output: Path) -> tuple[str, float]:
    """Add up histogram files of the original's layout.

    Parameters
    ----------
    paths : sequence of Path
        Files with the same array, bins and levels.
    output : Path
        The sum.

    Returns
    -------
    key : str
        Name of the array.
    total : float
        Sum of its entries.

    Raises
    ------
    InputError
        If one is no such file, is of another camera, or has other bins or levels than the first.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(NpzFile(path, "histogram file")) for path in paths]
        key = _key_of(files[0])
        for file in files:
            file.require(key)
            histograms.check_camera(file.shape(key), _KEYS[key], None, key, file.path)
        for name in (f"{key}_bin_centers", "mpes_levels"):
            _check_same(files, name, key)
        total = [0.0]

        def rows() -> Iterator[NDArray[np.float64]]:
            for parts in zip(*(file.rows(key) for file in files), strict=True):
                added = np.asarray(np.sum(parts, axis=0, dtype=np.float64))
                total[0] += float(added.sum())
                yield added

        arrays: dict[str, Any] = {key: Rows(files[0].shape(key), np.float64, rows())}
        for name in files[0].keys:
            if name in _BEYOND:
                if all(name in file for file in files):
                    arrays[name] = np.sum([file.array(name) for file in files], axis=0)
            elif name != key:
                arrays[name] = files[0].array(name)
        write_npz(output, arrays)
    return key, total[0]


def _key_of(file: NpzFile) -> str:
    found = next((key for key in _KEYS if key in file), None)
    if found is None:
        what = f"this is no histogram file: it has none of the arrays {', '.join(_KEYS)}"
        raise InputError(what, where=file.path, known=file.keys)
    return found


def _check_same(files: Sequence[NpzFile], name: str, key: str) -> None:
    """Refuse files that have other bins or levels than the first."""
    first = files[0].array(name) if name in files[0] else None
    for file in files[1:]:
        other = file.array(name) if name in file else None
        shapes = [one.shape(key) for one in (files[0], file)]
        if shapes[0] != shapes[1]:
            what = f"{key} has the shape {shapes[1]}, that of {files[0].path.name} has {shapes[0]}"
            raise InputError(
                what, where=file.path, hint="only histograms of the same bins and levels are added up"
            )
        if first is not None and other is not None and not np.array_equal(first, other):
            kind = "levels" if name == "mpes_levels" else "bins"
            what = f"the {kind} are not those of {files[0].path.name}: {_ends(other)} and {_ends(first)}"
            raise InputError(what, where=file.path, hint="merge the run directories instead")


def _ends(values: NDArray[Any]) -> str:
    return f"{values[0]:g} to {values[-1]:g}" if values.size else "none"


def merge_cubes(paths: Sequence[Path], output: Path) -> HistogramCube:
    """Add up histogram cubes of runs, which are HDF5 files in the UHI layout.

    Parameters
    ----------
    paths : sequence of Path
        Files of products: ``RUN/products/samples/dark.h5``.
    output : Path
        The sum, in the same layout.

    Raises
    ------
    InputError
        If one is no histogram, or has other axes than the first.
    UsageError
        If the output is one of them.
    """
    import h5py
    import uhi.io.hdf5

    if output in paths:
        what = "the output is one of the inputs"
        raise UsageError(what, where=output)
    total: HistogramCube | None = None
    for path in paths:
        cube = _read_cube(path)
        if total is None:
            total = cube
            continue
        try:
            total = total + cube
        except SchemaError as error:
            axes = [
                ", ".join(f"{axis.name} ({axis.bins} bins)" for axis in one.axes) for one in (cube, total)
            ]
            what = f"the axes are not those of {paths[0].name}: {axes[0]} here, {axes[1]} there"
            raise InputError(what, where=path) from error
    if total is None:
        what = "nothing to add up"
        raise UsageError(what)
    with atomic(output) as temporary, h5py.File(temporary, "w") as file:
        uhi.io.hdf5.write(file.create_group("histogram"), total.to_uhi(), compression_opts=1)  # type: ignore[arg-type]
    return total


def _read_cube(path: Path) -> HistogramCube:
    import h5py
    import uhi.io.hdf5

    try:
        with h5py.File(path) as file:
            if "histogram" not in file:
                what = "this HDF5 file has no group 'histogram': it is no cube of a run"
                raise InputError(what, where=path, known=list(file))
            return HistogramCube.from_uhi(dict(uhi.io.hdf5.read(file["histogram"])))
    except (OSError, KeyError, ValueError) as error:
        what = f"the cube cannot be read: {error}"
        raise InputError(what, where=path) from error
