"""Writes dataset files: every key with a line that says what it is, and what a folder of frames says by itself."""

from __future__ import annotations

import json
import math
import os
import re
import textwrap
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.detectors.velo.channels import label_of
from firstlight.detectors.velo.dataset import Entry
from firstlight.detectors.velo.frames import format_shutter, has_frames, list_frames, parse_shutter
from firstlight.detectors.velo.options import BASELINES, MODELS, SEPARATIONS
from firstlight.errors import InputError, shown
from firstlight.run.config import StrictModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "EQUALISATION_FILES",
    "KEYS",
    "Draft",
    "dataset_text",
    "path_from",
    "scan_drafts",
    "toml_value",
    "word_of",
]

KEYS = {
    "name": "Name on the command line, -dt NAME; labels of one name belong together.",
    "label": "Temperature label, -t LABEL; stands in names of files.",
    "data": "Folder of the frames and of the equalisation files.",
    "results": "Folder of the results.",
    "collection": "File that collects the results of all datasets.",
    "prefix": "Module and chip in names of files; needed where a folder holds several.",
    "scan.shutter": "Open time in names of frames; frames of other shutters are left out. All where empty.",
    "scan.acquisitions": "Frames of each threshold; the largest number found and one where it is not given.",
    "scan.threshold": "Thresholds that belong to the scan [DAC], stop included; all that are found where it is not given.",
    "scan.exclude": "Frames to leave out: a condition on thr and acq, (thr == 1494 and acq == 18) or acq >= 50.",
    "scan.bad_frame": (
        'How corrupt frames are recognised: "auto", "none", or a number, the mean of the last column in such a frame.'
    ),
    "baseline.choice": f"Where the noise of a pixel is: {', '.join(BASELINES)}, or the path of a file.",
    "fit.model": f"Flux equation: {', '.join(MODELS)}.",
    "fit.estimator": 'Fit: "poisson", or "legacy", least squares as in the original (a threshold without hits makes a pixel bad).',
    "fit.start": "Start values in the order of the original (the position comes last); from the data where empty.",
    "fit.start_baseline": "The same where the baseline is subtracted before the fit.",
    "fit.baseline": 'Baseline subtracted "before" the fit, from the thresholds, or "after" it, from the position.',
    "fit.minimum_counts": "Pixels with fewer hits in the scan are not fitted.",
    "fit.zero_fraction": "Pixels without hits at this fraction of the thresholds, or more, are not fitted.",
    "fit.significance": "A fit with a smaller p-value is a poor one.",
    "fit.lines": "Lines of the source for two_line: energy [eV] and fraction of the photons.",
    "calibration.energy": "Energy of the photons [eV]; the original takes 5900.",
    "calibration.energy_uncertainty": "Its uncertainty [eV], common to all pixels.",
    "calibration.energy_per_pair": "Energy for one electron-hole pair [eV].",
    "calibration.energy_per_pair_uncertainty": "Its uncertainty [eV], common to all pixels.",
    "calibration.target_range": "Targets outside are not used [DAC].",
    "calibration.gain_limit": "Gains from here on are not used [e-/DAC].",
    "calibration.legacy_uncertainty": "Noise width as uncertainty of the baseline, as in the original (far too large).",
    "selection.separation": (
        f"Group of pixels: {', '.join(name for name in SEPARATIONS if name)}; all where empty. As -sep."
    ),
    "selection.legacy_rows": "Rows 15, 30, ... 255 as in the original, instead of rows 0 and 15 of every 16.",
}
# what stands in the comment of a key whose default says nothing
_EXAMPLES: dict[str, Any] = {
    "scan.acquisitions": 100,
    "scan.threshold": {"start": 1480, "stop": 1600, "step": 1},
    "scan.bad_frame": "auto",
    "prefix": "Module0_VP3-1",
}
# said once, in the table selection
_ELSEWHERE = ("fit.legacy_rows", "calibration.legacy_rows")
EQUALISATION_FILES = (
    "Matrix_Mask", "Matrix_Trim", "Trim0_Noise_Mean", "TrimF_Noise_Mean", "Trim0_Noise_Width",
    "Control_Noise_Mean", "TrimBest_Noise_Predict",
)  # fmt: skip


