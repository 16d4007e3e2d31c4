"""The original's files of a run under their names, written after each step of our chain."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from firstlight.detectors.etroc.legacy import original_tables as tables
from firstlight.detectors.etroc.legacy.run_manager import TaskWriter, require_task, write_run_info
from firstlight.detectors.etroc.legacy.sqlite import write_database, write_filter
from firstlight.errors import InputError, UsageError
from firstlight.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from firstlight.data.schema import Table

__all__ = [
    "DEFAULT_INJECTION_CUTS",
    "INGEST_TASKS",
    "STAGES",
    "OriginalOptions",
    "write_individual_run",
    "write_original_files",
]

DEFAULT_INJECTION_CUTS = "board_id,variable,cut_type,cut_value,output\n#,calibration_code,<,200\n"
# the spelling is the original's
BEAM_TASK = "proccess_etroc1_data_run_txt"
INJECTION_TASK = "proccess_etroc1_data_run"
INGEST_TASKS = (BEAM_TASK, INJECTION_TASK)
CUTS = "apply_event_cuts"
TIMES = "calculate_times_in_ns"
TIME_CUTS = "apply_time_cuts"
TIME_WALK = "calculate_time_walk_correction"
RESOLUTION = "analyse_time_resolution"
DIRECTORY = "process_etroc1_data_directory"
REPROCESS = "reprocess_etroc1_data_directory"
MERGE = "merge_etroc1_runs"
DAC = "calculate_dac_points"
INDIVIDUAL = "Individual_Runs"
DATABASE = "data.sqlite"


@dataclass(frozen=True)
class OriginalOptions:
    """What the original's files need to know beyond the products.

    Parameters
    ----------
    inputs : tuple of Path
        Raw files; copied to ``original_data/``.
    name : str
        Name of the run; that of the folder by default.
    kind : {"", "beam", "injection"}
        Of the data; by default injection where the files tell of a charge.
    cuts, time_cuts : Path, optional
        Cut files, copied to ``cuts.backup.csv``; by default ``cuts.csv`` and ``time_cuts.csv`` in the run directory.
    reprocess : bool
        Stage injection: keep the individual runs and apply their cuts again.
    parameters : mapping
        What the step was given; plain values, kept in the reports.
    """

    inputs: tuple[Path, ...] = ()
    name: str = ""
    kind: str = ""
    cuts: Path | None = None
    time_cuts: Path | None = None
    reprocess: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)


class _Stage:
    """What the stages share: frames of products by name, the folder, the options."""

    def __init__(self, folder: Path, products: Mapping[str, Table], options: OriginalOptions) -> None:
        self.folder = folder
        self.products = products
        self.options = options
        self.written: list[Path] = []

    def frame(self, name: str) -> pl.DataFrame:
        """Return the frame of a product.

        Raises
        ------
        InputError
            If it is not there.
        """
        if name not in self.products:
            raise InputError.unknown("product", name, list(self.products), where=self.folder)
        return self.products[name].frame

    def task(self, name: str, inputs: Sequence[Path] = ()) -> TaskWriter:
        """Return the writer of a task; its reports count as written."""
        self.written += [self.folder / name / report for report in ("task_report.txt", "task_report.json")]
        return TaskWriter(self.folder, name, parameters=self.options.parameters, inputs=inputs)

    def add(self, *paths: Path) -> None:
        """Remember files that were written."""
        self.written += paths

    def database(self, path: Path, content: Mapping[str, pl.DataFrame]) -> None:
        """Write a SQLite file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.add(write_database(path, content))

    @property
    def injection(self) -> bool:
        """Whether these are data of a charge injection."""
        if self.options.kind:
            return self.options.kind == "injection"
        return bool(self.frame("ingest/files")["charge"].is_not_null().any())

    def data(self) -> pl.DataFrame:
        """Return ``etroc1_data`` of the run."""
        kind = "injection" if self.injection else "beam"
        return tables.etroc1_data(self.frame("events/hits"), self.frame("ingest/files"), kind)

    def accepted(self) -> pl.DataFrame:
        """Return which events pass the cuts on codes; all where none were made."""
        if "cut/events" in self.products:
            return self.frame("cut/events")
        events = self.frame("events/hits")["event"].unique().sort()
        return pl.DataFrame({"event": events, "accepted": pl.repeat(True, len(events), eager=True)})

    def in_ns(self) -> pl.DataFrame:
        """Return ``etroc1_data`` with times in ns."""
        return tables.etroc1_data_in_ns(self.data(), self.frame("events/hits"), self.frame("times/hits"))


