"""Verbs for noise scans and the equalisation: `noise decode`, `noise fit`, `equalise`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from firstlight.cli.common import Group, json_option
from firstlight.errors import InputError, InputsRefusedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from firstlight.data.schema import Table
    from firstlight.detectors.velo.equalisation import Floats
    from firstlight.detectors.velo.noise import Moments, NoiseScan

__all__ = ["equalise", "noise"]

_RULES = ("cubic", "linear15", "legacy16")


@click.group(cls=Group)
def noise() -> None:
    """Noise scans: decode raw files, fit the noise of each pixel."""


def _scan_options(output: str) -> Callable[[Any], Any]:
    """Add what both verbs have."""

    def add(command: Any) -> Any:
        options = (
            click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path)),
            click.option("--output", "-o", type=click.Path(path_type=Path), default=output, show_default=True, help="Folder."),
            click.option("--allow-bad", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Tolerate N refused files."),
            json_option,
            click.option("--quiet", "-q", is_flag=True, help="No summary."),
        )  # fmt: skip
        for option in reversed(options):
            command = option(command)
        return command

    return add


@noise.command()
@_scan_options("velo-noise")
def decode(files: tuple[Path, ...], output: Path, allow_bad: int, as_json: bool, quiet: bool) -> None:
    """Decode raw noise scans: counts, hit-weighted means and widths.

    FILES are ECS dumps (.dat or .dat.xz); of a scan in several parts one of them is enough. For each scan NAME the
    folder gets NAME_Noise_Mean.csv and NAME_Noise_Width.csv as the original writes them, and NAME_counts.npz.
    """

    def work(name: str, scan: NoiseScan) -> dict[str, Any]:
        from firstlight.detectors.velo.noise import moments

        found = moments(scan)
        written = [*_write_moments(output, name, found), _write_counts(output / f"{name}_counts.npz", scan)]
        return {**_facts(scan, found), "files": [path.name for path in written]}

    _each(files, work, allow_bad=allow_bad, as_json=as_json, quiet=quiet)


@noise.command()
@_scan_options("velo-noise")
@click.option(
    "--window",
    type=click.FloatRange(min=1.5),
    default=3.5,
    show_default=True,
    help="Use readings within so many widths of the mean.",
)
@click.option(
    "--pixel",
    nargs=2,
    type=click.IntRange(0, 255),
    metavar="ROW COLUMN",
    help="Pixel that is shown with its fit; a typical one by default.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads; all processors by default.")
@click.option("--no-plots", is_flag=True, help="No picture.")  # fmt: skip
def fit(
    files: tuple[Path, ...], output: Path, allow_bad: int, as_json: bool, quiet: bool, window: float,
    pixel: tuple[int, int] | None, threads: int | None, no_plots: bool,
) -> None:  # fmt: skip
    """Fit the noise of each pixel, with counters that stop at 63 taken into account.

    FILES as for decode. For each scan NAME the folder gets NAME_noise_fits.parquet with a row for each pixel,
    NAME_noise_groups.csv with mean widths of groups of pixels, NAME_noise.png, and the CSV files of decode.
    """

    def work(name: str, scan: NoiseScan) -> dict[str, Any]:
        from firstlight.detectors.velo.noise import fit_noise, moments, width_groups
        from firstlight.files import atomic

        found = moments(scan)
        fits = fit_noise(scan, window=window, threads=threads)
        written = _write_moments(output, name, found)
        written += [output / f"{name}_noise_fits.parquet", output / f"{name}_noise_groups.csv"]
        with atomic(written[-2]) as temporary:
            fits.frame.write_parquet(temporary)
        with atomic(written[-1]) as temporary:
            width_groups(fits).frame.write_csv(temporary, float_precision=4)
        if not no_plots:
            from firstlight.detectors.velo.views_noise import noise_overview
            from firstlight.view.save import save_canvas

            canvas = noise_overview(scan, fits, pixel)
            written.append(save_canvas(canvas, output / f"{name}_noise.png", 110))
        return {**_facts(scan, found), **_fit_facts(fits), "files": [path.name for path in written]}

    _each(files, work, allow_bad=allow_bad, as_json=as_json, quiet=quiet)


def _each(
    files: Sequence[Path], work: Callable[[str, NoiseScan], dict[str, Any]], *, allow_bad: int, as_json: bool, quiet: bool
) -> None:  # fmt: skip
    """Do one thing with each scan, tell the results, and then what was refused."""
    refused: dict[str, InputError] = {}
    results = []
    for name, scan in _scans(files, refused):
        results.append({"name": name, **work(name, scan)})
        if not (as_json or quiet):
            _say(results[-1])
    if as_json:
        bad = [{"file": file, "reason": str(error)} for file, error in refused.items()]
        click.echo(json.dumps({"scans": results, "refused": bad}, indent=1))
    if len(refused) > allow_bad:
        if len(files) == 1:
            raise next(iter(refused.values()))
        reasons = "".join(f"\n  {error}" for error in refused.values())
        what = f"{len(refused)} of {len(files)} files were refused:{reasons}"
        raise InputsRefusedError(what, hint=f"--allow-bad {len(refused)} to tolerate them")


def _scans(files: Sequence[Path], refused: dict[str, InputError]) -> Iterator[tuple[str, NoiseScan]]:
    """Yield each scan once, with a name of its own."""
    from firstlight.detectors.velo.noise import decode as read

    done: set[tuple[Path, str]] = set()
    names: set[str] = set()
    for path in files:
        try:
            scan = read(path)
        except InputError as error:
            refused[str(path)] = error
            continue
        key = (path.resolve().parent, scan.name.full)
        if key in done and scan.name.parts > 1:
            continue
        done.add(key)
        base = scan.name.full if scan.name.short in names else scan.name.short
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.add(name)
        yield name, scan


def _write_moments(output: Path, name: str, found: Moments) -> list[Path]:
    from firstlight.detectors.velo.equalisation import write_matrix

    return [
        write_matrix(output / f"{name}_Noise_Mean.csv", found.whole_mean, form="%04d", separator=", "),
        write_matrix(output / f"{name}_Noise_Width.csv", found.whole_width, form="%05.2f", separator=", "),
    ]


def _write_counts(path: Path, scan: NoiseScan) -> Path:
    import numpy as np

    from firstlight.files import atomic

    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, thresholds=scan.thresholds, counts=scan.counts)
    return path


def _facts(scan: NoiseScan, found: Moments) -> dict[str, Any]:
    import numpy as np

    known = found.mean[np.isfinite(found.mean)]
    return {
        "inputs": list(scan.files),
        "n_thresholds": int(scan.thresholds.size),
        "first_threshold": int(scan.thresholds[0]),
        "last_threshold": int(scan.thresholds[-1]),
        "hits": scan.total,
        "silent_pixels": scan.n_silent,
        "readings_at_63": scan.n_saturated,
        "truncated_low": int(found.truncated_low.sum()),
        "truncated_high": int(found.truncated_high.sum()),
        "moment_mean": float(known.mean()) if known.size else None,
        "moment_mean_spread": float(known.std()) if known.size else None,
        "notes": list(scan.notes),
    }


def _fit_facts(fits: Table) -> dict[str, Any]:
    good = fits.frame.filter(fits.frame["status"] == "ok")
    counts = dict(fits.frame["status"].value_counts(sort=True).iter_rows())
    quantities = {
        f"{name}_{kind}": getattr(good[name], kind)()
        for name in ("mean", "width")
        for kind in ("median", "std")
    }
    return {"status": counts, **quantities, "mean_error_median": good["mean_error"].median()}


def _say(result: dict[str, Any]) -> None:
    click.echo(
        f"{result['name']}: {result['n_thresholds']} thresholds, {result['first_threshold']} to {result['last_threshold']} DAC"
    )
    lines = [
        ("hits", f"{result['hits']:,}"),
        ("pixels without a hit", f"{result['silent_pixels']:,}"),
        ("readings at 63", f"{result['readings_at_63']:,}"),
        ("truncated pixels", f"{result['truncated_low']:,} at the lowest threshold, {result['truncated_high']:,} at the highest"),
    ]  # fmt: skip
    if result["moment_mean"] is not None:
        lines.append(
            ("hit-weighted mean", f"{result['moment_mean']:.3f} ± {result['moment_mean_spread']:.3f} DAC")
        )
    if "status" in result:
        lines += [("fitted", ", ".join(f"{count:,} {status}" for status, count in result["status"].items()))]
        if result["mean_median"] is not None:
            lines += [
                ("fitted mean", f"median {result['mean_median']:.2f} DAC, typical error {result['mean_error_median']:.2f} DAC"),
                ("fitted width", f"median {result['width_median']:.2f} DAC"),
            ]  # fmt: skip
    for label, text in lines:
        click.echo(f"  {label:<22} {text}")
    for note in result["notes"]:
        click.echo(f"  note: {note}")
    click.echo(f"  wrote {', '.join(result['files'])}")


@dataclass(frozen=True)
class _End:
    """Noise means and widths at one end of the trims, and the chip that a file name says."""

    mean: Floats
    width: Floats | None
    chip: str
    note: str


@click.command()
@click.argument("trim0", type=click.Path(path_type=Path))
@click.argument("trimF", metavar="TRIMF", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default="velo-equalisation",
    show_default=True,
    help="Folder.",
)
@click.option(
    "--rule",
    type=click.Choice(_RULES),
    default="linear15",
    show_default=True,
    help="What lies between trim 0 and trim 15.",
)
@click.option("--target", type=float, metavar="DAC", help="Aim; half-way between the two scans by default.")
@click.option(
    "--means",
    "kind",
    type=click.Choice(["fit", "moments", "original"]),
    help="Means of raw scans: fitted (the default), hit-weighted, or cut to whole numbers as in the original (the default of legacy16).",
)
@click.option(
    "--prefix", help="Module and chip in the names of the files; from the names of the inputs by default."
)
@json_option
@click.option("--quiet", "-q", is_flag=True, help="No summary.")  # fmt: skip
def equalise(
    trim0: Path, trimf: Path, output: Path, rule: str, target: float | None, kind: str | None, prefix: str | None,
    as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Choose the trim of each pixel from noise scans at trim 0 and trim 15, and write all files of the equalisation.

    TRIM0 and TRIMF are raw scans (.dat, .dat.xz) or means (..._Noise_Mean.csv). Masked pixels get the codes 1 to 6
    of the original.
    """
    import numpy as np

    from firstlight.detectors.velo.equalisation import Equalisation, write_equalisation
    from firstlight.detectors.velo.trims import compute_trims

    means = kind or ("original" if rule == "legacy16" else "fit")
    low, high = _end(trim0, means, rule), _end(trimf, means, rule)
    chip = prefix or _chip(trim0, low.chip, trimf, high.chip)
    trims = compute_trims(low.mean, high.mean, rule, target)
    # codes 1 to 3 are pixels that did not answer; the others have means that no trim brings to the target
    answered = np.isin(trims.mask, (1, 2, 3), invert=True)
    masked = float((trims.mask[answered] > 0).mean()) if answered.any() else 1.0
    if masked > 0.5 or not np.nanmedian(high.mean - low.mean) > 0:
        what = f"{masked:.0%} of the pixels that answer would be masked: these two scans do not equalise the chip"
        hint = (
            "TRIM0 first, then TRIMF, of one chip at one temperature; without --target where it is far away"
        )
        raise UsageError(what, where=trim0, hint=hint)
    found = Equalisation(
        chip, mask=trims.mask, trim=trims.trim, trim0_mean=low.mean, trimF_mean=high.mean, trim0_width=low.width,
        predicted_mean=trims.predicted,
    )  # fmt: skip
    paths = write_equalisation(output, found)
    notes = [*dict.fromkeys(note for note in (low.note, high.note) if note)]
    if low.width is None:
        notes.append("no widths: the raw scan at trim 0, or its _Noise_Width.csv beside it, has them")
    result = {**_trim_facts(chip, found, trims.target), "rule": rule, "means": means, "notes": notes}
    result["files"] = [path.name for path in paths]
    if as_json:
        click.echo(json.dumps(result, indent=1))
    elif not quiet:
        _say_trims(result)