@dataclass
class Draft:
    """A dataset that is going to be written.

    Parameters
    ----------
    values : dict
        Nested as in the file; keys that are not there keep their defaults.
    comments : dict of str to list of str
        Further lines above a key, by its dotted name.
    notes : list of str
        Lines below the name of the dataset.
    """

    values: dict[str, Any]
    comments: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def put(self, key: str, value: Any, *comments: str) -> None:
        """Set a value by the dotted name of its key, with comments."""
        *tables, last = key.split(".")
        inner = self.values
        for table in tables:
            inner = inner.setdefault(table, {})
        inner[last] = value
        if comments:
            self.comments.setdefault(key, []).extend(comments)

    def __str__(self) -> str:
        label = self.values.get("label")
        return f"{self.values['name']} ({label})" if label else str(self.values["name"])


def toml_value(value: Any) -> str:
    """Return a value as TOML writes it.

    Raises
    ------
    TypeError
        For what TOML has no form for.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # the escapes of JSON are those of TOML, which wants delete escaped as well
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(each) for each in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml_value(each)}' for key, each in value.items())} }}"
    what = f"{type(value).__name__} has no form in TOML"
    raise TypeError(what)


def dataset_text(drafts: Sequence[Draft], head: Sequence[str] = (), *, explain_all: bool = True) -> str:
    """Return the text of a dataset file.

    Parameters
    ----------
    drafts : sequence of Draft
        One for each name and label.
    head : sequence of str
        Comments at the top of the file.
    explain_all : bool
        Explain keys and write down defaults in all datasets, or only in the first.
    """
    lines = [
        "# Datasets of threshold scans, for firstlight velo.",
        "# A [[dataset]] is one folder of frames; paths are relative to this file.",
        "# Keys behind a # have the value that is shown, or show an example; remove the # to change one.",
        *(line for text in head for line in _comment(text)),
    ]
    for index, draft in enumerate(drafts):
        lines += ["", "[[dataset]]", *(line for note in draft.notes for line in _comment(note))]
        lines += _lines(draft, explain=explain_all or index == 0)
    return "\n".join(lines) + "\n"


def _lines(draft: Draft, *, explain: bool) -> Iterator[str]:
    fields = Entry.model_fields
    tables = [name for name, field_ in fields.items() if isinstance(field_.default, StrictModel)]
    plain = [name for name in fields if name not in tables]
    defaults = {name: fields[name].get_default() for name in plain}
    defaults["results"] = f"results{draft.values['name']}"
    defaults["collection"] = "results_collection.csv"
    yield from _keys("", draft.values, defaults, draft, explain=explain)
    for table in tables:
        given = draft.values.get(table, {})
        default = fields[table].default.model_dump()
        if given or explain:
            yield from ("", f"[dataset.{table}]")
            yield from _keys(f"{table}.", given, default, draft, explain=explain)


def _keys(
    prefix: str, given: Mapping[str, Any], defaults: Mapping[str, Any], draft: Draft, *, explain: bool
) -> Iterator[str]:
    for key, default in defaults.items():
        name = f"{prefix}{key}"
        if key not in given and not explain and name not in draft.comments:
            continue
        if key not in given and name in _ELSEWHERE:
            continue
        if explain and name in KEYS:
            yield from _comment(KEYS[name])
        for line in draft.comments.get(name, ()):
            yield from _comment(line)
        if key in given:
            yield f"{key} = {toml_value(given[key])}"
        elif explain:
            yield f"# {key} = {toml_value(_EXAMPLES.get(name, default))}"


def _comment(text: str) -> list[str]:
    """Return a comment in lines of a width that can be read."""
    return [f"# {line}" for line in textwrap.wrap(text, 108, break_long_words=False, break_on_hyphens=False)]


def path_from(folder: Path, base: Path) -> str:
    """Return a path relative to a folder where it lies in it or near it, absolute elsewhere."""
    target, here = folder.absolute(), base.absolute()
    relative = os.path.relpath(target, here)
    climbs = Path(relative).parts.count("..")
    return Path(relative).as_posix() if climbs <= 1 else target.as_posix()


def word_of(text: str) -> str:
    """Return a text as it can stand in names of files."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("_.") or "scan"


