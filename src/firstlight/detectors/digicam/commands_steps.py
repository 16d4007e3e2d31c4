"""Verbs for single results: gain, timing, the shape of a pulse. They read raw files, or go on with a run that is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import run_options, settings_from, tell, values_from
from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars as pl

    from firstlight.run.store import Run

__all__ = ["STEPS", "make_steps", "medians_of", "step_verb", "whole_numbers"]

Command = Any


def whole_numbers(option: str) -> Callable[[click.Context, click.Parameter, str | None], tuple[int, ...]]:
    """Return what turns ``1,2,3`` into numbers.

    Parameters
    ----------
    option : str
        For messages.
    """

    def found(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, ...]:
        if not text:
            return ()
        try:
            return tuple(int(word) for word in text.split(","))
        except ValueError as error:
            what = f"{text!r} is no list of whole numbers with commas between them"
            raise UsageError(what, where=option, hint=f"{option} 10,700,1295") from error

    return found


def step_verb(name: str, output: str) -> Callable[[Any], click.Command]:
    """Make a verb that is given raw files, folders, or one run directory."""

    def make(function: Any) -> click.Command:
        n_own = len(getattr(function, "__click_params__", ()))
        command = run_options(output)(function)
        command = click.option("--pattern", help="In folders only files of this name, with wildcards.")(
            command
        )
        command = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))(command)
        made = click.command(name)(command)
        # what is special about a verb stands before what all have
        made.params = [*made.params[:2], *made.params[-n_own:], *made.params[2:-n_own]]
        return made

    return make


def make_steps(
    paths: Sequence[Path],
    pattern: str | None,
    options: dict[str, Any],
    steps: Sequence[str],
    given: Mapping[str, Any],
) -> Run:
    """Make some steps, of raw files or of a run, and tell how it ended.

    Parameters
    ----------
    paths : sequence of Path
        Raw files and folders; or one run directory, whose raw files are not read again.
    pattern : str or None
        In folders only such names.
    options : dict
        Those that `run_options` added.
    steps : sequence of str
        What is made, what is asked for last.
    given : mapping
        Parameters by ``step__name``; None was not given.

    Returns
    -------
    Run
        Written.

    Raises
    ------
    UsageError
        If the run has nothing of which the last step could be made.
    """
    from firstlight.cli.process import finish
    from firstlight.detector import get_detector
    from firstlight.face import choose
    from firstlight.run.finished import derive_again
    from firstlight.run.store import open_run

    known = {key: value for key, value in given.items() if value is not None}
    values = values_from(options["config"], options["settings"], **known)
    if len(paths) == 1 and (paths[0] / "run.json").is_file():
        run = open_run(paths[0])
        if run.record.get("detector") != "digicam":
            what = f"is a run of the detector {run.record.get('detector')}, not of digicam"
            raise UsageError(what, where=run.folder)
        run = derive_again(run, values, settings_from(options), options["config"], steps=steps)
        tell(run, as_json=options["as_json"], quiet=options["quiet"], fail_on=options["fail_on"])
    else:
        detector, files = choose(paths, get_detector("digicam"), pattern)
        finish(detector, files, values, options, steps=steps)
        run = open_run(options["output"])
    _require(run, steps[-1])
    return run


_NEEDS = {
    "gain": "flashes of several levels with 0.2 to 8 photo-electrons",
    "levels": "flashes of several levels with 0.2 to 8 photo-electrons",
    "led": "flashes of several levels",
    "dc": "continuous light of several levels, and a gain",
    "timing": "flashes",
    "template": "flashes",
}


def _require(run: Run, step: str) -> None:
    if any(name.startswith(f"{step}/") for name in run):
        return
    kinds = _kinds(run)
    what = (
        f"there is no result of {step}: it needs {_NEEDS.get(step, 'other data')}, the files are of {kinds}"
    )
    raise UsageError(what, where=run.folder, hint=f"firstlight status {run.folder}")


def _kinds(run: Run) -> str:
    if "events/files" not in run:
        return "an unknown kind"
    import polars as pl

    totals = (
        run["events/files"].to_polars().group_by("kind", maintain_order=True).agg(pl.col("n_events").sum())
    )
    return ", ".join(f"{kind} ({number} events)" for kind, number in totals.iter_rows())


def medians_of(run: Run, product: str, columns: Mapping[str, str]) -> list[str]:
    """Return the medians of columns of a table as lines for people.

    Parameters
    ----------
    run : Run
        With the product.
    product : str
        A table with a row for each pixel.
    columns : mapping of str to str
        Columns and their units.
    """
    import numpy as np

    frame = run[product].to_polars()
    lines = []
    for name, unit in columns.items():
        values = frame[name].drop_nulls().drop_nans()
        if len(values):
            number = f"{float(np.median(values.to_numpy())):.4g} {unit}".rstrip()
            lines.append(f"  {name.replace('_', ' '):<28} {number}   (median of {len(values)} pixels)")
    return lines


def _say(options: Mapping[str, Any], lines: Sequence[str]) -> None:
    if not (options["quiet"] or options["as_json"]):
        for line in lines:
            click.echo(line)


@step_verb("gain", "firstlight-digicam")
@click.option("--levels", type=click.IntRange(1, 12), help="Levels that are fitted together at most.")
@click.option(
    "--dark-rate",
    type=click.Choice(["auto", "none", "fit"]),
    help="Dark counts inside of the fit: at the rate of the dark run, none, or fitted.",
)
@click.option(
    "--lowest", type=click.FloatRange(0, min_open=True), help="Least light of a level that is used [p.e.]."
)
@click.option(
    "--highest", type=click.FloatRange(0, min_open=True), help="Most light of a level that is used [p.e.]."
)
def gain(
    paths: tuple[Path, ...], pattern: str | None, levels: int | None, dark_rate: str | None, lowest: float | None,
    highest: float | None, **options: Any,
) -> None:  # fmt: skip
    """Gain, crosstalk, baseline and noise of each pixel from flashes of several levels together.

    PATHS are raw files or folders, or one run directory. Dark files among them give the rate of dark counts, which are
    then inside of the fit.

    \b
    Examples:
      firstlight digicam gain hv_off.fits.fz dark.fits.fz led_*.fits.fz -o run
      firstlight digicam gain run --levels 8 --dark-rate fit
    """  # noqa: D301  (\b keeps lines as they are)
    given = {
        "gain__levels": levels,
        "gain__dark_rate": dark_rate,
        "gain__lowest": lowest,
        "gain__highest": highest,
    }
    # what follows from a gain is made with it
    steps = ("hv_off", "dark", "levels", "led", "calibration", "dc", "gain")
    run = make_steps(paths, pattern, options, steps, given)
    units = {
        "gain": "LSB/p.e.",
        "crosstalk": "",
        "baseline": "LSB",
        "electronics_noise": "LSB",
        "gain_smearing": "LSB",
    }
    _say(options, medians_of(run, "gain/pixels", units))


@step_verb("timing", "firstlight-digicam")
@click.option(
    "--lowest",
    type=click.FloatRange(0, min_open=True),
    help="Levels with lower mean pulses are left out [LSB].",
)
def timing(paths: tuple[Path, ...], pattern: str | None, lowest: float | None, **options: Any) -> None:
    """When the light of a flash arrives in each pixel.

    \b
    Examples:
      firstlight digicam timing led_300.fits.fz led_350.fits.fz -o run
      firstlight digicam timing run
    """  # noqa: D301  (\b keeps lines as they are)
    run = make_steps(paths, pattern, options, ("timing",), {"timing__lowest": lowest})
    _say(options, medians_of(run, "timing/pixels", {"time": "ns", "time_error": "ns", "height": "LSB"}))


@step_verb("template", "firstlight-digicam")
@click.option(
    "--shape",
    "target",
    type=click.Path(path_type=Path),
    help="Where the shape is written as text; template.txt of the run directory, or NAME.txt here for NAME.fits, by default.",
)
@click.option("--step", "width", type=click.FloatRange(0, min_open=True), help="Width of a bin in time [ns].")
@click.option(
    "--pixels",
    metavar="NUMBERS",
    callback=whole_numbers("--pixels"),
    help="Of a FITS file only these pixels.",
)
def template(
    paths: tuple[Path, ...], pattern: str | None, target: Path | None, width: float | None, pixels: tuple[int, ...],
    **options: Any,
) -> None:  # fmt: skip
    """Find the shape of a pulse, from flashes that arrive at different times in different pixels.

    PATHS are raw files or folders, one run directory, or one FITS file with histograms of time and height for each pixel. The
    shape is written as text (time in ns, amplitude, spread), as --set dark.template=FILE reads it.

    \b
    Examples:
      firstlight digicam template led_*.fits.fz -o run
      firstlight digicam template template_scan_dac_250.fits.gz --shape pulse.txt
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.digicam.timing import write_shape
    from firstlight.files import atomic

    if len(paths) == 1 and paths[0].name.endswith((".fits", ".fits.gz")):
        table, lines = _of_histograms(paths[0], pixels)
        default = Path(f"{paths[0].name.split('.fits')[0]}.txt")
    else:
        if pixels:
            what = "pixels can be chosen of a FITS file with histograms only"
            raise UsageError(what, where="--pixels")
        run = make_steps(paths, pattern, options, ("timing", "template"), {"template__step": width})
        table, lines, default = run["template/shape"].value, [], run.folder / "template.txt"
    path = target or default
    with atomic(path) as temporary:
        write_shape(table, temporary)
    _say(options, [*lines, f"  wrote {path}"])