def _end(path: Path, means: str, rule: str) -> _End:
    import numpy as np

    from firstlight.detectors.velo.equalisation import read_matrix, uncut
    from firstlight.detectors.velo.noise import decode as read
    from firstlight.detectors.velo.noise import fit_noise, moments

    if path.suffix == ".csv":
        mean = read_matrix(path)
        mean[mean == 0] = np.nan
        beside = path.with_name(path.name.replace("_Noise_Mean", "_Noise_Width"))
        width = read_matrix(beside) if beside != path and beside.is_file() else None
        chip = path.name.split("_Trim")[0] if "_Trim" in path.name else ""
        exact = mean if rule == "legacy16" else uncut(mean)
        note = "" if exact is mean else "the means were cut to whole numbers: 0.5 DAC was added"
        return _End(exact, width, chip, note)
    scan = read(path)
    found = moments(scan)
    if means == "original":
        whole = np.where(found.hits > 0, found.whole_mean, np.nan)
        return _End(whole, found.whole_width, scan.name.chip, "")
    if means == "moments":
        return _End(found.mean, found.whole_width, scan.name.chip, "")
    fits = fit_noise(scan).frame
    good = (fits["status"] == "ok").to_numpy()
    missing = int((~good & (found.hits > 0)).sum())
    note = (
        f"{path.name}: {missing:,} pixels without a fitted mean have the hit-weighted one" if missing else ""
    )
    return _End(np.where(good, fits["mean"].to_numpy(), found.mean), found.whole_width, scan.name.chip, note)


