"""The detector as a value, and where detectors are found.

Built-in detectors stand in a literal table, others come through the entry-point group
``firstlight.detectors``. Nothing of a detector is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from firstlight.errors import DetectorError, FirstlightError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from firstlight.data.channels import ChannelMap
    from firstlight.data.patterns import FilePattern
    from firstlight.data.schema import Chunk, Span, TableSchema
    from firstlight.data.select import Selection

__all__ = [
    "Description",
    "Detector",
    "Plan",
    "Source",
    "detector_names",
    "external_packages",
    "get_detector",
    "installed_detectors",
    "may_read",
    "meant",
    "origin_of",
    "parts_of",
    "recognise",
    "takes_folders",
]

log = logging.getLogger(__name__)

GROUP = "firstlight.detectors"


@dataclass(frozen=True)
class Description:
    """What a source says of one file without reading it whole.

    Parameters
    ----------
    path : str
        The file.
    source : str
        Name of the source that reads it.
    kind : str
        Which of the file kinds of the source.
    n_events : int
        Number of events.
    tables : mapping of str to tuple of str
        Tables that can be read, with their columns.
    facts : mapping
        Anything else, for people: numbers of planes, writer, compression.
    conditions : mapping
        Fields of the file name: run, spill, temperature.
    notes : tuple of str
        What is missing or odd.
    """

    path: str
    source: str
    kind: str
    n_events: int
    tables: Mapping[str, tuple[str, ...]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@runtime_checkable
class Source(Protocol):
    """Reads one kind of file. Any object with these members will do.

    `sniff` looks at the first bytes and never raises. `describe` and `read` raise `InputError` with the
    reason when a file cannot be used. `read` yields chunks with the columns asked for, in order and in
    bounded memory; whatever `chunk_events` is, the data are the same. It is called in a thread of its own, so
    that the next chunk is read while one is counted. `version` is raised whenever the same file gives other data.

    Three members may be there or not. ``folders = True`` says that an input may be a folder: `sniff`, `describe` and
    `read` are given it whole (a scan of thousands of frames), and its files are not inputs by themselves.
    ``blocks`` names the arrays that `read` yields beside the tables of `schemas`. ``common`` names those of the
    `suffixes` that many other things have (``.txt``): in a folder such a file is only meant where `sniff` takes it.
    """

    name: str
    title: str
    version: int
    suffixes: tuple[str, ...]
    patterns: tuple[FilePattern, ...]
    schemas: Mapping[str, TableSchema]
    span_events: int | None

    def sniff(self, path: Path) -> bool:
        """Return whether the file looks like one of this kind."""
        ...

    def describe(self, path: Path) -> Description:
        """Return what the file holds."""
        ...

    def read(
        self,
        span: Span,
        columns: Mapping[str, tuple[str, ...]],
        channels: ChannelMap,
        *,
        chunk_events: int | None = None,
    ) -> Iterator[Chunk]:
        """Yield the data of a stretch of a file."""
        ...


@dataclass(frozen=True)
class Plan:
    """How the files of one run are to be read.

    Parameters
    ----------
    channels : ChannelMap
        All channels.
    selection : Selection
        Cuts made while reading.
    refused : mapping of str to str
        Files that this run cannot use, with the reason (a cut needs what they do not have).
    notes : tuple of str
        For the report.
    conditions : mapping of str to mapping
        By path, what was found out of a file beside the fields of its name: what it was taken with, which point of a
        scan it is. Steps see them in `Context.conditions`; the run keeps them with its inputs.
    """

    channels: ChannelMap
    selection: Selection
    refused: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    conditions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Detector:
    """A detector: a frozen description, not a base class.

    Most fields are either the object itself or ``"module:attribute"``, imported when it is needed.

    Parameters
    ----------
    name : str
        One word, lower case: the name on the command line.
    title : str
        One line.
    maturity : {"new", "tried", "proven"}
        How far it has been tested on real data.
    options : type of StrictModel
        Options of a run: geometry, selections.
    sources : sequence of Source
        What it can read.
    plan : callable
        ``plan(options, descriptions) -> Plan``.
    chain : sequence of Step
        The default chain, in order.
    checks : callable, optional
        ``checks(products, context) -> list of Check``.
    summary : callable, optional
        ``summary(products, context) -> list of {"label", "value", "unit"}``: the headline numbers.
    figures : callable, optional
        ``figures(products, context) -> list of Figure``.
    tables : callable, optional
        ``tables(products, context) -> list of ReportTable``: products that the report shows as tables.
    exports : callable, optional
        ``exports(products, context, folder) -> list of Path``: files under the names of the original tool.
    simulate : callable, optional
        ``simulate(folder, seed=..., **size) -> list of Path``: raw files with known truth.
    demo : mapping
        Arguments of `simulate` for ``firstlight demo``: a run with faults that the checks should find.
    commands : click.Group, optional
        Verbs of the detector's own.
    warm_up : callable, optional
        Compiles its kernels.
    divide : callable, optional
        ``divide(paths) -> {name: paths}``: inputs that cannot be added up (scans at two temperatures) make runs
        of their own. All make one run by default.
    """

    name: str
    title: str
    maturity: Literal["new", "tried", "proven"]
    options: Any
    sources: Any
    plan: Any
    chain: Any
    checks: Any = None
    summary: Any = None
    figures: Any = None
    tables: Any = None
    exports: Any = None
    simulate: Any = None
    demo: Mapping[str, Any] = field(default_factory=dict)
    commands: Any = None
    warm_up: Any = None
    divide: Any = None
    documentation: str = ""

    def load(self, part: str) -> Any:
        """Return one part of the detector, imported if it is given as ``"module:attribute"``.

        Raises
        ------
        DetectorError
            If the module or the attribute does not exist.
        """
        value = getattr(self, part)
        if not isinstance(value, str):
            return value
        return _imported(value, f"cannot load {part} from", self.name)

    def source_for(self, path: Path) -> Source | None:
        """Return the first source that takes the file or folder for its own, or None."""
        for source in self.load("sources"):
            if may_read(source, path) and source.sniff(path):
                return source  # type: ignore[no-any-return]
        return None

    def divided(self, paths: Sequence[Path]) -> dict[str, list[Path]]:
        """Return which inputs make which run, by the name of the run; one without a name where all make one."""
        if self.divide is None or len(paths) < 2:
            return {"": list(paths)}
        return dict(self.load("divide")(paths))

    def claims(self, folder: Path) -> bool:
        """Return whether a source takes a folder as one input."""
        return any(takes_folders(source) and source.sniff(folder) for source in self.load("sources"))

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Endings of the file names of all sources."""
        found = dict.fromkeys(suffix for source in self.load("sources") for suffix in source.suffixes)
        return tuple(found)


