"""The conformance suite: what every detector, built in or not, is held to.

In the tests of a detector:

    from firstlight.testing import DetectorConformance

    class TestBars(DetectorConformance):
        detector_name = "bars"
        small = {"n_events": 300}

Each test that fails says what to change. Files come from the detector's simulator; a detector without one
overrides `make_files`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from firstlight.detector import get_detector
from firstlight.testing.suite_faces import FaceTests
from firstlight.testing.suite_runs import RunTests
from firstlight.testing.suite_sources import SourceTests
from firstlight.testing.suite_steps import StepTests
from firstlight.testing.workbench import Workbench, other_files, simulated

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["DetectorConformance"]


class DetectorConformance(SourceTests, StepTests, RunTests, FaceTests):
    """Base of the tests of a detector; subclass it, and name the detector.

    Attributes
    ----------
    detector_name : str
        Name under which the detector is registered.
    small : mapping
        Arguments of the simulator that make files of some hundred events, so that the tests are quick.
    changes : mapping of str to mapping
        For some steps the parameters that are changed to see what is computed again. By default the first
        number among the parameters of a step is changed a little.
    tolerance : float
        Relative difference that is allowed where chunks or files are put together in another way; 0 means
        bit for bit. Sums of floating-point numbers need something like 1e-12.
    truncation_shows : bool
        Whether the format lets a reader see that the end of a file is missing. Almost all do.
    """

    detector_name: str = ""
    small: ClassVar[Mapping[str, Any]] = {}
    changes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    tolerance: float = 0.0
    truncation_shows: bool = True
    _bench: ClassVar[Workbench | None] = None

    def make_files(self, folder: Path) -> list[Path]:
        """Return two or more small files of the detector; by default its simulator writes them.

        Parameters
        ----------
        folder : Path
            Empty; files may be elsewhere, too, they are not changed.
        """
        detector = get_detector(self.detector_name)
        if detector.simulate is None:
            pytest.fail(f"{self.detector_name} has no simulator: override make_files(self, folder)")
        return simulated(detector, folder, 1, **self.small)

    def foreign_files(self, folder: Path) -> list[Path]:
        """Return files that the detector must not take for its own; files of all kinds by default.

        Parameters
        ----------
        folder : Path
            Empty.
        """
        return other_files(folder, self.detector_name)

    @property
    def bench(self) -> Workbench:  # type: ignore[override]
        """Files and runs that the tests of one class share."""
        assert self._bench is not None, "the tests are run by pytest"
        return self._bench

    @pytest.fixture(autouse=True)
    def _set_up(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        assert self.detector_name, f"{type(self).__name__}.detector_name is not set"
        if "_bench" not in type(self).__dict__:
            folder = tmp_path_factory.mktemp(f"conformance-{self.detector_name}")
            type(self)._bench = Workbench(self.detector_name, self, folder)
