"""Reads threshold scans: a folder of frames is one input, a threshold is one of its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from firstlight.data.schema import Block, Chunk, Column, Span, Table, TableSchema
from firstlight.detector import Description
from firstlight.detectors.velo.noise_scan import NoiseScans
from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap
    from firstlight.data.patterns import FilePattern
    from firstlight.detectors.velo.frames import FrameList, FrameRecord

__all__ = ["FRAMES", "SOURCES", "ScanFolders"]

FRAMES = TableSchema(
    "frames",
    (
        Column("file", pl.String, "name of the file"),
        Column("threshold", pl.Int32, "threshold", "DAC"),
        Column("acquisition", pl.Int32, "number of the acquisition", minimum=0),
        Column("shutter_time", pl.Float64, "time for which the shutter was open", "s", minimum=0),
        Column("size", pl.Int64, "size of the file", "bytes", minimum=0),
        Column("status", pl.String, "read, or what is wrong with the file"),
        Column("reason", pl.String, "what is wrong, with line and column"),
        Column("digest", pl.String, "first 24 digits of the SHA-256 of the file"),
    ),
    "one frame: the hits of all pixels in one acquisition",
)


@dataclass(frozen=True)
class ScanFolders:
    """A folder with one CSV file for each threshold and acquisition."""

    name: str = "scan"
    title: str = "folders of VeloPix frames (CSV, a file per threshold and acquisition)"
    version: int = 1
    suffixes: tuple[str, ...] = ()
    patterns: tuple[FilePattern, ...] = ()
    # a threshold of 100 acquisitions is 13 MB of text and 6.5 MB in memory
    span_events: int | None = 16
    folders: bool = True
    blocks: tuple[str, ...] = ("images",)
    schemas: Mapping[str, TableSchema] = field(default_factory=lambda: {"frames": FRAMES})

    def sniff(self, path: Path) -> bool:
        """Return whether a folder holds frames."""
        from firstlight.detectors.velo.frames import has_frames

        return has_frames(path)

    def describe(self, path: Path) -> Description:
        """Return which thresholds, acquisitions and chips a folder holds.

        Raises
        ------
        InputError
            If it holds no frame.
        """
        frames = _frames_of(path)
        thresholds = np.unique(frames.threshold)
        shutters = sorted({f"{value:g} s" for value in np.unique(frames.shutter)})
        facts = {
            "chips": tuple(sorted(set(frames.prefixes))),
            "thresholds": f"{thresholds[0]} to {thresholds[-1]} DAC in {thresholds.size} steps",
            "acquisitions": int(frames.acquisition.max()) + 1,
            "frames": len(frames),
            "shutter": ", ".join(shutters),
        }
        tables = {"frames": tuple(FRAMES.names)}
        return Description(
            str(path),
            self.name,
            "threshold scan",
            int(thresholds.size),
            tables,
            facts,
            {},
            tuple(frames.notes),
        )

    def read(
        self,
        span: Span,
        columns: Mapping[str, tuple[str, ...]],
        channels: ChannelMap,
        *,
        chunk_events: int | None = None,
    ) -> Iterator[Chunk]:
        """Yield the frames of thresholds `span.start` to `span.stop`, all acquisitions of a threshold together.

        Parameters
        ----------
        span : Span
            Counted in thresholds of the folder, in rising order.
        columns : mapping
            Columns of ``frames``; ``images`` asks for the block of frames, of shape (n_frames, 65536).
        channels : ChannelMap
            Its name is the chip whose frames are read.
        chunk_events : int, optional
            Thresholds in a chunk; one by default.
        """
        from firstlight.detectors.velo.frames import read_frames

        for name in columns.get("frames", ()):
            FRAMES.column(name)
        frames = _frames_of(Path(span.path))
        thresholds = np.unique(frames.threshold)
        # frames of other chips may be in the same folder
        own = frames.prefix == channels.name
        step = chunk_events or 1
        for start in range(span.start, max(span.stop, span.start + 1), step):
            stop = min(start + step, span.stop)
            wanted = np.flatnonzero(own & np.isin(frames.threshold, thresholds[start:stop]))
            wanted = wanted[np.lexsort((frames.acquisition[wanted], frames.threshold[wanted]))]
            images, records = read_frames([Path(span.path) / frames.names[index] for index in wanted])
            parts: dict[str, Table | Block] = {}
            if "frames" in columns:
                whole = _table(frames, wanted, records)
                parts["frames"] = Table(whole.frame.select(columns["frames"]), FRAMES)
            if "images" in columns:
                parts["images"] = Block(images, ("frame", "pixel"), "hits", "hits of each pixel")
            yield Chunk(Span(span.path, span.index, start, stop), parts)


def _frames_of(path: Path) -> FrameList:
    from firstlight.detectors.velo.frames import list_frames

    frames = list_frames(path)
    if len(frames) == 0:
        what = "the folder holds no frame of a threshold scan"
        hint = "frames are called Module0_VP3-1_ECS_data_ST_2s621ms_THR_1494_18.csv"
        raise InputError(what, where=path, hint=hint)
    return frames


def _table(frames: FrameList, wanted: NDArray[np.int64], records: Sequence[FrameRecord]) -> Table:
    """Return what is known of some frames."""
    status = [record.status for record in records]
    reason = [record.reason for record in records]
    for place, index in enumerate(wanted):
        if frames.repeated[index] and status[place] == "read":
            status[place] = "repeated"
            reason[place] = "a file before has the same chip, threshold, acquisition and open time"
    columns = {
        "file": frames.names[wanted],
        "threshold": frames.threshold[wanted],
        "acquisition": frames.acquisition[wanted],
        "shutter_time": frames.shutter[wanted],
        "size": [record.size for record in records],
        "status": status,
        "reason": reason,
        "digest": [record.digest for record in records],
    }
    return Table.from_arrays(FRAMES, columns)  # type: ignore[arg-type]


SOURCES = (ScanFolders(), NoiseScans())