@dataclass(frozen=True)
class _Frames:
    """Frames of one chip in a folder."""

    prefix: str
    shutters: Counter[str]
    threshold: NDArray[np.int64]
    acquisition: NDArray[np.int64]


def _frames_in(folder: Path) -> tuple[list[_Frames], list[str]]:
    """Return the frames in a folder by chip, those of the most frequent shutter, and what is odd about them."""
    listed = list_frames(folder)
    chips = []
    for prefix in listed.prefixes:
        own = listed.prefix == prefix
        shutters = Counter(format_shutter(float(seconds)) for seconds in listed.shutter[own])
        chosen = shutters.most_common(1)[0][0]
        own &= listed.shutter == parse_shutter(chosen)
        chips.append(_Frames(prefix, shutters, listed.threshold[own], listed.acquisition[own]))
    notes = []
    if listed.odd_names:
        notes.append(f"Names that are nearly those of frames, not read: {shown(listed.odd_names, 4)}.")
    if listed.duplicates:
        notes.append(f"There twice: {shown([' and '.join(names) for names in listed.duplicates], 3)}.")
    return chips, notes


def scan_drafts(
    folders: Sequence[Path], file: Path, name: str = "calibration", labels: Sequence[str] = ()
) -> list[Draft]:
    """Return a dataset for each folder, filled with what the names of its files say.

    Parameters
    ----------
    folders : sequence of Path
        Folders of frames.
    file : Path
        The dataset file that is going to be written; paths are relative to its folder.
    name : str
        Name of the dataset; where a folder holds several chips, one name for each of them.
    labels : sequence of str
        One for each folder; from the names of the folders where there are none.

    Raises
    ------
    InputError
        If a folder does not exist or holds no frames.
    """
    found = [(folder, *_chips(folder)) for folder in folders]
    names = list(labels) or _labels(folders)
    drafts = []
    for (folder, chips, notes), label in zip(found, names, strict=True):
        for frames in chips:
            draft = Draft(
                {"name": name, "label": label, "data": path_from(folder, file.parent)}, notes=list(notes)
            )
            if len(chips) > 1:
                draft.put("name", f"{name}_{word_of(frames.prefix)}", f"The folder holds {len(chips)} chips.")
            _describe(draft, folder, frames)
            drafts.append(draft)
    return sorted(drafts, key=lambda draft: str(draft.values["name"]))


def _chips(folder: Path) -> tuple[list[_Frames], list[str]]:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "no such folder"
        parent = folder.parent
        known = sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else None
        raise InputError(what, where=folder, known=known)
    chips, notes = _frames_in(folder)
    if not chips:
        below = sorted(path.name for path in folder.iterdir() if has_frames(path))
        what = "the folder holds no frame of a threshold scan"
        hint = f"the folders with frames in it: {' '.join(below)}" if below else (
            "frames are called Module0_VP3-1_ECS_data_ST_2s621ms_THR_1494_18.csv"
        )  # fmt: skip
        raise InputError(what, where=folder, hint=hint)
    return chips, notes