def _of_histograms(path: Path, pixels: tuple[int, ...]) -> tuple[Any, list[str]]:
    from firstlight.detectors.digicam.legacy.template_histograms import TemplateHistograms

    found = TemplateHistograms.read(path)
    profile = found.profile(pixels or None).frame
    top = profile.row(int(profile["amplitude"].arg_max() or 0), named=True)
    lines = [
        f"  {found.total:,} samples of {int(found.lit.sum())} pixels with light",
        f"  the mean pulse has its maximum of {top['amplitude']:.5f} at {top['time']:g} ns",
    ]
    return found.shape(pixels or None), lines


_PER = click.Choice(["pixel", "patch"])


@step_verb("led", "firstlight-digicam")
@click.option(
    "--inverse",
    metavar="LIGHT",
    type=click.FloatRange(0, min_open=True),
    help="Print the level [DAC] that gives so many photo-electrons.",
)
@click.option(
    "--per",
    type=_PER,
    default="pixel",
    show_default=True,
    help="Levels for each pixel, or for patches of three, whose LEDs have one DAC: mean light of the patch.",
)
@click.option(
    "--table",
    "target",
    type=click.Path(path_type=Path),
    help="Write these levels to a CSV file, rather than print them.",
)
@click.option(
    "--minimum-light", type=click.FloatRange(0, min_open=True), help="Below, a pixel is not lit [p.e.]."
)
@click.option("--polynomial", type=click.IntRange(1, 6), help="Degree of the polynomial beside the curve.")
def led(
    paths: tuple[Path, ...], pattern: str | None, inverse: float | None, per: str, target: Path | None,
    minimum_light: float | None, polynomial: int | None, **options: Any,
) -> None:  # fmt: skip
    """Light against level of the light source: a monotone curve for each pixel, and its inverse.

    PATHS are raw files or folders of a scan, or one run directory.

    \b
    Examples:
      firstlight digicam led hv_off.fits.fz dark.fits.fz led_*.fits.fz -o run
      firstlight digicam led run --inverse 5 --per patch --table dac.csv
    """  # noqa: D301  (\b keeps lines as they are)
    given = {"led__minimum_light": minimum_light, "led__polynomial": polynomial}
    steps = ("hv_off", "dark", "timing", "gain", "levels", "calibration", "led")
    run = make_steps(paths, pattern, options, steps, given)
    if inverse is None:
        _say(
            options,
            medians_of(
                run, "led/curves", {"level_1": "DAC", "level_5": "DAC", "level_50": "DAC", "highest": "p.e."}
            ),
        )
        return
    _levels(_wanted_levels(run, inverse, per), per, target, options)


