"""The scripts of the original as verbs: their names, options, defaults and files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firstlight.detectors.digicam.legacy.scripts import Raw, Script

__all__ = ["ORIGINAL", "finish_script", "raw_of"]

Command = Any
_BASENAME = "CameraDigicam@localhost.localdomain_0_000.%s.fits.fz"


def _options(*options: Any) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _common(files: str, evt_max: int | None, n_per_batch: int) -> Callable[[Command], Command]:
    """Add what all scripts of the original have, with the defaults of one."""
    events = "all" if evt_max is None else f"{evt_max}"
    return _options(
        click.argument("place", required=False, metavar="[DIRECTORY]", type=click.Path(path_type=Path)),
        click.option("--quiet", "-q", is_flag=True, help="Say nothing."),
        click.option("--create_histo", "-c", "create", is_flag=True, help="Create the histogram from raw files."),
        click.option("--file_list", "-f", default=files, metavar="NUMBERS", help=f"Numbers of the raw files, with commas.  [default: {_short(files)}]"),
        click.option("--evt_max", type=click.FloatRange(1), default=evt_max, metavar="N", help=f"Events that are read at most, of all files together.  [default: {events}]"),
        click.option("--n_evt_per_batch", "-n", "per_batch", type=click.IntRange(1), default=n_per_batch, show_default=True, help="Events that are read at a time; the numbers do not depend on it."),
        click.option("--file_basename", "--file_namebase", "basename", default=_BASENAME, show_default=True, help="Name of raw files with %s in the place of the number; without it the name is base, number and ending."),
        click.option("--directory", "-d", type=click.Path(path_type=Path), help="Directory of the raw files.  [default: .]"),
        click.option("--output_directory", type=click.Path(path_type=Path), help="Directory of histogram and fit files.  [default: .]"),
        click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes that read."),
        click.option("--force", is_flag=True, help="Make all again although nothing changed."),
        click.option("--no-plots", is_flag=True, help="No pictures."),
    )  # fmt: skip


def _short(files: str) -> str:
    words = files.split(",")
    return files if len(words) < 6 else f"{words[0]},...,{words[-1]}"


def _fit_option(command: Command) -> Command:
    return click.option("--perform_fit", "-p", "perform", is_flag=True, help="Fit the saved histogram.")(
        command
    )


def _file_options(histogram: str, fit: str) -> Callable[[Command], Command]:
    return _options(
        click.option("--histo_filename", default=histogram, show_default=True, help="Name of the histogram file."),
        click.option("--fit_filename", default=fit, show_default=True, help="Name of the fit file."),
    )  # fmt: skip


_sector_option = click.option(
    "--cts_sector", type=click.IntRange(1, 3), help="Sector in front of which the light source stood: others are marked as not lit."
)  # fmt: skip


def _directories(options: dict[str, Any]) -> tuple[Path, Path]:
    """Return the directories of raw files and of results.

    The examples of the original's README give one without an option: that of the results where nothing is created, else that
    of the raw files if there is no -d.
    """
    place = options.pop("place")
    raw, output = options.pop("directory"), options.pop("output_directory")
    if place is not None:
        creates = options["create"] or options.get("time", False)
        if creates and raw is None:
            raw = place
        elif output is None:
            output = place
        else:
            what = f"a third directory is given: {place}"
            raise UsageError(what, hint="-d for raw files, --output_directory for results")
    return raw or Path(), output or Path()


def raw_of(directory: Path, basename: str, numbers: Sequence[str], **more: Any) -> Callable[[], Raw]:
    """Return what looks for the raw files of a script, once they are needed.

    Parameters
    ----------
    directory, basename, numbers
        As of `legacy.file_names.listed_files`.
    **more
        Further fields of `legacy.scripts.Raw`.
    """

    def found() -> Raw:
        from firstlight.detector import get_detector
        from firstlight.detectors.digicam.legacy.file_names import listed_files
        from firstlight.detectors.digicam.legacy.scripts import Raw

        files = listed_files(directory, basename, numbers, get_detector("digicam").suffixes)
        return Raw(tuple(files), **more)

    return found


def _told(quiet: bool) -> Callable[[str], None]:
    return (lambda _: None) if quiet else click.echo


def finish_script(
    script: Script, do: Callable[[], None], draw: Callable[[], list[Path]] | None, *, quiet: bool
) -> None:
    """Do what a script was asked for, draw what there is, and tell.

    Parameters
    ----------
    script : Script
        What is asked for.
    do : callable
        Makes histograms and fits.
    draw : callable, optional
        Draws the saved files and returns the pictures.
    quiet : bool
        Whether nothing is told.

    Raises
    ------
    InputsRefusedError
        If raw files were refused; all others were used.
    """
    if script.acts:
        do()
    if draw is not None:
        pictures = draw()
        if not quiet:
            folders = sorted({path.parent for path in pictures})
            for folder in folders:
                number = sum(path.parent == folder for path in pictures)
                click.echo(f"  {number} picture{'s' * (number != 1)} in {folder}")
    from firstlight.detectors.digicam.legacy.scripts import run_folder

    run = run_folder(script.histogram_path)
    if not (quiet or script.acts) and (run / "run.json").is_file():
        click.echo(f"  all that is known of the run: firstlight report {run}")
    script.end()


def _fields(options: dict[str, Any], configuration: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a script from the options that all have."""
    from firstlight.cli.common import progress_from
    from firstlight.detectors.digicam.legacy.file_names import parse_list
    from firstlight.run.execution import Executor
    from firstlight.run.finishing import Settings

    directory, output = _directories(options)
    raw = raw_of(
        directory, options["basename"], parse_list(options["file_list"]),
        evt_max=None if options["evt_max"] is None else int(options["evt_max"]),
        per_batch=options["per_batch"], configuration=configuration,
    )  # fmt: skip
    settings = Settings(
        executor=Executor(jobs=options["jobs"]),
        progress=progress_from({"quiet": options["quiet"]}),
        force=options["force"],
        plots=False,
        command=("firstlight", *sys.argv[1:]),
    )
    return {
        "output": output, "histogram": options["histo_filename"], "fit": options["fit_filename"],
        "create": options["create"], "perform": options["perform"], "raw": raw, "settings": settings,
        "say": _told(options["quiet"]),
    }  # fmt: skip


