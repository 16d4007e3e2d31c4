"""Which cuts a run is cut by: files in the run directory, rows that were given, suggestions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firstlight.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["chosen_cuts", "write_suggestion"]


def chosen_cuts(
    run: Path, name: str, file: Path | None, rows: Sequence[str] = (), *, nothing: bool = False
) -> dict[str, Any]:
    """Return the parameters of a step that cuts.

    Parameters
    ----------
    run : Path
        The run directory.
    name : str
        Cut file that is looked for there: ``cuts.csv``.
    file : Path, optional
        A file that was named.
    rows : sequence of str
        Rows that were given.
    nothing : bool
        No cut was asked for.

    Raises
    ------
    ConfigError
        If a cut file that was named does not exist, or there is none where one is needed.
    UsageError
        If several ways were given at once.
    """
    if sum((file is not None, bool(rows), nothing)) > 1:
        what = "a cut file, rows of cuts and no cut exclude one another"
        raise UsageError(what)
    if nothing:
        return {"file": "", "rows": (), "suggest": False}
    if rows:
        return {"file": "", "rows": tuple(rows), "suggest": False}
    path = file or run / name
    if not path.is_file():
        what = "the cut file does not exist"
        verb = "cut" if name == "cuts.csv" else "cut-times"
        hint = f"firstlight etroc {verb} {run} --suggest writes one that follows from the data, --none makes no cut"
        raise ConfigError(what, where=path, hint=hint)
    return {"file": str(path), "rows": (), "suggest": False}


def write_suggestion(run: Path, step: str, name: str) -> tuple[Path, list[str]]:
    """Write cuts that follow from the data into the run directory; a file that is there is kept beside it.

    Parameters
    ----------
    run : Path
        A run directory.
    step : {"cut", "cut_times"}
        Whose cuts.
    name : str
        Name of the file.

    Returns
    -------
    path : Path
        The file.
    reasons : list of str
        One sentence a cut.

    Raises
    ------
    UsageError
        If the step before it was not made.
    """
    import polars as pl

    from firstlight.detectors.etroc.cuts import write_cuts
    from firstlight.detectors.etroc.suggest import suggest_cuts, suggest_time_cuts
    from firstlight.detectors.etroc.time_cuts import write_time_cuts
    from firstlight.run.store import open_run

    opened = open_run(run)
    needed = "events/hits" if step == "cut" else "times/hits"
    if needed not in opened:
        verb = needed.split("/")[0]
        what = f"nothing can be suggested before the step {verb}"
        raise UsageError(what, where=run, hint=f"firstlight etroc {verb} {run}")
    frame = opened[needed].to_polars()
    if step == "cut_times" and "cut/events" in opened:
        accepted = opened["cut/events"].to_polars()["accepted"].to_numpy()
        frame = frame.filter(pl.Series(accepted[frame["event"].to_numpy()]))
    path = run / name
    if path.is_file():
        path.replace(path.with_suffix(".backup.csv"))
    suggested: list[Any] = suggest_cuts(frame) if step == "cut" else suggest_time_cuts(frame)
    write: Any = write_cuts if step == "cut" else write_time_cuts
    write(path, [each.cut for each in suggested])
    return path, [f"{each.cut.text}: {each.why}" for each in suggested]