def takes_folders(source: Source) -> bool:
    """Return whether an input of a source may be a folder."""
    return bool(getattr(source, "folders", False))


def may_read(source: Source, path: Path) -> bool:
    """Return whether a path is of the kind that a source reads: file or folder."""
    return takes_folders(source) if path.is_dir() else bool(source.suffixes)


def meant(path: Path, detectors: Sequence[Detector]) -> bool:
    """Return whether a file in a folder is an input: one with an ending that many things have must be recognised."""
    sources = [source for detector in detectors for source in detector.load("sources")]
    mine = [source for source in sources if path.name.endswith(tuple(source.suffixes) or "\n")]
    if any(not path.name.endswith(tuple(getattr(source, "common", ())) or "\n") for source in mine):
        return True
    return any(source.sniff(path) for source in mine)


def parts_of(source: Source) -> set[str]:
    """Return the names of the tables and blocks that a source can yield."""
    return {*source.schemas, *getattr(source, "blocks", ())}


def _imported(place: str, what: str, name: str) -> Any:
    module, _, attribute = place.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except FirstlightError:
        raise
    except Exception as error:  # (a module of somebody else may fail in any way when it is imported)
        kind = "" if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: "
        what = f"{what} {place!r}: {kind}{error}"
        raise DetectorError(what, where=f"detector {name}") from error


def _built_in() -> Mapping[str, str]:
    from firstlight.detectors import BUILT_IN

    return BUILT_IN


def _external() -> dict[str, Any]:
    from importlib.metadata import entry_points

    found: dict[str, Any] = {}
    for point in entry_points(group=GROUP):
        if point.name in found and found[point.name].value != point.value:
            both = f"{_package(found[point.name])} and {_package(point)}"
            what = f"two packages define the detector {point.name!r}: {both}"
            raise DetectorError(what, hint="uninstall one of them")
        if point.name in _built_in():
            what = f"{_package(point)} defines the detector {point.name!r}, which is built in"
            raise DetectorError(what, hint="ask its authors for another name")
        found[point.name] = point
    return found


def _package(point: Any) -> str:
    return f"{point.dist.name} ({point.value})" if point.dist is not None else str(point.value)


def external_packages() -> dict[str, str]:
    """Return the names of detectors of other packages with their package; nothing of them is imported."""
    try:
        return {name: _package(point) for name, point in _external().items()}
    except DetectorError as error:
        log.warning("%s", error)
        return {}


def detector_names() -> list[str]:
    """Return the names of all detectors, built-in ones first."""
    return [*_built_in(), *sorted(_external())]


def origin_of(name: str) -> str:
    """Return where a detector comes from: ``"built in"``, or the package that has its entry point."""
    return "built in" if name in _built_in() else f"package {_package(_external()[name])}"


def get_detector(name: str) -> Detector:
    """Return a detector by name.

    Raises
    ------
    DetectorError
        If there is none of that name (names its nearest neighbours), or it cannot be imported.
    """
    place = _built_in().get(name)
    if place is None:
        external = _external()
        if name not in external:
            raise DetectorError.unknown("detector", name, detector_names())
        place = external[name].value
    detector = _imported(place, "cannot be loaded from", name)
    if not isinstance(detector, Detector):
        what = f"{place!r} is a {type(detector).__name__}, not a Detector"
        raise DetectorError(what, where=f"detector {name}")
    return detector


def installed_detectors() -> list[Detector]:
    """Return all detectors whose sources can be loaded; the others are named in the log.

    A package of somebody else that is broken must not stop the work with other detectors.
    """
    found = []
    for name in detector_names():
        try:
            detector = get_detector(name)
            detector.load("sources")
        except DetectorError as error:
            log.warning("left out: %s", error)
            continue
        found.append(detector)
    return found


def recognise(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Return which detector takes which of some files for its own; files that none wants are left out."""
    found: dict[str, list[Path]] = {}
    detectors = installed_detectors()
    for path in paths:
        for detector in detectors:
            possible = path.is_dir() or path.name.endswith(detector.suffixes)
            if possible and detector.source_for(path) is not None:
                found.setdefault(detector.name, []).append(path)
                break
    return found
