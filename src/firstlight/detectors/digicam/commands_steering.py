"""The verb `steer`: an analysis as a YAML or TOML file says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import progress_from
from firstlight.errors import ConfigError, InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from firstlight.detectors.digicam.legacy.scripts import Script
    from firstlight.detectors.digicam.steering import Steering

__all__ = ["steer"]

# names of histogram files where none is given
_USUAL = {
    "hv_off": "adc_hv_off.npz", "dark": "adc_hv_on.npz", "spe": "spe_hv_on.npz", "scan": "mpe.npz", "gain": "full_mpe.npz",
    "time": "peaks.npz", "led": "ac_led.npz",
}  # fmt: skip
_STEPS = {"dc": ("hv_off", "dark", "dc"), "timing": ("timing",), "template": ("timing", "template")}


@click.command("steer")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "--config",
    "--yaml_config",
    "-y",
    "config",
    type=click.Path(path_type=Path),
    help="The file, as an option.",
)
@click.option(
    "--yaml_data_config",
    "-i",
    "beneath",
    type=click.Path(path_type=Path),
    help="A second file with what analyses share; the first one wins.",
)
@click.option(
    "--create_histo", "-c", is_flag=True, default=None, help="Create the histogram, whatever the file says."
)
@click.option("--perform_analysis", "-a", is_flag=True, default=None, help="Fit, whatever the file says.")
@click.option("--display_results", "-d", is_flag=True, default=None, help="Draw, whatever the file says.")
@click.option("--save_to_csv", "-s", is_flag=True, help="Write the fit as CSV beside the fit file.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes that read.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing.")
def steer(
    file: Path | None, config: Path | None, beneath: Path | None, save_to_csv: bool, jobs: int, quiet: bool, **given: Any
) -> None:  # fmt: skip
    """Do the analysis that a YAML or TOML file describes, with the keys of the original's script_analysis.py.

    An unknown key is refused. A key that changes nothing here is told with the reason.

    \b
    Example of a file:
      analysis_module: analyse_hvoff
      create_histo: True
      perform_analysis: True
      file_basename: CameraDigicam@localhost.localdomain_0_000.%d.fits.fz
      directory: raw
      file_list: [109, 110, 111]
      output_directory: results
      histo_filename: hv_off.npz
    """  # noqa: D301  (\b keeps lines as they are)
    from firstlight.detectors.digicam.steering import read_steering

    path = file or config
    if path is None or (file is not None and config is not None):
        what = "one steering file is needed"
        raise UsageError(what, hint="firstlight digicam steer FILE.yml")
    steering, parameters, needless = read_steering(path, beneath, **given)
    say: Callable[[str], None] = (lambda _: None) if quiet else click.echo
    for key, why in needless.items():
        say(f"  {key} changes nothing: {why}")
    if steering.job in _STEPS:
        _process(steering, parameters, jobs, quiet, path)
        return
    script, do = _script(steering, parameters, jobs, quiet, path)
    from firstlight.detectors.digicam.commands_original import finish_script

    draw = _drawing(steering, script) if steering.display_results or not script.acts else None
    finish_script(script, do, draw, quiet=quiet)
    if save_to_csv:
        _to_csv(script, steering, say)


def _fit_name(name: str) -> str:
    """Return the name of the fit file that belongs to a histogram file."""
    stem = name.removesuffix(".npz")
    return name if stem.endswith("_fit") else f"{stem}_fit.npz"


def _raw(steering: Steering, configuration: dict[str, Any], where: Path) -> Any:
    from firstlight.detectors.digicam.commands_original import raw_of
    from firstlight.detectors.digicam.legacy.file_names import BASENAME

    if (steering.create_histo or steering.job in _STEPS) and not steering.file_list:
        what = "the key 'file_list' is missing: raw files are needed"
        raise ConfigError(what, where=where)
    return raw_of(
        steering.directory, steering.file_basename or BASENAME, steering.file_list, evt_max=steering.evt_max,
        evt_min=steering.evt_min, per_batch=steering.n_evt_per_batch, configuration=configuration,
    )  # fmt: skip


def _configuration(steering: Steering, parameters: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = dict(parameters)
    if steering.cts_sector is not None:
        found["cts_sector"] = steering.cts_sector
    if steering.central_sample is not None:
        found["sample"] = steering.central_sample
    if steering.scan_level:
        found |= {"scan_levels": steering.scan_level, "events_per_level": steering.events_per_level}
    return found


def _settings(steering: Steering, jobs: int, quiet: bool) -> Any:
    from firstlight.run.execution import Executor
    from firstlight.run.finishing import Settings

    return Settings(
        executor=Executor(jobs=jobs),
        progress=progress_from({"quiet": quiet, "verbose": steering.verbose and not quiet}),
        plots=False,
        command=("firstlight", *sys.argv[1:]),
    )


def _script(
    steering: Steering, parameters: dict[str, Any], jobs: int, quiet: bool, where: Path
) -> tuple[Script, Callable[[], None]]:
    """Return the script of the original that does what a file asks for."""
    from firstlight.detectors.digicam.legacy import scripts, scripts_scan

    configuration = _configuration(steering, parameters)
    histogram = steering.histo_filename or _USUAL[steering.job]
    fields: dict[str, Any] = {
        "output": steering.output_directory, "histogram": histogram,
        "fit": steering.fit_filename or _fit_name(histogram), "create": steering.create_histo,
        "perform": steering.perform_analysis, "raw": _raw(steering, configuration, where),
        "settings": _settings(steering, jobs, quiet), "parameters": parameters,
        "say": (lambda _: None) if quiet else click.echo,
    }  # fmt: skip
    if steering.job in ("hv_off", "dark"):
        script = scripts.Script(**fields)
        return script, lambda: scripts.analyse_samples(script, steering.job)
    if steering.job == "spe":
        script = scripts.Script(**fields)
        return script, lambda: scripts.analyse_pulses(
            script, _fit_name(steering.hv_off_histo_filename or "adc_hv_off.npz")
        )
    scan = scripts_scan.Scan(**{**fields, **_of_scan(steering, histogram)})
    return scan, lambda: scripts_scan.analyse_scan(scan)


def _of_scan(steering: Steering, histogram: str) -> dict[str, Any]:
    """Return the further fields of the script of a scan: which of its parts an analysis is."""
    job, create, perform = steering.job, steering.create_histo, steering.perform_analysis
    levels = histogram if job == "scan" else steering.mpe_histo_filename or "mpe.npz"
    fit = steering.fit_filename if job == "scan" and steering.fit_filename else _fit_name(levels)
    named = {
        "input_hv_off": steering.hv_off_histo_filename, "input_dark": steering.dark_histo_filename,
    }  # fmt: skip
    full = histogram if job == "gain" else steering.full_histo_filename
    return {
        "histogram": levels, "fit": fit, "create": create and job == "scan", "perform": perform and job == "scan",
        "time": create and job == "time", "full": create and (job == "gain" or (job == "scan" and bool(full))),
        "gain": perform and job == "gain", "led": perform and job == "led",
        "peaks": histogram if job == "time" else steering.synch_histo_filename or "peaks.npz",
        "led_fit": steering.fit_filename if job == "led" and steering.fit_filename else _fit_name(histogram if job == "led" else "ac_led.npz"),
        "full_name": full, "levels": steering.scan_level, "range_added": steering.mean_range_for_mpe,
        **({} if steering.mpe_max_peaks_to_fit is None else {"n_peaks": steering.mpe_max_peaks_to_fit}),
        **{key: _fit_name(name) for key, name in named.items() if name},
    }  # fmt: skip


def _drawing(steering: Steering, script: Script) -> Callable[[], list[Path]]:
    def draw() -> list[Path]:
        from firstlight.detectors.digicam.legacy.pictures import Choice, draw_files

        kind = steering.job if steering.job in ("hv_off", "dark", "spe") else "scan"
        input_fit = _fit_name(steering.hv_off_histo_filename or "adc_hv_off.npz") if kind == "spe" else ""
        return draw_files(script, kind, Choice(steering.pixel_list), input_fit=input_fit)

    return draw


def _to_csv(script: Script, steering: Steering, say: Callable[[str], None]) -> None:
    """Write the fit of an analysis as CSV."""
    from firstlight.detectors.digicam.legacy import fit_files
    from firstlight.detectors.digicam.legacy.scripts_scan import Scan
    from firstlight.files import write_text

    layouts = {
        "hv_off": fit_files.HV_OFF, "dark": fit_files.DARK, "spe": fit_files.SPE, "scan": fit_files.MPE,
        "gain": fit_files.FULL, "led": fit_files.LED,
    }  # fmt: skip
    if steering.job not in layouts:
        what = f"{steering.analysis_module} has no fit that could be written as CSV"
        raise InputError(what, where=script.output)
    path = script.fit_path
    if isinstance(script, Scan):
        path = {"gain": script.full_fit_path, "led": script.led_path}.get(steering.job, script.fit_path)
    found = fit_files.read_fit(path, layouts[steering.job])
    target = path.with_suffix(".csv")
    write_text(target, fit_files.to_frame(found).write_csv())
    say(f"  wrote {target}")


def _process(steering: Steering, parameters: dict[str, Any], jobs: int, quiet: bool, where: Path) -> None:
    """Do an analysis that the original has no histogram file of its own for: raw files to a run with one result."""
    from firstlight.cli.common import tell
    from firstlight.detectors.digicam.legacy.scripts import configuration_for, detector_for
    from firstlight.run.chain import process

    kind = "dc" if steering.job == "dc" else "led"
    raw = _raw(steering, {"kind": kind, **_configuration(steering, parameters)}, where)()
    folder = steering.output_directory / (steering.histo_filename or steering.analysis_module).removesuffix(
        ".npz"
    )
    detector = detector_for(raw.per_batch)
    run = process(
        detector, list(raw.files), folder, configuration_for(raw, detector), _settings(steering, jobs, quiet),
        max_events=raw.evt_max, where=where, steps=_STEPS[steering.job],
    )  # fmt: skip
    tell(run, as_json=False, quiet=quiet, fail_on=None)
