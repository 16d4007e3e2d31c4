"""Parameters of an ETROC run: the same names in a configuration file and on the command line."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from firstlight.run.config import StrictModel

__all__ = [
    "PATTERNS",
    "CutParameters",
    "EventParameters",
    "InjectionParameters",
    "Options",
    "OriginalParameters",
    "PixelParameters",
    "ResolutionParameters",
    "TimeCutParameters",
    "TimeParameters",
    "View",
    "WalkParameters",
]

# numbers of board patterns in the original's option -p/--event_pattern
PATTERNS: dict[int, tuple[int, ...]] = {
    0: (),
    1: (0, 1, 3),
    2: (0, 1),
    3: (0, 3),
    4: (1, 3),
    5: (0, 3, 1),
}


class PixelParameters(StrictModel):
    """When a pixel is judged.

    Attributes
    ----------
    minimum_hits : int
        Pixels with fewer hits have no mean and no width, and are not judged by them.
    hot_ratio : float
        Pixels with so many times the hits of their neighbours, beyond chance, are hot.
    noisy_calibration : float
        Fraction of hits far from the most frequent calibration code (more than 3 codes) from which it is noisy.
    """

    minimum_hits: int = pydantic.Field(20, ge=2)
    hot_ratio: float = pydantic.Field(10.0, gt=1)
    noisy_calibration: float = pydantic.Field(0.2, gt=0, lt=1)


class EventParameters(StrictModel):
    """How events are built.

    Attributes
    ----------
    building : {"auto", "pattern", "order", "counters"}
        ``pattern``: consecutive hits with exactly the boards of `pattern`, as the original; ``order``: consecutive hits in
        the order of read-out and with one time stamp, boards may be missing; ``counters``: packets of one trigger, by event
        frames or trigger counter and bunch crossing, boards may be missing. ``auto``: counters where there are packets,
        else the pattern of all boards.
    pattern : tuple of int
        Boards of an event in order of read-out; all boards in rising order where empty.
    keep_all : bool
        Use hits whose hit flag is 0 too.
    accept_ea : tuple of int
        Error bits (EA) of ETROC2 hits that are used.
    one_hit : {"drop", "first", "largest_tot", "keep"}
        What becomes of several hits of one board in one event: the event is left out of timing, the first or the largest
        one is used, or all are kept (no time resolution then).
    """

    building: Literal["auto", "pattern", "order", "counters"] = "auto"
    pattern: tuple[int, ...] = ()
    keep_all: bool = False
    accept_ea: tuple[int, ...] = (0,)
    one_hit: Literal["drop", "first", "largest_tot", "keep"] = "drop"

    @pydantic.field_validator("pattern", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if isinstance(given, str):
            words = [word for word in given.replace(",", " ").split() if word]
            if not all(word.isdigit() for word in words):
                what = "a pattern is the boards of an event in order of read-out, such as 0,1,3"
                raise ValueError(what)
            return tuple(int(word) for word in words)
        return given


class CutParameters(StrictModel):
    """Cuts on hits: an event is accepted if all of them are passed.

    Attributes
    ----------
    file : str
        Cut file as of the original (``board_id,variable,cut_type,cut_value,output``).
    rows : tuple of str
        Cuts as rows of such a file, instead of one: ``"*,calibration_code,>,125"``.
    suggest : bool
        Without file and rows: use cuts that follow from the data (a window around the usual calibration code and time
        over threshold of each board). False: no cut.
    keep_events : bool, optional
        A board without a hit passes every cut. By default with cuts that follow from the data, and not with those that are
        given, as in the original.
    """

    file: str = ""
    rows: tuple[str, ...] = ()
    suggest: bool = True
    keep_events: bool | None = None

    @property
    def keeps(self) -> bool:
        """Whether a board without a hit passes every cut."""
        given = bool(self.file or self.rows)
        return (self.suggest and not given) if self.keep_events is None else self.keep_events


class TimeCutParameters(CutParameters):
    """Cuts on times in ns.

    Attributes
    ----------
    file, rows, suggest, keep_events
        As of cuts on hits, with the columns of the original's ``time_cuts.csv``; by default the difference of two boards
        must lie within a robust window.
    """


class TimeParameters(StrictModel):
    """From codes to ns.

    Attributes
    ----------
    cal : {"robust", "board", "mean", "median", "event"}
        Calibration code that is used: mean of the codes near the most frequent one, for each pixel and slice of the run
        (robust) or each board (board); mean or median of all accepted hits of a board, as the original; that of each hit.
    events_per_slice : int, optional
        Events of a slice of the run; by default so many that the calibration code of a pixel is known well in each.
    """

    cal: Literal["robust", "board", "mean", "median", "event"] = "robust"
    events_per_slice: int | None = pydantic.Field(None, ge=1)


class WalkParameters(StrictModel):
    """Time-walk correction.

    Attributes
    ----------
    order : int
        Order of the polynomial in TOT; for a spline its number of pieces.
    iterations : int
        Iterations after the first one.
    method : {"ols", "odr", "spline"}
        Ordinary least squares; orthogonal distances with unit weights, as the original; cubic spline.
    folds : int
        The curve that corrects an event is fitted to the events of all other folds; 1: to all events, as the original.
    window : float
        Events within so many robust widths are fitted; 0: all, as the original.
    """

    order: int = pydantic.Field(2, ge=0, le=8)
    iterations: int = pydantic.Field(1, ge=0, le=20)
    method: Literal["ols", "odr", "spline"] = "ols"
    folds: int = pydantic.Field(5, ge=1, le=50)
    window: float = pydantic.Field(2.5, ge=0)


class ResolutionParameters(StrictModel):
    """Time resolution.

    Attributes
    ----------
    bootstrap : int
        Samples of the events for which the whole chain from the time-walk correction on is done again; 0: none.
    bootstrap_estimator : {"likelihood", "std"}
        Estimator that is bootstrapped.
    seed : int
        Of the samples.
    slices : int
        Parts of the run for which the resolution is given.
    minimum_events : int
        A part, pixel or file with fewer events has no resolution.
    run_table : str
        Table of runs (CSV) with a column ``Run`` and bias voltages ``HV0``, ``HV1`` ... of the boards; files are found in it
        by the number in their name.
    """

    bootstrap: int = pydantic.Field(200, ge=0, le=100_000)
    bootstrap_estimator: Literal["likelihood", "std"] = "likelihood"
    seed: int = 1
    slices: int = pydantic.Field(5, ge=1, le=1000)
    minimum_events: int = pydantic.Field(200, ge=20)
    run_table: str = ""


class InjectionParameters(StrictModel):
    """Charge-injection scans.

    Attributes
    ----------
    cuts : tuple of str
        Cuts on hits as rows of a cut file.
    cut_files : str
        Folder with a folder for each run that holds its own ``cuts.csv``, as ``Individual_Runs`` of the original.
    splits : {"all", "first"}
        Files of a run that are used; ``first`` as the original did.
    keep_all : bool
        Use hits whose hit flag is 0 too.
    injections : int, optional
        Injected charges a threshold; found from the plateau of each board where not given.
    trigger_board : int, optional
        Board that triggers, and is not scanned itself.
    fixed_thresholds : dict of int to int
        Threshold of a board while it is not the one that is scanned; found from the names of the files where not given.
    charge_error : float
        Relative error of the injected charge.
    """

    cuts: tuple[str, ...] = ("#,calibration_code,<,200",)
    cut_files: str = ""
    splits: Literal["all", "first"] = "all"
    keep_all: bool = False
    injections: int | None = pydantic.Field(None, ge=1)
    trigger_board: int | None = None
    fixed_thresholds: dict[int, int] = {}
    charge_error: float = pydantic.Field(0.0, ge=0, lt=1)


class OriginalParameters(StrictModel):
    """Charge injection as the original does it.

    Attributes
    ----------
    filter_default : bool
        Keep points without hits of the board that is away from its fixed threshold.
    noise_with_charge : int
        Charge whose noise limits are used [fC]; 0: mean and median over charges.
    rolling_mean : int
        Thresholds in the mean that a plateau is compared with.
    difference_from_mean, hit_center, hit_window : float, optional
        A plateau has hits within `difference_from_mean` of that mean and within `hit_window` of `hit_center`. By default the
        number of injections, 3 % and 6 % of it; the original has 50, 4450 and 150.
    trigger_board_hit_center, trigger_board_hit_window : float, optional
        The same for the trigger board.
    noise_edge_offset : float
        The noise ends so far below the plateau [DAC].
    """

    filter_default: bool = False
    noise_with_charge: int = pydantic.Field(0, ge=0)
    rolling_mean: int = pydantic.Field(3, ge=1)
    difference_from_mean: float | None = pydantic.Field(None, ge=0)
    hit_center: float | None = pydantic.Field(None, ge=0)
    hit_window: float | None = pydantic.Field(None, ge=0)
    trigger_board_hit_center: float | None = pydantic.Field(None, ge=0)
    trigger_board_hit_window: float | None = pydantic.Field(None, ge=0)
    noise_edge_offset: float = 4.0


class View(StrictModel):
    """How figures are drawn; nothing here changes a number.

    Attributes
    ----------
    max_toa, max_tot : float
        Ends of the axes of times [ns]; from the data where 0.
    """

    max_toa: float = pydantic.Field(0.0, ge=0)
    max_tot: float = pydantic.Field(0.0, ge=0)


class Options(StrictModel):
    """Options of an ETROC run.

    Attributes
    ----------
    boards : dict of str to int
        Board of each link: ``{12 = 0, 42 = 0, 44 = 1}``. By default a board number of ETROC1 is the board, a channel of a
        KC705 too, and the e-links of one chip that read different columns make one board.
    name_templates : tuple of str
        Templates of file names, tried before those of the original.
    name_boards : tuple of int
        Boards in the order in which file names tell pixels, charges and thresholds.
    view : View
        How figures are drawn.
    """

    boards: dict[str, Annotated[int, pydantic.Field(ge=0, le=255)]] = {}
    name_templates: tuple[str, ...] = ()
    name_boards: tuple[Annotated[int, pydantic.Field(ge=0, le=255)], ...] = (0, 1, 3)
    view: View = View()

    @pydantic.field_validator("boards", mode="before")
    @classmethod
    def _numbers(cls, given: Any) -> Any:
        if isinstance(given, dict):
            for link in given:
                if not str(link).isdigit() or int(link) > 255:
                    what = f"{link!r} is no link: links are numbers from 0 to 255"
                    raise ValueError(what)
            return {str(link): board for link, board in given.items()}
        return given

    @pydantic.field_validator("name_templates")
    @classmethod
    def _templates_can_be(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        from firstlight.detectors.etroc.readout.names import checked_template
        from firstlight.errors import UsageError

        try:
            return tuple(checked_template(template) for template in given)
        except UsageError as error:
            raise ValueError(str(error).replace("\n", ";")) from error
