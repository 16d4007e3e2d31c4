"""Whether two runs have the same products."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.data.cube import HistogramCube
from firstlight.data.schema import Block, Table
from firstlight.run.store import Run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

    from firstlight.steps.step import Product

__all__ = ["assert_products_equal", "differences", "product_difference", "products_equal", "sorted_rows"]


def products_equal(one: Run | Path | str, other: Run | Path | str, *, tolerance: float = 0.0) -> bool:
    """Return whether two runs have the same products with the same values.

    Parameters
    ----------
    one, other : Run, Path or str
        Runs, or their directories.
    tolerance : float
        Relative, for floating-point numbers; 0 means bit for bit. NaN equals NaN, null equals null.
    """
    return not differences(one, other, tolerance=tolerance)


def assert_products_equal(
    one: Run | Path | str, other: Run | Path | str, *, tolerance: float = 0.0, message: str = ""
) -> None:
    """Fail with a list of all differences if two runs do not have the same products.

    Parameters
    ----------
    one, other, tolerance
        As of `products_equal`.
    message : str
        Put before the list.

    Raises
    ------
    AssertionError
        Naming every product that differs, with the first place where it does.
    """
    found = differences(one, other, tolerance=tolerance)
    if found:
        raise AssertionError("\n  ".join([message or "the products of two runs differ:", *found]))


def differences(
    one: Run | Path | str | Mapping[str, Product],
    other: Run | Path | str | Mapping[str, Product],
    *,
    tolerance: float = 0.0,
) -> list[str]:
    """Return a line for each product that two runs do not have in common.

    Parameters
    ----------
    one, other : Run, Path, str or mapping of str to product
        Runs, their directories, or products by name.
    tolerance : float
        As of `products_equal`.
    """
    left, right = _products(one), _products(other)
    found = [f"{name}: only in the first" for name in left if name not in right]
    found += [f"{name}: only in the second" for name in right if name not in left]
    for name in left:
        if name in right:
            what = product_difference(left[name], right[name], tolerance=tolerance)
            if what:
                found.append(f"{name}: {what}")
    return found


def _products(given: Run | Path | str | Mapping[str, Product]) -> dict[str, Any]:
    if isinstance(given, Run):
        return {name: product.value for name, product in given.items()}
    if isinstance(given, dict):
        return given
    return _products(Run.open(given))  # type: ignore[arg-type]


def product_difference(one: Product, other: Product, *, tolerance: float = 0.0) -> str:
    """Return in what two products differ, empty where they are equal."""
    if type(one) is not type(other):
        return f"{type(one).__name__} and {type(other).__name__}"
    if isinstance(one, Table) and isinstance(other, Table):
        return frame_difference(one.frame, other.frame, tolerance=tolerance)
    if isinstance(one, HistogramCube) and isinstance(other, HistogramCube):
        if one.axes != other.axes:
            return f"axes {one.axes} and {other.axes}"
        return _array_difference(one.counts, other.counts, tolerance)
    if isinstance(one, Block) and isinstance(other, Block):
        if one.axes != other.axes:
            return f"axes {one.axes} and {other.axes}"
        for axis in {**one.coordinates, **other.coordinates}:
            labels = [[str(value) for value in block.coordinates.get(axis, ())] for block in (one, other)]
            if labels[0] != labels[1]:
                return f"coordinates of {axis}: {labels[0]} and {labels[1]}"
        return _array_difference(one.values, other.values, tolerance)
    return f"{type(one).__name__} is no product"


def frame_difference(one: pl.DataFrame, other: pl.DataFrame, *, tolerance: float = 0.0) -> str:
    """Return in what two frames differ, empty where they are equal."""
    if one.schema != other.schema:
        return f"columns {dict(one.schema)} and {dict(other.schema)}"
    if one.height != other.height:
        return f"{one.height} and {other.height} rows"
    for name in one.columns:
        left, right = one[name], other[name]
        same = left.equals(right, null_equal=True)
        if not same and left.dtype.is_float() and left.is_null().equals(right.is_null()):
            same = not _array_difference(left.to_numpy(), right.to_numpy(), tolerance)
        if not same:
            row = next(index for index, pair in enumerate(zip(left, right, strict=True)) if _differ(*pair))
            return f"column {name!r}, row {row}: {left[row]!r} and {right[row]!r}"
    return ""


def _differ(one: Any, other: Any) -> bool:
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return not both_nan and bool(one != other)


def _array_difference(one: NDArray[Any], other: NDArray[Any], tolerance: float) -> str:
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{one.dtype}{list(one.shape)} and {other.dtype}{list(other.shape)}"
    if one.dtype.kind in "fc":
        same = np.isclose(one, other, rtol=tolerance, atol=0.0, equal_nan=True)
    else:
        same = one == other
    if np.all(same):
        return ""
    place = tuple(int(index) for index in np.argwhere(~same)[0])
    return f"at {list(place)}: {one[place]} and {other[place]} ({np.count_nonzero(~same)} entries in all)"


def sorted_rows(product: Product) -> Product:
    """Return a table with its rows sorted by all their values; anything else as it is."""
    if isinstance(product, Table):
        return Table(product.frame.sort(product.frame.columns, nulls_last=True), product.schema)
    return product
