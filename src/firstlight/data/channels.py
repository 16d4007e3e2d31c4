"""Channel maps: one row per read-out channel, and how to draw it.

Axis 0 of every per-channel array in the package is the channel, so that maps, distributions, outliers,
trends and exports are written once for drift-chamber wires, pixels and photo-sensors alike.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from firstlight.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["ChannelMap", "Layout"]

Layout = Literal["grid", "hexagons", "strips", "planes"]

_REQUIRED: dict[str, tuple[str, ...]] = {
    "grid": ("row", "col"),
    "hexagons": ("x", "y"),
    "strips": ("position",),
    "planes": ("group", "position"),
}


@dataclass(frozen=True)
class ChannelMap:
    """All read-out channels of a detector.

    Parameters
    ----------
    name : str
        Name of the detector or chip.
    version : str
        Which geometry or cabling.
    frame : polars.DataFrame
        A row per channel. ``channel`` counts 0, 1, 2 ... without gaps. A layout needs its columns:
        ``grid`` has ``row`` and ``col``; ``hexagons`` has ``x`` and ``y``; ``strips`` has ``position``;
        ``planes`` has ``group`` and ``position``. ``optional`` (bool) marks channels that may be absent:
        without hits they are not dead. Other columns are welcome.
    layout : {"grid", "hexagons", "strips", "planes"}
        How to draw it.
    groups : polars.DataFrame, optional
        A row per group of channels (plane, module) in drawing order, with ``group`` and, where planes are
        drawn under headings, ``section``. Made from ``frame`` where not given.
    labels : mapping, optional
        Words for axes: ``{"position": "element", "group": "plane"}``.
    """

    name: str
    version: str
    frame: pl.DataFrame
    layout: Layout
    groups: pl.DataFrame = field(default_factory=pl.DataFrame)
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        place = f"channel map {self.name} {self.version}"
        for column in ("channel", *_REQUIRED[self.layout]):
            if column not in self.frame.columns:
                raise SchemaError.unknown("column", column, self.frame.columns, where=place)
        numbers = self.frame["channel"].to_numpy()
        if not np.array_equal(numbers, np.arange(numbers.size)):
            what = "column 'channel' must count 0, 1, 2 ... without gaps"
            raise SchemaError(what, where=place)
        if self.groups.is_empty() and "group" in self.frame.columns:
            groups = self.frame.select("group").unique(maintain_order=True)
            object.__setattr__(self, "groups", groups)

    def __len__(self) -> int:
        return self.frame.height

    def __repr__(self) -> str:
        groups = f", {self.groups.height} groups" if self.groups.height else ""
        return f"ChannelMap({self.name!r}, version {self.version!r}, {len(self)} channels{groups}, {self.layout})"

    def column(self, name: str) -> NDArray[Any]:
        """Return one column, of shape (n_channels,).

        Raises
        ------
        SchemaError
            If there is none of that name; names its nearest neighbours.
        """
        if name not in self.frame.columns:
            place = f"channel map {self.name} {self.version}"
            raise SchemaError.unknown("column", name, self.frame.columns, where=place)
        return self.frame[name].to_numpy()

    @cached_property
    def digest(self) -> str:
        """Digest of all columns: two maps of one name and version need not be the same."""
        return hashlib.sha256(self.frame.write_csv().encode()).hexdigest()[:24]

    @cached_property
    def optional(self) -> NDArray[np.bool_]:
        """Channels that may be absent, of shape (n_channels,)."""
        if "optional" in self.frame.columns:
            return np.asarray(self.frame["optional"].to_numpy(), dtype=bool)
        return np.zeros(len(self), dtype=bool)

    @cached_property
    def group_names(self) -> list[str]:
        """Names of the groups in the order of their first channel."""
        return [str(name) for name in self.frame["group"].unique(maintain_order=True)]

    @cached_property
    def group_index(self) -> NDArray[np.int64]:
        """For each channel the position of its group in `group_names`, of shape (n_channels,)."""
        order = {name: index for index, name in enumerate(self.group_names)}
        return np.array([order[name] for name in self.frame["group"]], dtype=np.int64)

    @cached_property
    def section_names(self) -> list[str]:
        """Names of the sections (stations, modules) in the order of their first channel; groups where there are none."""
        column = self._section_column
        return [str(name) for name in self.frame[column].unique(maintain_order=True)] if column else []

    @cached_property
    def section_index(self) -> NDArray[np.int64]:
        """For each channel the position of its section in `section_names`, of shape (n_channels,)."""
        order = {name: index for index, name in enumerate(self.section_names)}
        return np.array([order[str(name)] for name in self.frame[self._section_column]], dtype=np.int64)

    @property
    def _section_column(self) -> str:
        return next((name for name in ("section", "group") if name in self.frame.columns), "")

    def channels_of(self, group: str) -> NDArray[np.int64]:
        """Return the channels of a group in order.

        Raises
        ------
        SchemaError
            If there is no such group; names its nearest neighbours.
        """
        if group not in self.group_names:
            place = f"channel map {self.name} {self.version}"
            raise SchemaError.unknown(self.labels.get("group", "group"), group, self.group_names, where=place)
        return np.flatnonzero(self.group_index == self.group_names.index(group))

    def sum_groups(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the sum over the channels of each group.

        Parameters
        ----------
        values : ndarray, shape (n_channels, ...)
            Axis 0 is the channel.

        Returns
        -------
        ndarray, shape (n_groups, ...)
            In the order of `group_names`.
        """
        total = np.zeros((len(self.group_names), *values.shape[1:]), dtype=values.dtype)
        np.add.at(total, self.group_index, values)
        return total

    def table(self, columns: Sequence[str], **values: NDArray[Any]) -> pl.DataFrame:
        """Return some columns of the map beside per-channel values.

        Parameters
        ----------
        columns : sequence of str
            Columns of the map.
        **values : ndarray, shape (n_channels,)
            One new column each.
        """
        for name in columns:
            self.column(name)
        return self.frame.select(columns).with_columns(
            **{key: pl.Series(key, value) for key, value in values.items()}
        )