def write_original_files(
    run_folder: Path,
    products: Mapping[str, Table],
    stage: str,
    options: OriginalOptions | None = None,
) -> list[Path]:
    """Write the files that the original has after a step.

    Parameters
    ----------
    run_folder : Path
        Run directory; made a run of the original's layout where it is none.
    products : mapping of str to Table
        By ``"step/product"``. Needed are: *ingest* ``events/hits`` and ``ingest/files``; *cut* ``cut/events``; *times* those
        and ``times/hits``; *cut-times* ``cut_times/events``; *timewalk* all before and ``timewalk/hits``,
        ``timewalk/coefficients``; *resolution* ``resolution/pairs``; *injection* ``events/hits``, ``ingest/files`` and
        ``cut/events``; *merge* ``original/combined``; *dac* ``original/points`` and ``original/limits``.
    stage : str
        ``"ingest"``, ``"cut"``, ``"times"``, ``"cut-times"``, ``"timewalk"``, ``"resolution"``, ``"injection"``, ``"merge"``
        or ``"dac"``.
    options : OriginalOptions, optional
        Cut files, raw files, parameters.

    Returns
    -------
    list of Path
        Files that were written.

    Raises
    ------
    UsageError
        If there is no such stage.
    InputError
        If a product is missing, or the step before was not completed.
    """
    if stage not in STAGES:
        raise UsageError.unknown("stage", stage, STAGES)
    work = _Stage(Path(run_folder), products, options or OriginalOptions())
    work.add(write_run_info(work.folder, work.options.name))
    STAGES[stage](work)
    return work.written


def _ingest(work: _Stage) -> None:
    task = INJECTION_TASK if work.injection else BEAM_TASK
    with work.task(task, work.options.inputs) as writer:
        work.add(*_copied(work.options.inputs, writer.path / "original_data"))
        work.database(work.folder / "data" / DATABASE, {"etroc1_data": work.data()})


