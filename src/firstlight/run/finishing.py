"""What follows when all products are there: judgement, headline numbers, files of the original tool, figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from firstlight.run.execution import Executor
from firstlight.run.progress import Progress
from firstlight.steps.step import Check, worst

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firstlight.detector import Detector
    from firstlight.run.store import Run
    from firstlight.steps.step import Context, Product

__all__ = ["Products", "Settings", "draw", "judge"]


@dataclass(frozen=True)
class Settings:
    """How a chain is run; nothing here changes the products.

    Parameters
    ----------
    executor : Executor
        Where work is done.
    progress : Progress
        Where progress is shown.
    force : bool
        Make all products again.
    allow_bad : int
        So many refused inputs are tolerated.
    plots : bool
        Whether figures are drawn.
    formats : tuple of str
        ``"png"``, ``"pdf"``.
    command : tuple of str
        What was typed, for the record.
    """

    executor: Executor = field(default_factory=Executor)
    progress: Progress = field(default_factory=Progress)
    force: bool = False
    allow_bad: int = 0
    plots: bool = True
    formats: tuple[str, ...] = ("png",)
    command: tuple[str, ...] = ()


class Products(dict[str, Any]):
    """Values of products by name, read from the run directory when they are asked for."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def __missing__(self, name: str) -> Product:
        value = self[name] = self.run[name].value
        return value

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self.run


def judge(detector: Detector, run: Run, context: Context, settings: Settings) -> None:
    """Judge, sum up, export and draw; files of an earlier time that are not made again are removed."""
    products = Products(run)
    record = run.record
    before = _written(record)
    checks: list[Check] = []
    if detector.checks is not None:
        checks = detector.load("checks")(products, context)
    record["checks"] = [check.to_dict() for check in checks]
    record["verdict"] = worst([check.verdict for check in checks])
    if detector.summary is not None:
        record["summary"] = detector.load("summary")(products, context)
    record["exports"] = []
    if detector.exports is not None:
        written = detector.load("exports")(products, context, run.folder)
        record["exports"] = [path.relative_to(run.folder).as_posix() for path in written]
    if settings.plots:
        draw(detector, products, context, settings)
    elif not all(entry.get("reused") for entry in record["steps"].values() if "reused" in entry):
        # figures of other numbers than those that stand beside them are worse than none
        record.update(figures=[], tables=[])
        before.add("report/index.html")
    for name in before - _written(record):
        run.remove(name)


def draw(detector: Detector, products: Products, context: Context, settings: Settings) -> None:
    """Draw the figures of a run, and choose the tables of its report."""
    from firstlight.view.save import save_figures

    run = products.run
    if detector.tables is not None:
        tables = detector.load("tables")(products, context)
        run.record["tables"] = [asdict(table) for table in tables]
    if detector.figures is not None:
        figures = detector.load("figures")(products, context)
        run.record["figures"] = save_figures(figures, run.folder, settings.formats, settings.progress)


def _written(record: Mapping[str, Any]) -> set[str]:
    """Return the files beside the products that a run lists: exports, figures and their copies."""
    figures = record.get("figures", [])
    drawn = {entry["file"] for entry in figures} | {
        copy for entry in figures for copy in entry.get("copies", [])
    }
    return (drawn | set(record.get("exports", []))) - {""}