def _chip(trim0: Path, low: str, trimF: Path, high: str) -> str:
    if low and high and low != high:
        what = f"one scan is of {low}, the other of {high}"
        raise InputError(
            what, where=trimF, hint=f"two scans of one chip, or --prefix {low} if the names are wrong"
        )
    if not (low or high):
        what = "the names of the files do not say which chip it is"
        raise UsageError(what, where=trim0, hint="--prefix Module0_VP3-1")
    return low or high


def _trim_facts(chip: str, found: Any, target: float) -> dict[str, Any]:
    import numpy as np

    from firstlight.detectors.velo.trims import MASK_CODES

    good = found.mask == 0

    def distribution(values: Floats) -> dict[str, float | None]:
        known = values[good & np.isfinite(values)]
        return {
            "mean": float(known.mean()) if known.size else None,
            "spread": float(known.std(ddof=1)) if known.size > 1 else None,
        }

    codes = {str(code): int((found.mask == code).sum()) for code in range(1, len(MASK_CODES))}
    return {
        "prefix": chip,
        "target": target,
        "trim0": distribution(found.trim0_mean),
        "trimF": distribution(found.trimF_mean),
        "predicted": distribution(found.predicted_mean),
        "masked": int((~good).sum()),
        "mask_codes": {code: number for code, number in codes.items() if number},
    }


def _say_trims(result: dict[str, Any]) -> None:
    from firstlight.detectors.velo.trims import MASK_CODES

    click.echo(f"{result['prefix']}: trims by the rule {result['rule']}")
    for label, name in (("trim 0", "trim0"), ("trim 15", "trimF"), ("expected", "predicted")):
        values = result[name]
        if values["mean"] is not None:
            spread = "" if values["spread"] is None else f" ± {values['spread']:.1f}"
            click.echo(f"  {label:<14} {values['mean']:.1f}{spread} DAC")
    click.echo(f"  {'target':<14} {result['target']:.1f} DAC")
    click.echo(f"  {'masked':<14} {result['masked']:,}")
    for code, number in result["mask_codes"].items():
        click.echo(f"    {code}: {number:,} {MASK_CODES[int(code)]}")
    for note in result["notes"]:
        click.echo(f"  note: {note}")
    click.echo(f"  wrote {', '.join(result['files'])}")
