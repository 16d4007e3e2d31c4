"""The Python face: what the command line does, for notebooks and scripts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstlight.errors import InputError, UsageError
from firstlight.run.execution import Executor
from firstlight.run.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from firstlight.detector import Detector
    from firstlight.run.store import Run

__all__ = ["choose", "claims_of", "process"]


def process(
    paths: str | Path | Iterable[str | Path],
    output: str | Path = "firstlight-run",
    *,
    detector: str | None = None,
    configuration: Mapping[str, Any] | None = None,
    jobs: int = 1,
    dask: str | None = None,
    force: bool = False,
    allow_bad: int = 0,
    plots: bool = True,
    quiet: bool = False,
    max_events: int | None = None,
) -> Run:
    """Run a detector's default chain and return the run.

    Parameters
    ----------
    paths : path or iterable of paths
        Raw files or folders.
    output : path
        Run directory; products that are there under the same key are kept.
    detector : str, optional
        Name of the detector; recognised from the files by default.
    configuration : mapping, optional
        Options and step parameters, as in a configuration file.
    jobs : int
        Number of processes.
    dask : str, optional
        Address of a Dask scheduler, instead of processes.
    force : bool
        Make all products again.
    allow_bad : int
        So many refused inputs are tolerated.
    plots : bool
        Whether figures and the report are made.
    quiet : bool
        No progress.
    max_events : int, optional
        Events read at most, of the first files.

    Returns
    -------
    Run
        A mapping of product names to products.

    Raises
    ------
    ConfigError
        If the configuration is wrong.
    InputError
        If no input can be used, or no detector takes the files for its own.
    InputsRefusedError
        If more inputs are refused than tolerated; its attribute `run` holds the run, which is written.
    UsageError
        If the inputs make several runs (scans at two temperatures).

    Examples
    --------
    >>> run = process("run_005994/")  # doctest: +SKIP
    >>> run["occupancy/counts"].to_numpy().shape            # doctest: +SKIP
    (6952, 4)
    """
    from firstlight.detector import get_detector
    from firstlight.run.chain import Settings
    from firstlight.run.chain import process as run_chain

    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    chosen, files = choose(given, None if detector is None else get_detector(detector), None)
    settings = Settings(
        executor=Executor(jobs=jobs, dask=dask),
        progress=Progress(quiet=quiet),
        force=force,
        allow_bad=allow_bad,
        plots=plots,
        command=("firstlight.process", *map(str, given)),
    )
    runs = chosen.divided(files)
    if len(runs) > 1:
        names = [f"{name} ({', '.join(path.name for path in own[:3])})" for name, own in runs.items()]
        what = f"the inputs make {len(runs)} runs, because they cannot be added up"
        raise UsageError(what, known=names, hint="process() each of them with an output of its own")
    return run_chain(chosen, files, Path(output), configuration, settings, max_events=max_events)


def choose(
    paths: Iterable[Path], detector: Detector | None, pattern: str | None
) -> tuple[Detector, list[Path]]:
    """Return the detector of some paths, and its files in a fixed order.

    Parameters
    ----------
    paths : iterable of Path
        Files or folders.
    detector : Detector or None
        Recognised from the files where None.
    pattern : str or None
        In folders only names that fit this wildcard.

    Raises
    ------
    InputError
        If no detector takes any file for its own, or several do.
    """
    from firstlight.data.patterns import find_files
    from firstlight.detector import detector_names, get_detector, installed_detectors, meant, recognise

    paths = list(paths)
    if detector is not None:
        return detector, find_files(
            paths,
            suffixes=detector.suffixes,
            pattern=pattern,
            claims=detector.claims,
            accepts=lambda path: meant(path, [detector]),
        )
    installed = installed_detectors()
    suffixes = tuple({suffix for each in installed for suffix in each.suffixes})
    files = find_files(
        paths,
        suffixes=suffixes,
        pattern=pattern,
        claims=claims_of(installed),
        accepts=lambda path: meant(path, installed),
    )
    found = recognise(files)
    if not found:
        reasons = "".join(f"\n  {path.name}: {_why_not(path)}" for path in files[:8])
        more = f"\n  ... and {len(files) - 8} more" if len(files) > 8 else ""
        what = f"no detector takes {'it' if len(files) == 1 else f'any of {len(files)} files'} for its own:{reasons}{more}"
        hint = "firstlight inspect FILE says why; --detector NAME chooses one"
        known = [f"detector {name}" for name in detector_names()]
        raise InputError(what, where=files[0] if len(files) == 1 else files[0].parent, known=known, hint=hint)
    if len(found) > 1:
        counts = ", ".join(f"{name} ({len(members)} files)" for name, members in found.items())
        what = f"the files belong to several detectors: {counts}"
        raise InputError(what, where=files[0].parent, hint="--detector NAME chooses one")
    (name,) = found
    chosen = get_detector(name)
    # files of the right ending that were not recognised are not passed over: the chain refuses them by name
    return chosen, [path for path in files if path.is_dir() or path.name.endswith(chosen.suffixes)]


def claims_of(detectors: Iterable[Detector]) -> Callable[[Path], bool]:
    """Return the question whether one of some detectors takes a folder as one input."""
    asked = list(detectors)
    return lambda folder: any(detector.claims(folder) for detector in asked)


def _why_not(path: Path) -> str:
    """Return what the detectors say of a file that none takes for its own, a line for each reason."""
    from firstlight.detector import installed_detectors

    reasons: dict[str, list[str]] = {}
    for detector in installed_detectors():
        if path.name.endswith(detector.suffixes):
            for source in detector.load("sources"):
                if not path.name.endswith(source.suffixes):
                    continue
                try:
                    source.describe(path)
                except InputError as error:
                    reasons.setdefault(f"{detector.name}: {error.what}", []).append(source.title)
    lines = [f"{why}{f' ({readers[0]})' if len(readers) == 1 else ''}" for why, readers in reasons.items()]
    return (
        "\n    ".join(["", *lines])
        if len(lines) > 1
        else "".join(lines) or "no detector reads files with this ending"
    )