def _drawing(
    script: Script, kind: str, options: dict[str, Any], **more: Any
) -> Callable[[], list[Path]] | None:
    def draw() -> list[Path]:
        from firstlight.detectors.digicam.legacy.pictures import draw_files

        return draw_files(script, kind, **more)

    return None if options["no_plots"] else draw


def _script(name: str) -> Callable[[Any], click.Command]:
    """Make a verb of the name that a script had."""

    def make(function: Any) -> click.Command:
        command: click.Command = click.command(name)(function)
        command.short_help = f"original: {(function.__doc__ or '').strip().splitlines()[0]}"
        return command

    return make


@_script("analyse_hvoff")
@_common("109,110,111", 20000, 300)
@_fit_option
@_sector_option
@_file_options("adc_hv_off.npz", "adc_hv_off_fit.npz")
def analyse_hvoff(cts_sector: int | None, **options: Any) -> None:
    """Histogram of all samples without high voltage, and its fit: baseline and electronics noise.

    With neither -c nor -p the saved files are displayed. DIRECTORY is that of the saved files, or with -c that of the raw
    files.

    \b
    Examples:
      firstlight digicam analyse_hvoff -c -p -d /my/data/dir --file_basename run_%s.fits.fz -f 0,1,2 \\
          --output_directory /my/output/dir
      firstlight digicam analyse_hvoff -p /my/output/dir
      firstlight digicam analyse_hvoff /my/output/dir
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.digicam.legacy.scripts import Script, analyse_samples

    configuration = {} if cts_sector is None else {"cts_sector": cts_sector}
    script = Script(**_fields(options, configuration))
    finish_script(
        script,
        lambda: analyse_samples(script, "hv_off"),
        _drawing(script, "hv_off", options),
        quiet=options["quiet"],
    )


@_script("analyse_dark")
@_common("117,118,119,120,121", 50000, 1000)
@_fit_option
@_file_options("adc_hv_on.npz", "adc_hv_on_fit.npz")
def analyse_dark(**options: Any) -> None:
    """Histogram of all samples in the dark, and its fit: rate, crosstalk, gain, baseline and noise.

    The fit is the one that the original never got: pulses at random times, sampled every 4 ns (compound Poisson process).

    \b
    Examples:
      firstlight digicam analyse_dark -c -p -d raw -f 117,118,119 --output_directory results
      firstlight digicam analyse_dark -p results
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.digicam.legacy.scripts import Script, analyse_samples

    script = Script(**_fields(options, {}))
    finish_script(
        script,
        lambda: analyse_samples(script, "dark"),
        _drawing(script, "dark", options),
        quiet=options["quiet"],
    )


