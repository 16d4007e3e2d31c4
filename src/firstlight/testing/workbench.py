"""What the tests of the conformance suite share: files, runs, and reading in pieces of any size."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import runpy
import shutil
import sys
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.data.schema import Block, Chunk, Span, Table
from firstlight.data.select import Cut, Selection
from firstlight.detector import Plan, detector_names, get_detector, takes_folders
from firstlight.run.chain import Settings, configuration_of, process
from firstlight.run.config import build
from firstlight.run.execution import Executor
from firstlight.run.progress import silent
from firstlight.run.reading import read_files, served_by, spans_of
from firstlight.run.store import open_run
from firstlight.steps.step import ChunkStep, Context

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.data.channels import ChannelMap
    from firstlight.data.patterns import FilePattern
    from firstlight.data.schema import TableSchema
    from firstlight.detector import Description, Detector, Source
    from firstlight.run.config import StrictModel
    from firstlight.run.store import Run
    from firstlight.steps.step import Product

__all__ = [
    "Divided",
    "Workbench",
    "command_line",
    "copy_input",
    "every_other_event",
    "other_files",
    "simulated",
]


@dataclass(frozen=True)
class Divided:
    """A source that reads in pieces of another size than it would by itself.

    Parameters
    ----------
    source : Source
        What reads.
    chunk_events : int, optional
        Events of a chunk.
    span_events : int, optional
        Events of a span.
    """

    source: Source
    chunk_events: int | None
    span_events: int | None

    @property
    def name(self) -> str:
        """As of the source."""
        return self.source.name

    @property
    def title(self) -> str:
        """As of the source."""
        return self.source.title

    @property
    def version(self) -> int:
        """As of the source."""
        return self.source.version

    @property
    def suffixes(self) -> tuple[str, ...]:
        """As of the source."""
        return self.source.suffixes

    @property
    def patterns(self) -> tuple[FilePattern, ...]:
        """As of the source."""
        return self.source.patterns

    @property
    def schemas(self) -> Mapping[str, TableSchema]:
        """As of the source."""
        return self.source.schemas

    @property
    def blocks(self) -> tuple[str, ...]:
        """As of the source."""
        return tuple(getattr(self.source, "blocks", ()))

    @property
    def folders(self) -> bool:
        """As of the source."""
        return takes_folders(self.source)

    def sniff(self, path: Path) -> bool:
        """Return what the source returns."""
        return self.source.sniff(path)

    def describe(self, path: Path) -> Description:
        """Return what the source returns."""
        return self.source.describe(path)

    def read(
        self,
        span: Span,
        columns: Mapping[str, tuple[str, ...]],
        channels: ChannelMap,
        *,
        chunk_events: int | None = None,
    ) -> Iterator[Chunk]:
        """Yield what the source yields, in chunks of the size of this object."""
        return self.source.read(span, columns, channels, chunk_events=self.chunk_events or chunk_events)


class Workbench:
    """The files of a detector and what is made of them; everything is made when it is first asked for.

    Parameters
    ----------
    name : str
        Name of the detector.
    suite : object
        With `make_files` and `foreign_files`.
    folder : Path
        Where to write.
    """

    def __init__(self, name: str, suite: Any, folder: Path) -> None:
        self.name = name
        self.suite = suite
        self.folder = folder
        self.warnings: list[str] = []

    @cached_property
    def detector(self) -> Detector:
        """The detector."""
        return get_detector(self.name)

    @cached_property
    def files(self) -> list[Path]:
        """Files of its own."""
        files: list[Path] = list(self.suite.make_files(self.new_folder("files")))
        assert len(files) > 1, (
            f"make_files() of {self.name} returned {len(files)} files: return two or more, so that the order of files can be tested"
        )
        return files

    @cached_property
    def foreign(self) -> list[Path]:
        """Files that are not its own."""
        return list(self.suite.foreign_files(self.new_folder("foreign")))

    @cached_property
    def sources(self) -> dict[str, Source]:
        """Its sources by name."""
        return {source.name: source for source in self.detector.load("sources")}

    @cached_property
    def descriptions(self) -> list[Description]:
        """What its sources say of its files."""
        return [self.source_of(path).describe(path) for path in self.files]

    @cached_property
    def plan(self) -> Plan:
        """How its files are read with default options."""
        plan: Plan = self.detector.load("plan")(self.configuration, self.descriptions)
        return plan

    @cached_property
    def configuration(self) -> StrictModel:
        """The default configuration."""
        return build(configuration_of(self.detector), {})

    @cached_property
    def context(self) -> Context:
        """What its steps may know."""
        names = tuple(path.name for path in self.files)
        plan = self.plan
        conditions = tuple(
            {**found.conditions, **plan.conditions.get(found.path, {})} for found in self.descriptions
        )
        return Context(plan.channels, self.configuration, names, bool(plan.selection), conditions)

    @cached_property
    def reference(self) -> Run:
        """The run of all its files, with figures; no test changes it."""
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            run = self.run(plots=True)
        self.warnings = [f"{warning.category.__name__}: {warning.message}" for warning in found]
        return run

    def copied_reference(self) -> Run:
        """Return a copy of the reference that a test may change."""
        folder = self.new_folder("copy")
        shutil.copytree(self.reference.folder, folder, dirs_exist_ok=True)
        return open_run(folder)

    @property
    def chunk_steps(self) -> list[tuple[ChunkStep, StrictModel]]:
        """Its steps that read what its files hold, with default parameters."""
        steps = [
            (step, step.parameters()) for step in self.detector.load("chain") if isinstance(step, ChunkStep)
        ]
        served = {step.name for path in self.files for step, _ in served_by(self.source_of(path), steps)}
        return [(step, own) for step, own in steps if step.name in served]

    def new_folder(self, name: str) -> Path:
        """Return an empty folder."""
        number = len(list(self.folder.glob(f"{name}-*")))
        folder = self.folder / f"{name}-{number}"
        folder.mkdir(parents=True)
        return folder

    def source_of(self, path: Path) -> Source:
        """Return the source that takes a file for its own."""
        source = self.detector.source_for(path)
        assert source is not None, (
            f"no source of {self.name} takes {path.name} for its own: make sniff() return True for the files of make_files()"
        )
        return source

    def run(
        self,
        files: Sequence[Path] | None = None,
        *,
        folder: Path | None = None,
        chunk_events: int | None = None,
        span_events: int | None = None,
        jobs: int = 1,
        plots: bool = False,
        allow_bad: int = 0,
        max_events: int | None = None,
        configuration: Mapping[str, Any] | None = None,
    ) -> Run:
        """Return a run of the chain; the arguments say in which pieces, in how many processes, and where."""
        detector = self.detector
        if chunk_events or span_events:
            sources = tuple(
                Divided(source, chunk_events, span_events or source.span_events)
                for source in self.sources.values()
            )
            detector = replace(detector, sources=sources)
        settings = Settings(Executor(jobs), silent(), allow_bad=allow_bad, plots=plots)
        paths = self.files if files is None else list(files)
        where = folder or self.new_folder("run")
        return process(detector, paths, where, configuration, settings, max_events=max_events)

    def products(
        self,
        steps: Sequence[tuple[ChunkStep, StrictModel]] | None = None,
        *,
        selection: Selection | None = None,
        chunk_events: int | None = None,
    ) -> dict[str, Product]:
        """Return the products of steps that read, made without a run directory."""
        chosen = self.chunk_steps if steps is None else steps
        sources = [self.source_of(path) for path in self.files]
        spans = spans_of(self.files, [found.n_events for found in self.descriptions], sources, None)
        reading = read_files(
            spans, dict(enumerate(sources)), chosen, self.context,
            selection=self.plan.selection if selection is None else selection,
            executor=Executor(), progress=silent(), chunk_events=chunk_events,
        )  # fmt: skip
        names = ", ".join(step.name for step, _ in chosen)
        assert not reading.refused, f"step {names} failed: {reading.refused}"
        return {
            f"{step.name}/{name}": product
            for step, parameters in chosen
            for name, product in step.finish(reading.partials[step.name], parameters, self.context).items()
        }

    def chunks(
        self,
        path: Path,
        columns: Mapping[str, tuple[str, ...]] | None = None,
        chunk_events: int | None = None,
    ) -> list[Chunk]:
        """Return the chunks of a file; all columns of its description by default."""
        source = self.source_of(path)
        found = source.describe(path)
        span = Span(str(path), 0, 0, found.n_events)
        wanted = found.tables if columns is None else columns
        return list(source.read(span, wanted, self.plan.channels, chunk_events=chunk_events))

    def contents(self, path: Path) -> dict[str, Any]:
        """Return all columns that a file holds as one list each, by table and column, and a digest of each entry of its blocks."""
        found: dict[str, list[Any]] = {}
        source = self.source_of(path)
        blocks = dict.fromkeys(getattr(source, "blocks", ()), ())
        for chunk in self.chunks(path, {**blocks, **source.describe(path).tables}):
            for name, part in chunk.parts.items():
                if isinstance(part, Block):
                    digests = [hashlib.sha256(entry.tobytes()).hexdigest() for entry in part.values]
                    found.setdefault(name, []).extend(digests)
                    continue
                for column in part.frame.columns:
                    found.setdefault(f"{name}.{column}", []).extend(part.frame[column].to_list())
        return {name: repr(values) for name, values in found.items()}


def every_other_event(chunk: Chunk) -> NDArray[np.bool_]:
    """Return a mask that keeps events 0, 2, 4 ... of a file, wherever chunks end."""
    number = chunk.span.start + np.arange(len(chunk.table("events")))
    return np.asarray(number % 2 == 0)


def halved(source: Source, found: Description) -> Selection | None:
    """Return a cut that keeps every other event, or None where there is no table of events to cut on."""
    columns = found.tables.get("events", ())
    known = [name for name in columns if name in source.schemas["events"].names] if columns else []
    return Selection((Cut("every other event", "events", every_other_event, (known[0],)),)) if known else None


def event_tables(chunk: Chunk) -> dict[str, Table]:
    """Return the tables of a chunk whose rows belong to events."""
    return {
        name: part
        for name, part in chunk.parts.items()
        if isinstance(part, Table) and name != "events" and "event" in part
    }


def simulated(detector: Detector, folder: Path, seed: int, **size: Any) -> list[Path]:
    """Return files that a detector's simulator wrote; sizes that it does not know are left out."""
    simulate = detector.load("simulate")
    known = inspect.signature(simulate).parameters
    return list(simulate(folder, seed=seed, **{key: value for key, value in size.items() if key in known}))


