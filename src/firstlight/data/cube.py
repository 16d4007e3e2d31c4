"""Histogram cubes: one histogram per channel, dense and mergeable.

A cube is filled by our own kernels, adds up with ``+``, is kept in the UHI layout of HDF5, and becomes a
`hist.Hist` for the user with `HistogramCube.to_hist`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import SchemaError

if TYPE_CHECKING:
    import hist
    from numpy.typing import NDArray

__all__ = ["Axis", "HistogramCube"]


@dataclass(frozen=True)
class Axis:
    """One axis of a cube.

    Parameters
    ----------
    name : str
        ``"channel"``, ``"tdc_time"``.
    bins : int
        Number of bins, without underflow and overflow.
    low, high : float, optional
        Edges of a regular axis. An axis without them counts ``0 .. bins - 1``, as channels do.
    labels : tuple of str
        For an axis of categories the name of each bin.
    unit : str
        Unit of the edges.
    description : str
        Title of the axis in figures.
    """

    name: str
    bins: int
    low: float | None = None
    high: float | None = None
    labels: tuple[str, ...] = ()
    unit: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        if self.bins < 1:
            what = f"axis {self.name!r} has {self.bins} bins"
            raise SchemaError(what)
        if (self.low is None) != (self.high is None) or (self.low is not None and not self.low < self._high):
            what = f"axis {self.name!r} has the edges {self.low} and {self.high}"
            raise SchemaError(what)
        if self.labels and len(self.labels) != self.bins:
            what = f"axis {self.name!r} has {self.bins} bins and {len(self.labels)} labels"
            raise SchemaError(what)

    @property
    def _high(self) -> float:
        return float("nan") if self.high is None else self.high

    @property
    def flow(self) -> bool:
        """Whether the axis has underflow and overflow: regular ones do."""
        return self.low is not None

    @property
    def extent(self) -> int:
        """Number of entries along this axis of the counts."""
        return self.bins + 2 * self.flow

    @property
    def edges(self) -> NDArray[Any]:
        """Bin edges, of shape (bins + 1,)."""
        if self.low is None:
            return np.arange(self.bins + 1) - 0.5
        return np.linspace(self.low, self._high, self.bins + 1)

    @property
    def centers(self) -> NDArray[Any]:
        """Bin centres, of shape (bins,)."""
        edges = self.edges
        return np.asarray(0.5 * (edges[1:] + edges[:-1]))

    @property
    def title(self) -> str:
        """Description with the unit, for figures."""
        text = self.description or self.name.replace("_", " ")
        return f"{text} [{self.unit}]" if self.unit else text

    def to_uhi(self) -> dict[str, Any]:
        """Return the axis as the UHI serialization schema has it."""
        metadata = {"name": self.name, "unit": self.unit, "description": self.description}
        if self.labels:
            return {
                "type": "category_str",
                "categories": list(self.labels),
                "flow": False,
                "metadata": metadata,
            }
        low, high = (0.0, float(self.bins)) if self.low is None else (self.low, self._high)
        if self.low is None:
            metadata["counts"] = "integers"
        return {
            "type": "regular", "lower": low, "upper": high, "bins": self.bins,
            "underflow": self.flow, "overflow": self.flow, "circular": False, "metadata": metadata,
        }  # fmt: skip

    @classmethod
    def from_uhi(cls, content: dict[str, Any]) -> Axis:
        """Return the axis that `to_uhi` wrote."""
        metadata = content.get("metadata", {})
        name, unit, description = (str(metadata.get(key, "")) for key in ("name", "unit", "description"))
        labels: tuple[str, ...] = ()
        low: float | None = None
        high: float | None = None
        if content["type"] == "category_str":
            labels = tuple(_text(label) for label in content["categories"])
        elif metadata.get("counts") != "integers":
            low, high = float(content["lower"]), float(content["upper"])
        bins = len(labels) or int(content["bins"])
        return cls(name, bins, low, high, labels, unit, description)


def _text(label: Any) -> str:
    return label.decode() if isinstance(label, bytes) else str(label)


@dataclass(frozen=True)
class HistogramCube:
    """Counts over some axes, the channel (or plane, or category) first.

    Parameters
    ----------
    axes : tuple of Axis
        In the order of the axes of `counts`.
    counts : ndarray of int64
        With underflow and overflow along regular axes.
    description : str
        What is counted.
    """

    axes: tuple[Axis, ...]
    counts: NDArray[np.int64]
    description: str = ""

    def __post_init__(self) -> None:
        shape = tuple(axis.extent for axis in self.axes)
        if self.counts.shape != shape:
            what = f"counts have the shape {self.counts.shape}, the axes need {shape}"
            raise SchemaError(what, where=f"histogram {[axis.name for axis in self.axes]}")

    @classmethod
    def zeros(cls, *axes: Axis, description: str = "") -> HistogramCube:
        """Return an empty cube.

        Raises
        ------
        SchemaError
            If the cube would need more than 2 GiB; says how much.
        """
        shape = tuple(axis.extent for axis in axes)
        size = 8 * int(np.prod(shape, dtype=np.int64))
        if size > 2**31:
            what = f"a histogram of the shape {shape} needs {size / 2**30:.1f} GiB"
            raise SchemaError(what, hint="fewer bins, or fewer channels at a time")
        return cls(axes, np.zeros(shape, dtype=np.int64), description)

    def __add__(self, other: HistogramCube) -> HistogramCube:
        if self.axes != other.axes:
            what = "histograms with different axes cannot be added"
            raise SchemaError(what, where=f"{self!r} and {other!r}")
        return replace(self, counts=self.counts + other.counts)

    def __repr__(self) -> str:
        axes = " x ".join(f"{axis.name}[{axis.bins}]" for axis in self.axes)
        return f"HistogramCube({axes}, sum {self.total})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{axis.title}</td><td>{axis.bins} bins</td></tr>" for axis in self.axes)
        return f"<table><caption>{self.description} (sum {self.total})</caption>{rows}</table>"

    @property
    def total(self) -> int:
        """Sum of all counts, underflow and overflow included."""
        return int(self.counts.sum())

    @cached_property
    def values(self) -> NDArray[np.int64]:
        """Counts without underflow and overflow."""
        inner = tuple(slice(1, -1) if axis.flow else slice(None) for axis in self.axes)
        return self.counts[inner]

    def axis(self, name: str) -> Axis:
        """Return one axis by name."""
        names = [axis.name for axis in self.axes]
        if name not in names:
            raise SchemaError.unknown("axis", name, names, where=repr(self))
        return self.axes[names.index(name)]

    def fill(self, channel: NDArray[Any], value: NDArray[Any]) -> None:
        """Fill a cube of two axes, channel and a regular one, in place.

        Parameters
        ----------
        channel : ndarray of int, shape (n,)
            Entries along axis 0; negative ones are passed over.
        value : ndarray of float, shape (n,)
            Values along axis 1; NaN is passed over.
        """
        from firstlight.data import kernels

        axis = self.axes[1]
        if len(self.axes) != 2 or axis.low is None or self.axes[0].flow:
            what = "only a cube of a channel axis and a regular axis is filled like this"
            raise SchemaError(what, where=repr(self))
        channel = np.ascontiguousarray(channel, dtype=np.int32)
        if channel.shape != value.shape:
            what = f"{channel.size} channels and {value.size} values"
            raise SchemaError(what, where=repr(self))
        if channel.size and int(channel.max()) >= self.axes[0].bins:
            what = f"channel {int(channel.max())} is beyond the axis of {self.axes[0].bins} channels"
            raise SchemaError(what, where=repr(self))
        kernels.fill_regular(channel, value, axis.low, axis._high, self.counts)

    def project(
        self, groups: NDArray[np.int64], labels: tuple[str, ...], name: str = "group"
    ) -> HistogramCube:
        """Return the cube with axis 0 summed into groups.

        Parameters
        ----------
        groups : ndarray, shape (n_channels,)
            Group of each channel.
        labels : tuple of str
            Name of each group.
        name : str
            Name of the new axis.
        """
        counts = np.zeros((len(labels), *self.counts.shape[1:]), dtype=np.int64)
        np.add.at(counts, groups, self.counts)
        return HistogramCube(
            (Axis(name, len(labels), labels=labels), *self.axes[1:]), counts, self.description
        )

    def to_uhi(self) -> dict[str, Any]:
        """Return the cube as the UHI serialization schema has it."""
        return {
            "uhi_schema": 1,
            "axes": [axis.to_uhi() for axis in self.axes],
            "storage": {"type": "int", "values": self.counts},
            "metadata": {"description": self.description},
        }

    @classmethod
    def from_uhi(cls, content: dict[str, Any]) -> HistogramCube:
        """Return the cube that `to_uhi` wrote."""
        axes = tuple(Axis.from_uhi(axis) for axis in content["axes"])
        counts = np.asarray(content["storage"]["values"], dtype=np.int64)
        return cls(axes, counts, str(content.get("metadata", {}).get("description", "")))

    def to_hist(self) -> hist.Hist[Any]:
        """Return a `hist.Hist` with the same axes and counts."""
        import hist

        axes: list[Any] = []
        for axis in self.axes:
            if axis.labels:
                axes.append(
                    hist.axis.StrCategory(axis.labels, name=axis.name, label=axis.title, overflow=False)
                )
            elif axis.low is None:
                axes.append(hist.axis.Integer(0, axis.bins, name=axis.name, label=axis.title, flow=False))
            else:
                axes.append(
                    hist.axis.Regular(axis.bins, axis.low, axis._high, name=axis.name, label=axis.title)
                )
        result: hist.Hist[Any] = hist.Hist(*axes, storage=hist.storage.Int64())
        result.view(flow=True)[...] = self.counts
        return result