@_script("analyse_dark_spe")
@_common("117,118,119,120,121", 50000, 1000)
@_fit_option
@click.option("--input_fit_filename", default="adc_hv_off_fit.npz", show_default=True, help="Fit file of analyse_hvoff, in the output directory.")  # fmt: skip
@_file_options("spe_hv_on.npz", "spe_hv_on_fit.npz")
def analyse_dark_spe(input_fit_filename: str, **options: Any) -> None:
    """Heights of pulses found in the dark, and their fit: gain and crosstalk.

    Needs the fit of analyse_hvoff.

    \b
    Examples:
      firstlight digicam analyse_dark_spe -c -p -d raw --output_directory results
      firstlight digicam analyse_dark_spe -p results --input_fit_filename adc_hv_off_fit.npz
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.digicam.legacy.scripts import Script, analyse_pulses

    script = Script(**_fields(options, {}))
    draw = _drawing(script, "spe", options, input_fit=input_fit_filename)
    finish_script(script, lambda: analyse_pulses(script, input_fit_filename), draw, quiet=options["quiet"])


@_script("analyse_ac_dac_scan")
@_common(",".join(map(str, range(124, 150))), None, 1000)
@click.option(
    "--create_time_histo",
    "-t",
    "time",
    is_flag=True,
    help="Create the histogram of highest samples from raw files.",
)
@click.option("--create_full_histo", "-k", "full", is_flag=True, help="Add up the levels with light.")
@click.option(
    "--perform_fit_gain", "-g", "gain", is_flag=True, help="Fit all levels together: gain, sigma_e, sigma_1."
)
@click.option("--perform_fit_mu", "-p", "perform", is_flag=True, help="Fit the light of every level.")
@click.option("--perform_fit_acled", "-a", "led", is_flag=True, help="Fit the light against the level.")
@click.option(
    "--scan_level",
    "-l",
    metavar="LEVELS",
    help="Levels [DAC] with commas; exactly three numbers are first,last,step.  [default: 0 to 120 and 130 to 195 by 5, 200 to 600 by 10]",
)
@click.option(
    "--events_per_level",
    "-e",
    type=click.IntRange(1),
    default=5000,
    show_default=True,
    help="Events of each level, by their numbers.",
)
@_file_options("mpe_0_195_5_200_600_10.npz", "mpe_scan_0_195_5_200_600_10_fit.npz")
@click.option(
    "--peak_histo_filename",
    default="peaks.npz",
    show_default=True,
    help="Name of the file of highest samples; where it is there, they say where the light is.",
)
@click.option(
    "--led_fit_filename",
    default="led_0_195_5_200_600_10_fit.npz",
    show_default=True,
    help="Name of the fit file of light against level.",
)
@click.option(
    "--input_fit_hvoff_filename",
    metavar="TEXT",
    help="Fit file of analyse_hvoff, in the output directory.  [default: adc_hv_off_fit.npz if it is there]",
)
@click.option(
    "--input_fit_dark_filename",
    metavar="TEXT",
    help="Fit file of analyse_dark_spe or analyse_dark: dark counts are then inside of the fits.  [default: spe_hv_on_fit.npz if it is there]",
)
@_sector_option
def analyse_ac_dac_scan(
    scan_level: str | None,
    events_per_level: int,
    cts_sector: int | None,
    **options: Any,
) -> None:  # fmt: skip
    """Light of flashes at every level of a scan, gain from all of them, light of each, light against level.

    \b
    Examples:
      firstlight digicam analyse_ac_dac_scan -c -t -k -d raw -f 124,125 -l 0,600,10 -e 5000 --output_directory results
      firstlight digicam analyse_ac_dac_scan -g -p -a results
      firstlight digicam analyse_ac_dac_scan results
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.digicam.legacy.file_names import DEFAULT_LEVELS, parse_levels
    from firstlight.detectors.digicam.legacy.scripts_scan import Scan, analyse_scan

    levels = tuple(map(float, DEFAULT_LEVELS)) if scan_level is None else parse_levels(scan_level)
    configuration: dict[str, Any] = {"scan_levels": levels, "events_per_level": events_per_level}
    if cts_sector is not None:
        configuration["cts_sector"] = cts_sector
    names = ("time", "full", "gain", "led")
    script = Scan(
        **_fields(options, configuration),
        **{name: options[name] for name in names},
        peaks=options["peak_histo_filename"],
        led_fit=options["led_fit_filename"],
        input_hv_off=options["input_fit_hvoff_filename"],
        input_dark=options["input_fit_dark_filename"],
        levels=levels,
    )
    finish_script(
        script, lambda: analyse_scan(script), _drawing(script, "scan", options), quiet=options["quiet"]
    )


ORIGINAL = (analyse_hvoff, analyse_dark, analyse_dark_spe, analyse_ac_dac_scan)