def _labels(folders: Sequence[Path]) -> list[str]:
    """Return a label for each folder: the temperature in its name, or its name where that is not unique."""
    whole = [folder.absolute() for folder in folders]
    guessed = [label_of(folder) or word_of(folder.name) for folder in whole]
    often = Counter(guessed)
    labels = [
        label if often[label] == 1 else word_of(folder.name)
        for label, folder in zip(guessed, whole, strict=True)
    ]
    often = Counter(labels)
    numbers: Counter[str] = Counter()
    for index, label in enumerate(labels):
        if often[label] > 1:
            numbers[label] += 1
            labels[index] = f"{label}-{numbers[label]}"
    return labels


def _describe(draft: Draft, folder: Path, frames: _Frames) -> None:
    """Fill in what the names of the frames and the equalisation files say."""
    draft.put("prefix", frames.prefix)
    shutter, number = frames.shutters.most_common(1)[0]
    others = [f"{text} ({count} frames)" for text, count in frames.shutters.items() if text != shutter]
    comments = (
        [f"Found: {number} frames. Other shutters in the folder: {', '.join(others)}."] if others else []
    )
    draft.put("scan.shutter", shutter, *comments)
    thresholds = np.unique(frames.threshold)
    acquisitions = int(frames.acquisition.max()) + 1
    expected = thresholds.size * acquisitions
    present = np.unique(np.stack([frames.threshold, frames.acquisition]), axis=1).shape[1]
    lacks = f"; {expected - present} of {expected} frames are missing" if present < expected else ""
    draft.put(
        "scan.acquisitions", acquisitions, f"Found: {present} frames at {thresholds.size} thresholds{lacks}."
    )
    step = _step(thresholds)
    first, last = int(thresholds[0]), int(thresholds[-1])
    grid = np.arange(first, last + 1, step)
    gaps = grid[~np.isin(grid, thresholds)]
    gap = [f"Thresholds without any frame: {_some(gaps)}."] if gaps.size else []
    draft.put("scan.threshold", {"start": first, "stop": last, "step": step}, *gap)
    draft.comments["baseline.choice"] = _equalisation(folder, frames.prefix)
    if (folder / "dataset.json").is_file():
        draft.notes.append(
            f"Settings stand in a file there, which can be taken over: firstlight velo convert {folder / 'dataset.json'}"
        )


def _step(thresholds: NDArray[np.int64]) -> int:
    """Return the most frequent distance of thresholds if all lie on its grid, else the largest that fits all."""
    if thresholds.size < 2:
        return 1
    distances = np.diff(thresholds)
    values, often = np.unique(distances, return_counts=True)
    step = int(values[np.argmax(often)])
    return step if not (distances % step).any() else int(np.gcd.reduce(distances))


def _some(values: NDArray[np.int64], limit: int = 8) -> str:
    text = ", ".join(str(value) for value in values[:limit])
    return text if values.size <= limit else f"{text}, ... ({values.size} in all)"


def _equalisation(folder: Path, prefix: str) -> list[str]:
    """Return which equalisation files are there, and the baseline that follows."""
    there = [kind for kind in EQUALISATION_FILES if (folder / f"{prefix}_{kind}.csv").is_file()]
    lines = [f"Found: {', '.join(there) or 'no equalisation file of this chip'}."]
    if "Matrix_Mask" not in there:
        lines.append("Without Matrix_Mask no pixel is masked.")
    trims = {"Matrix_Trim", "Trim0_Noise_Mean", "TrimF_Noise_Mean"}
    if "Control_Noise_Mean" in there:
        lines.append('"auto" is control here: measured at the chosen trims.')
    elif "TrimBest_Noise_Predict" in there:
        lines.append(
            '"auto" is predicted here. A prediction in 16 steps lies some 10 DAC low, and gains 7 per cent'
        )
        lines.append('with it: where it disagrees with "cubic", that one is to be preferred.' if trims <= set(there) else
                     "with it; a Control_Noise_Mean would tell.")  # fmt: skip
    elif trims <= set(there):
        lines.append('"auto" is cubic here: from trim 0, trim 15 and the chosen trims.')
    else:
        lines.append(
            "No baseline follows from them: name a file, or only positions are found, no targets and gains."
        )
    return lines