def _wanted_levels(run: Run, light: float, per: str) -> pl.DataFrame:
    """Return the level that gives some light in each pixel or patch."""
    import numpy as np
    import polars as pl

    from firstlight.detectors.digicam.light_curve import curves_of, fit_light_curves

    minimum = float(run.record["configuration"]["led"]["minimum_light"])
    curves = curves_of(run["levels/light"].value, minimum)  # type: ignore[arg-type]
    if per == "patch":
        from firstlight.detectors.digicam.camera import patch_pixels

        members = patch_pixels()
        # (a patch of which a pixel has no point at a level has none)
        error = np.sqrt((curves.error[members] ** 2).sum(axis=1)) / members.shape[1]
        curves = fit_light_curves(
            curves.level, curves.light[members].mean(axis=1), error, minimum_light=minimum
        )
    level, error = curves.level_for(light)
    return pl.DataFrame({per: np.arange(level.size), "level": level, "error": error}).fill_nan(None)


def _levels(table: pl.DataFrame, per: str, target: Path | None, options: Mapping[str, Any]) -> None:
    """Print levels, or write them to a file."""
    from firstlight.files import write_text

    known = table["level"].drop_nulls()
    if target is not None:
        write_text(target, table.write_csv(float_precision=3))
        _say(options, [f"  wrote {target}: levels of {len(known)} of {len(table)} {_PLURAL[per]}"])
        return
    click.echo(table.write_csv(float_precision=3), nl=False)


