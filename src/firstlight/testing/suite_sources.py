"""Conformance of what reads: the detector is found, its sources take, describe and read its files."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from firstlight.data.schema import Span, Table
from firstlight.detector import Source, get_detector, recognise
from firstlight.errors import FirstlightError, InputError, SchemaError
from firstlight.testing.equality import frame_difference
from firstlight.testing.workbench import event_tables

if TYPE_CHECKING:
    from pathlib import Path

    from firstlight.testing.workbench import Workbench

__all__ = ["SourceTests"]

HEAVY = ("awkward", "matplotlib", "numba", "plotly", "polars", "scipy", "uproot")
_LIGHT = """
import json, sys
before = set(sys.modules)
from firstlight.detector import get_detector
get_detector({name!r})
print(json.dumps(sorted({{name.split(".")[0] for name in set(sys.modules) - before}} & set({heavy!r}))))
"""


class SourceTests:
    """Tests of the detector as a value, and of its sources."""

    bench: Workbench
    detector_name: str
    truncation_shows: bool

    def test_every_part_loads(self) -> None:
        """The detector is found by name, and all its parts can be imported."""
        detector = get_detector(self.detector_name)
        assert detector.name == self.detector_name, (
            f"Detector(name={detector.name!r}) is registered as {self.detector_name!r}: use one name"
        )
        assert detector.title.strip(), "Detector.title is empty: say in one line what the detector is"
        assert detector.maturity in ("new", "tried", "proven"), f"unknown maturity {detector.maturity!r}"
        words = {"name", "title", "maturity", "documentation"}
        for part in fields(detector):
            if part.name not in words:
                detector.load(part.name)
        for source in detector.load("sources"):
            members = [*Source.__annotations__, "sniff", "describe", "read"]
            missing = [name for name in members if not hasattr(source, name)]
            assert not missing, (
                f"source {source!r} lacks {', '.join(missing)}: see firstlight.detector.Source"
            )
        assert detector.load("chain"), "Detector.chain is empty: nothing would be made of the files"

    def test_import_is_light(self) -> None:
        """Importing the detector imports nothing heavy: `firstlight --help` stays fast."""
        code = _LIGHT.format(name=self.detector_name, heavy=HEAVY)
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert found.returncode == 0, f"the detector cannot be imported in a fresh process:\n{found.stderr}"
        heavy = json.loads(found.stdout)
        assert not heavy, (
            f"importing the detector imports {', '.join(heavy)}: give the parts as 'module:attribute', and let "
            "the __init__.py of the package import nothing but firstlight.detector"
        )

    def test_sniff_takes_own_files(self) -> None:
        """Every file of `make_files` is taken by a source of the detector, and found by its ending."""
        detector = self.bench.detector
        for path in self.bench.files:
            assert detector.source_for(path) is not None, f"sniff() refuses {path.name}, a file of its own"
            assert path.is_dir() or path.name.endswith(detector.suffixes), (
                f"{path.name} ends in none of {detector.suffixes}: it would not be found in a folder"
            )
        found = recognise(self.bench.files)
        assert list(found) == [self.detector_name], (
            f"`firstlight process` would take the files for those of {', '.join(found) or 'nobody'}: "
            "let sniff() look at what only this format has"
        )

    def test_sniff_refuses_other_files(self, tmp_path: Path) -> None:
        """Nothing else is taken for a file of the detector, and `sniff` never raises."""
        ending = next(iter(self.bench.detector.suffixes), "")
        empty, text, noise = (tmp_path / f"{name}{ending}" for name in ("empty", "text", "noise"))
        empty.touch()
        text.write_text("This is a letter to the editor,\nnot a data file.\n")
        noise.write_bytes(random.Random(1).randbytes(5000))  # noqa: S311
        (tmp_path / f"folder{ending}").mkdir()
        others = [empty, text, noise, tmp_path / f"folder{ending}", tmp_path / f"missing{ending}"]
        for source in self.bench.sources.values():
            for path in [*others, *self.bench.foreign]:
                try:
                    taken = source.sniff(path)
                except Exception as error:  # noqa: BLE001  (that it raises is what is tested)
                    pytest.fail(
                        f"sniff() of source {source.name} raises on {path.name}: {error!r}; return False"
                    )
                assert taken is False, (
                    f"source {source.name} takes {path.name} for its own: sniff() must be False"
                )

    def test_describe_agrees_with_read(self) -> None:
        """What `describe` promises is what `read` yields."""
        for path in self.bench.files:
            source = self.bench.source_of(path)
            found = source.describe(path)
            assert found.path == str(path), f"Description.path is {found.path!r}, not the path that was given"
            assert found.source == source.name, f"Description.source is {found.source!r}, not {source.name!r}"
            conditions = next((hit for pattern in source.patterns if (hit := pattern.match(path.name))), {})
            assert dict(found.conditions) == conditions, (
                f"Description.conditions are {found.conditions}, the name {path.name} says {conditions}"
            )
            for table, columns in found.tables.items():
                assert table in source.schemas, f"describe() names the table {table!r}, which has no schema"
                unknown = [name for name in columns if name not in source.schemas[table].names]
                assert not unknown, f"describe() names columns of {table} that its schema lacks: {unknown}"
            chunks = self.bench.chunks(path)
            assert chunks, f"read() yields no chunk of {path.name}: yield one even where there are no events"
            ends = [(chunk.span.start, chunk.span.stop) for chunk in chunks]
            tiled = all(one[1] == other[0] for one, other in pairwise(ends))
            assert tiled, f"the spans of the chunks leave gaps or overlap: {ends[:8]}"
            assert (ends[0][0], ends[-1][1]) == (0, found.n_events), (
                f"describe() says {found.n_events} events, read() yields {ends[0][0]} to {ends[-1][1]}"
            )
            for table, columns in found.tables.items():
                for chunk in chunks:
                    assert table in chunk.parts, f"describe() names {table!r}, read() does not yield it"
                    got = set(chunk.table(table).frame.columns)
                    assert got == set(columns), f"{table}: asked for {sorted(columns)}, got {sorted(got)}"

    def test_chunks_fit_their_schema(self) -> None:
        """Types, nulls and ranges of every chunk are those of the schema; hits belong to events of the chunk."""
        for path in self.bench.files:
            for chunk in self.bench.chunks(path, chunk_events=self._a_third(path)):
                size = chunk.span.stop - chunk.span.start
                for name, part in chunk.parts.items():
                    if isinstance(part, Table):
                        part.schema.validate(part.frame, path)
                        assert part.schema.name == name, f"table {name!r} has the schema {part.schema.name!r}"
                if "events" in chunk.parts:
                    rows = len(chunk.table("events"))
                    assert rows == size, f"chunk {chunk.span} has {size} events and {rows} rows of events"
                for name, table in event_tables(chunk).items():
                    if "channel" in table and len(table):
                        largest, n_channels = table.array("channel").max(), len(self.bench.plan.channels)
                        assert largest < n_channels, (
                            f"{name} has channel {largest}, the map has {n_channels}: -1 is for no channel"
                        )
                    if name == "hits" and "n_hits" in chunk.table("events"):
                        n_hits = np.bincount(table.array("event"), minlength=size)
                        assert (chunk.table("events").array("n_hits") == n_hits).all(), (
                            "events.n_hits must be the number of rows that each event has in hits"
                        )
                    event = table.array("event")
                    inside = event.size == 0 or (event.min() >= 0 and event.max() < size)
                    assert inside, f"{name}.event must count from the start of the chunk: 0 to {size - 1}"
                    assert (event[1:] >= event[:-1]).all(), f"{name} must be ordered by event"

    def test_projection(self) -> None:
        """A column is the same whether it is read alone or with others."""
        path = self.bench.files[0]
        whole = self.bench.chunks(path)[0]
        for table, columns in self.bench.descriptions[0].tables.items():
            for column in columns:
                alone = self.bench.chunks(path, {table: (column,)})[0].table(table).frame
                what = frame_difference(alone, whole.table(table).frame.select(column))
                assert not what, (
                    f"{table}.{column} read alone differs from {table}.{column} read with all: {what}"
                )

    def test_unknown_column(self) -> None:
        """An unknown column is refused with the list of columns."""
        path = self.bench.files[0]
        for table in self.bench.descriptions[0].tables:
            known: list[str] | None = None
            try:
                self.bench.chunks(path, {table: ("no_such_column",)})
            except SchemaError as error:
                known = error.known
            assert known, (
                f"read() must refuse the column {table}.no_such_column with a SchemaError that lists the columns: "
                "call schemas[table].column(name) for every name that is asked for"
            )

    def test_spoilt_files_are_refused(self, tmp_path: Path) -> None:
        """An empty file and a file that was cut off give an `InputError` with path and reason.

        Of a folder an empty one; what is wrong with single files in it is the detector's own business.
        """
        path = self.bench.files[0]
        if path.is_dir():
            empty = tmp_path / "empty" / path.name
            empty.mkdir(parents=True)
            error = self._error_of(path, empty, "an empty folder")
            assert error is not None, "an empty folder is read without an error"
            assert path.name in (error.where or ""), "the InputError for an empty folder does not name it"
            return
        content = path.read_bytes()
        for share in (0.0, 0.5, 0.9):
            spoilt = tmp_path / f"{share:.0%}" / path.name
            spoilt.parent.mkdir()
            spoilt.write_bytes(content[: int(share * len(content))])
            what = f"the first {share:.0%} of {path.name}" if share else "an empty file"
            error = self._error_of(path, spoilt, what)
            if error is None:
                hidden = share > 0 and not self.truncation_shows
                assert hidden, (
                    f"{what} is read without an error: data are lost silently. Compare with a size, a count or an "
                    "end mark; only if the format has none, set truncation_shows = False and say so in its docs"
                )
                continue
            assert path.name in (error.where or ""), (
                f"the InputError for {what} does not name the file: raise InputError(reason, where=path)"
            )
            assert len(error.what) > 8, f"the InputError for {what} gives no reason: {error.what!r}"

    def test_missing_file_is_refused(self, tmp_path: Path) -> None:
        """A file that is not there gives an `InputError`, too."""
        for source in self.bench.sources.values():
            with pytest.raises(InputError):
                source.describe(tmp_path / f"missing{next(iter(source.suffixes), '')}")

    def _error_of(self, own: Path, spoilt: Path, what: str) -> InputError | None:
        source = self.bench.source_of(own)
        try:
            found = source.describe(spoilt)
            span = Span(str(spoilt), 0, 0, found.n_events)
            for _ in source.read(span, found.tables, self.bench.plan.channels):
                pass
        except InputError as error:
            return error
        except FirstlightError as error:
            pytest.fail(f"{what} gives {type(error).__name__} ({error}): raise InputError")
        except Exception as error:  # noqa: BLE001  (that it is no InputError is what is tested)
            pytest.fail(f"{what} gives {error!r}: catch it where it comes from, and raise InputError")
        return None

    def _a_third(self, path: Path) -> int:
        return max(self.bench.source_of(path).describe(path).n_events // 3, 1)


def tell(values: Any) -> str:
    """Return some differences as lines."""
    return "\n  ".join(["", *values])