def copy_input(path: Path, target: Path) -> Path:
    """Copy a file or a folder of files and return the copy."""
    if path.is_dir():
        shutil.copytree(path, target)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return target


def other_files(folder: Path, own: str) -> list[Path]:
    """Return files that do not belong to a detector: files of all other detectors, and of no detector at all.

    Parameters
    ----------
    folder : Path
        Where to write.
    own : str
        Name of the detector whose files are not wanted.
    """
    kinds = {
        "table.csv": b"a,b,c\n1,2,3\n",
        "data.root": b"root" + bytes(300),
        "array.npz": b"PK\x03\x04" + bytes(100),
        "picture.png": b"\x89PNG\r\n\x1a\n" + bytes(60),
        "data.h5": b"\x89HDF\r\n\x1a\n" + bytes(200),
        "data.parquet": b"PAR1" + bytes(60) + b"PAR1",
        "base.sqlite": b"SQLite format 3\x00" + bytes(100),
        "data.fits": b"SIMPLE  =                    T".ljust(2880),
        "data.bin": bytes(range(256)) * 4,
        "data.dat": b"\x00" * 1000,
        "data.txt": b"nothing of a detector\n",
        "data.json": b'{"run": 1}\n',
        "data.gz": b"\x1f\x8b\x08" + bytes(50),
    }
    files = []
    for name, content in kinds.items():
        files.append(folder / name)
        files[-1].write_bytes(content)
    for name in detector_names():
        other = get_detector(name)
        if name != own and other.simulate is not None:
            files += simulated(other, folder / name, 1, n_events=20, n_files=1, n_spills=1)
    return files


def command_line(*arguments: Any) -> tuple[int, str, str]:
    """Run `python -m firstlight` in this process and return its exit status, output and error output."""
    words = ["firstlight", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _arguments(words):
        try:
            runpy.run_module("firstlight", run_name="__main__")
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return status, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def _arguments(words: list[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = words
    try:
        yield
    finally:
        sys.argv = before