_PLURAL = {"pixel": "pixels", "patch": "patches"}


@step_verb("dc", "firstlight-digicam")
@click.option(
    "--rate",
    metavar="MHZ",
    type=click.FloatRange(0, min_open=True),
    help="Print the level [DAC] that gives such a rate of photo-electrons.",
)
@click.option(
    "--table",
    "target",
    type=click.Path(path_type=Path),
    help="Write these levels to a CSV file, rather than print them.",
)
@click.option("--resistance", type=click.FloatRange(0), help="Of the bias circuit [Ohm].")
@click.option("--capacitance", type=click.FloatRange(0), help="Of a cell [fF].")
def dc(
    paths: tuple[Path, ...], pattern: str | None, rate: float | None, target: Path | None, resistance: float | None,
    capacitance: float | None, **options: Any,
) -> None:  # fmt: skip
    """Rate of photo-electrons under continuous light (night sky) against the level of its source.

    PATHS are raw files or folders of a scan, with flashes or dark events for the gain, or one run directory. An exponential
    is fitted for each pixel.

    \b
    Examples:
      firstlight digicam dc hv_off.fits.fz dark.fits.fz dc_*.fits.fz -o run
      firstlight digicam dc run --rate 125 --table dac.csv
    """  # noqa: D301  (\b keeps lines as they are)
    given = {"dc__resistance": resistance, "dc__capacitance": capacitance}
    steps = ("hv_off", "dark", "timing", "gain", "calibration", "dc")
    run = make_steps(paths, pattern, options, steps, given)
    if rate is None:
        _say(
            options,
            medians_of(run, "dc/pixels", {"rate_at_zero": "MHz", "slope": "1/DAC", "level_100": "DAC"}),
        )
        return
    import polars as pl

    from firstlight.detectors.digicam.continuous_light import level_for_rate

    frame = run["dc/pixels"].to_polars()
    level = level_for_rate(
        rate, *(frame[name].cast(pl.Float64).to_numpy() for name in ("rate_at_zero", "slope"))
    )
    _levels(
        pl.DataFrame({"pixel": frame["channel"], "level": level}).fill_nan(None), "pixel", target, options
    )


STEPS = (gain, led, dc, timing, template)