def _copied(inputs: Sequence[Path], folder: Path) -> list[Path]:
    """Copy raw files: a hard link would change with the file."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [path.name for path in inputs]
    # files of the same name from several folders keep the folder's name
    return [
        Path(
            shutil.copy2(
                path, folder / (path.name if names.count(path.name) == 1 else "_".join(path.parts[-2:]))
            )
        )
        for path in inputs
    ]


def _cut(work: _Stage) -> None:
    require_task(work.folder, *INGEST_TASKS)
    _filter(work, CUTS, "event_filter.fd", "cut/events", work.options.cuts or work.folder / "cuts.csv")


def _filter(work: _Stage, task: str, file: str, product: str, cuts: Path) -> None:
    """Write a filter of events in the folder of the task and in that of the run."""
    with work.task(task, [cuts] if cuts.is_file() else ()) as writer:
        accepted = work.frame(product)
        if cuts.is_file():
            work.add(Path(shutil.copyfile(cuts, writer.path / "cuts.backup.csv")))
        else:
            writer.note(
                f"no {cuts.name}: {accepted['accepted'].sum()} of {accepted.height} events are accepted"
            )
        (writer.path / "CutflowPlots").mkdir()
        work.add(write_filter(writer.path / file, accepted), write_filter(work.folder / file, accepted))


def _not_failed(work: _Stage, task: str) -> None:
    """Refuse after a task that was tried and did not end well; it may be left out."""
    if (work.folder / task).is_dir():
        require_task(work.folder, task)


def _times(work: _Stage) -> None:
    require_task(work.folder, *INGEST_TASKS)
    _not_failed(work, CUTS)
    with work.task(TIMES) as writer:
        data = work.in_ns()
        info = tables.board_info_data(data, work.accepted())
        work.database(writer.path / DATABASE, {"board_info_data": info, "etroc1_data": data})


def _cut_times(work: _Stage) -> None:
    require_task(work.folder, TIMES)
    cuts = work.options.time_cuts or work.folder / "time_cuts.csv"
    _filter(work, TIME_CUTS, "time_filter.fd", "cut_times/events", cuts)


def _time_walk(work: _Stage) -> None:
    require_task(work.folder, TIMES)
    _not_failed(work, TIME_CUTS)
    with work.task(TIME_WALK) as writer:
        content = tables.time_walk_tables(
            work.in_ns(),
            work.frame("events/hits"),
            work.frame("timewalk/coefficients"),
            work.frame("timewalk/hits"),
            *(work.frame(name) for name in ("cut/events", "cut_times/events") if name in work.products),
        )
        work.database(writer.path / DATABASE, content)


def _resolution(work: _Stage) -> None:
    require_task(work.folder, TIME_WALK)
    with work.task(RESOLUTION) as writer:
        info = tables.timing_info(work.frame("resolution/pairs"), _last_step(work))
        work.database(writer.path / "time_resolution.sqlite", {"timing_info": info})
        for (iteration,), part in info.group_by(["twc_iteration"], maintain_order=True):
            place = writer.path / f"twc_iteration_{iteration}" / "Final"
            work.database(place / DATABASE, {"timing_info": part})


def _last_step(work: _Stage) -> int:
    """Return the number of the step "Final": one more than the last row of the time cuts with a label."""
    if "cut_times/flow" not in work.products:
        return 0
    labelled = work.frame("cut_times/flow").filter(pl.col("label").is_not_null() & (pl.col("row") >= 0))
    return int(labelled["row"].max()) + 1 if labelled.height else 0  # type: ignore[arg-type]


def _injection(work: _Stage) -> None:
    hits, files = work.frame("events/hits"), work.frame("ingest/files")
    accepted = work.frame("cut/events")
    inputs = work.options.inputs
    runs = files.select("file", "name", "run").unique(maintain_order=True)
    with work.task(REPROCESS if work.options.reprocess else DIRECTORY, work.options.inputs) as writer:
        writer.total = runs["run"].n_unique()
        merged = hits.join(runs.select("file", "run"), on="file", how="left", maintain_order="left").join(
            accepted.select("event", "accepted"), on="event", how="left", maintain_order="left"
        )
        parts = merged.partition_by("run", as_dict=True, maintain_order=True)
        for (run,), of_run in runs.group_by(["run"], maintain_order=True):
            sources = [path for name in of_run["name"].to_list() for path in inputs if _is_named(path, name)]
            part = parts.get((run,), merged.clear())
            folder = work.folder / INDIVIDUAL / str(run)
            work.add(
                *write_individual_run(
                    folder,
                    part.drop("run", "accepted"),
                    part["accepted"].fill_null(value=False),
                    sources=sources,
                    keep_data=work.options.reprocess,
                    parameters=work.options.parameters,
                )
            )
            writer.tick()


def _is_named(path: Path, name: str) -> bool:
    """Return whether a file goes by a name, which may have some of its folders."""
    parts = Path(name).parts
    return path.parts[-len(parts) :] == parts


def write_individual_run(
    folder: Path,
    hits: pl.DataFrame,
    accepted: pl.Series,
    *,
    sources: Sequence[Path] = (),
    keep_data: bool = False,
    parameters: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write one run of a charge-injection directory in the original's layout.

    Parameters
    ----------
    folder : Path
        ``Individual_Runs/<base>``.
    hits : polars.DataFrame
        As `EVENT_HITS`, of this run; a hit is an event, counted from 0. An empty run is a valid point of the scan.
    accepted : polars.Series
        Whether each hit passes the cuts, of shape (n_hits,).
    sources : sequence of Path
        Its raw files, all splits.
    keep_data : bool
        Keep ``data/data.sqlite`` that is there: only the cuts are applied again.
    parameters : mapping, optional
        For the reports.

    Returns
    -------
    list of Path
        Files that were written. ``cuts.csv`` is only written where there is none: it belongs to the user.
    """
    written = [write_run_info(folder, flush=False)]
    database = folder / "data" / DATABASE
    if not (keep_data and database.is_file()):
        with TaskWriter(folder, INJECTION_TASK, parameters=parameters, inputs=sources, flush=False) as writer:
            written += _copied(sources, writer.path / "original_data")
            numbered = hits.with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).alias("event"))
            content = {"etroc1_data": tables.etroc1_data(numbered, pl.DataFrame(), "plain")}
            database.parent.mkdir(parents=True, exist_ok=True)
            written.append(write_database(database, content, flush=False))
    cuts = folder / "cuts.csv"
    if not cuts.is_file():
        written.append(write_text(cuts, DEFAULT_INJECTION_CUTS, flush=False))
    with TaskWriter(folder, CUTS, parameters=parameters, inputs=[cuts], flush=False) as writer:
        written.append(Path(shutil.copyfile(cuts, writer.path / "cuts.backup.csv")))
        events = pl.int_range(len(accepted), dtype=pl.UInt32, eager=True).alias("event")
        table = pl.DataFrame([events, accepted.alias("accepted")])
        written += [
            write_filter(place / "event_filter.fd", table, flush=False) for place in (writer.path, folder)
        ]
    return written


def _merge(work: _Stage) -> None:
    require_task(work.folder, DIRECTORY, REPROCESS)
    with work.task(MERGE) as writer:
        work.database(writer.path / DATABASE, {"combined_etroc1_data": work.frame("original/combined")})


def _dac(work: _Stage) -> None:
    require_task(work.folder, MERGE)
    with work.task(DAC) as writer:
        content = {
            "dac_charge_data": work.frame("original/points"),
            "noise_limit_data": work.frame("original/limits"),
        }
        work.database(writer.path / DATABASE, content)


STAGES: Mapping[str, Callable[[_Stage], None]] = {
    "ingest": _ingest,
    "cut": _cut,
    "times": _times,
    "cut-times": _cut_times,
    "timewalk": _time_walk,
    "resolution": _resolution,
    "injection": _injection,
    "merge": _merge,
    "dac": _dac,
}
