"""Datasets of the original scripts, as datasets of a dataset file.

The lists of ``datainfo.py`` are taken apart by label and their variables renamed; what has no effect, has no
counterpart or was not understood is told. The description of a single scan (``dataset.json``) is read as well.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from firstlight.detectors.velo.datainfo import Block, Function, Given, Problem, read_datainfo
from firstlight.detectors.velo.dataset import Entry
from firstlight.detectors.velo.dataset_writer import Draft, path_from, word_of
from firstlight.detectors.velo.options import MODELS
from firstlight.errors import ConfigError, UsageError, nearest
from firstlight.run.config import StrictModel, build, load_config

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["FIT_FUNCTIONS", "Conversion", "convert"]

# flux equations of the original and what they are called here
FIT_FUNCTIONS = {
    "fitfunction": "legacy",
    "fitfunctionnoterm0": "legacy_no_term0",
    "fitfunction2s": "legacy_two_widths",
    "fitfunctionAB": "legacy_ab",
    "fitfunctionABnoterm0": "legacy_ab_no_term0",
    "fitfunction2sAB": "legacy_two_widths_ab",
    "fitfunction4": "legacy_4",
    "fitfunctionpaper": "legacy_timepix",
}
# equations that names of result folders tell, the longer names first
_FOLDER_FUNCTIONS = {
    "fitfunc4withterm0": "fitfunction4",
    "fitfunc3withterm0": "fitfunctionAB",
    "fitfunctimepix": "fitfunctionpaper",
    "func2sAB": "fitfunction2sAB",
    "fitfunc3": "fitfunctionABnoterm0",
    "func2noterm0": "fitfunction2s",
    "fitfunc2": "fitfunction2s",
    "noterm0": "fitfunctionnoterm0",
}
_WITHOUT_EFFECT = ("predict_opt", "output_opt")
# the dataset whose folders hold the baselines of all others
_BASELINES = "baseline_information"
_PREFIX = re.compile(r"Module\d+_VP\d+-\d+")
_ACQUISITIONS = re.compile(r"nacq(\d+)to(\d+)")
_MEASURED_FROM_BASELINE = ("newbaseline", "acqbaseline")


@dataclass(frozen=True)
class Conversion:
    """What a file of the original became.

    Parameters
    ----------
    drafts : tuple of Draft
        Datasets, one for each name and label.
    problems : tuple of Problem
        What was not taken over, with lines.
    """

    drafts: tuple[Draft, ...]
    problems: tuple[Problem, ...]


def convert(
    path: Path, output: Path, only: Sequence[str] = (), *, name: str = "calibration", legacy: bool = False
) -> Conversion:
    """Return the datasets of a file of the original.

    Parameters
    ----------
    path : Path
        ``datainfo.py``, or ``dataset.json`` of one scan.
    output : Path
        The dataset file that is going to be written.
    only : sequence of str
        Names of datasets; all where empty.
    name : str
        Name of the dataset of a ``dataset.json``.
    legacy : bool
        Set everything as in the original: its fit, its rows, its uncertainties, its energy of the line.

    Raises
    ------
    ConfigError
        If the file cannot be read or holds no dataset.
    UsageError
        If a name in `only` does not exist.
    """
    if path.suffix == ".json":
        if only and name not in only:
            what = "a dataset.json has no names to choose from"
            raise UsageError(what, where=path, hint="--name NAME gives it one")
        found = _from_json(path, output, name)
    elif path.suffix == ".py":
        found = _from_datainfo(path, only)
    else:
        what = "is neither a datainfo.py nor the dataset.json of a scan"
        raise ConfigError(what, where=path, known=[".py", ".json"])
    if legacy:
        for draft in found.drafts:
            _as_original(draft)
    return found


def _as_original(draft: Draft) -> None:
    draft.put("fit.estimator", "legacy")
    draft.put("fit.minimum_counts", 0)
    if "model" not in draft.values.get("fit", {}):
        draft.put("fit.model", "legacy")
    if "choice" not in draft.values.get("baseline", {}):
        draft.put("baseline.choice", "predicted")
    draft.put("calibration.energy", 5900.0)
    draft.put("calibration.legacy_uncertainty", True)
    draft.put("selection.legacy_rows", True)


# ---------------------------------------------------------------- datainfo.py


def _from_datainfo(path: Path, only: Sequence[str]) -> Conversion:
    blocks, problems = read_datainfo(path)
    names = [block.name for block in blocks if block.name != _BASELINES]
    for wanted in only:
        if wanted not in names:
            raise UsageError.unknown("dataset", wanted, names, where=path)
    baselines = next((block for block in blocks if block.name == _BASELINES), None)
    chosen = [block for block in blocks if block.name != _BASELINES and (not only or block.name in only)]
    drafts: list[Draft] = []
    for block in chosen:
        one = _Block(block, baselines)
        drafts += one.drafts()
        problems += one.problems
    # lines outside the blocks that were asked for concern nobody
    ours = {block.name for block in chosen} | {_BASELINES}
    problems = [problem for problem in problems if _concerns(problem, ours)]
    if not drafts:
        reasons = "".join(f"\n  {problem}" for problem in sorted(problems)[:10])
        what = f"no dataset could be taken over{reasons}"
        raise ConfigError(what, where=path)
    return Conversion(tuple(drafts), tuple(dict.fromkeys(sorted(problems))))


def _concerns(problem: Problem, names: set[str]) -> bool:
    found = re.match(r"dataset '([^']*)'", problem.text)
    return found is None or found[1] in names


class _Block:
    """One dataset of the original on its way to drafts."""

    def __init__(self, block: Block, baselines: Block | None) -> None:
        self.block = block
        self.baselines = baselines
        self.problems: list[Problem] = []
        self.labels: list[str] = []

    def tell(self, line: int, text: str) -> None:
        """Keep a problem."""
        self.problems.append(Problem(line, f"dataset {self.block.name!r}: {text}"))

    def drafts(self) -> list[Draft]:
        """Return one draft for each label."""
        data = self.block.values.get("datafolder")
        if data is None:
            self.tell(self.block.line, "datafolder_l is missing: no dataset without a folder of frames")
            return []
        folders = data.value if isinstance(data.value, list) else [data.value]
        self.labels = self.labels_of(folders)
        found: list[Draft] = []
        for index, label in enumerate(self.labels):
            draft = self.draft(index, label)
            if draft is not None:
                self.add(found, draft)
        return found

    def labels_of(self, folders: list[Any]) -> list[str]:
        """Return the labels, or names for them where there are none."""
        given = self.block.values.get("label")
        missing, line = "label_l is missing", self.block.line
        if given is not None:
            labels = given.value if isinstance(given.value, list) else [given.value]
            if labels and all(isinstance(label, str) for label in labels):
                clean = [word_of(label) if label else label for label in labels]
                if clean != labels:
                    self.tell(given.line, f"labels {labels} become {clean}: they stand in names of files")
                return clean
            missing, line = f"label_l = {labels!r} is no list of texts", given.line
        guessed = [word_of(PurePosixPath(str(folder)).name) for folder in folders]
        self.tell(line, f"{missing}: labels are {', '.join(guessed)}, from the folders")
        return guessed

    def add(self, found: list[Draft], draft: Draft) -> None:
        """Keep a draft unless the same one is there; two of one label get different ones."""
        label = draft.values["label"]
        twins = [other for other in found if other.values["label"].split("__")[0] == label]
        if any(other.values == draft.values for other in twins):
            self.tell(self.block.line, f"label {label!r} is there twice with the same settings; kept once")
            return
        if twins:
            draft.values["label"] = f"{label}__{len(twins) + 1}"
            self.tell(
                self.block.line, f"label {label!r} is there twice: the second is {draft.values['label']!r}"
            )
        found.append(draft)

    def item(self, key: str, index: int) -> Given | None:
        """Return the value of a variable for one label."""
        given = self.block.values.get(key)
        if given is None or not isinstance(given.value, list):
            return given
        values = given.value
        numbers = values and all(isinstance(value, int | float) for value in values)
        if key in {"p0", "p0_baseline"} and numbers:
            # one list of start values for all labels
            return given
        if len(values) == 1 and len(self.labels) > 1:
            if index == 1:
                self.tell(given.line, f"{key} has one entry for {len(self.labels)} labels: taken for all")
            return Given(values[0], given.line)
        if index >= len(values):
            self.tell(
                given.line,
                f"{key} has {len(values)} entries for {len(self.labels)} labels; left out for {self.labels[index]!r}",
            )
            return None
        if index == len(self.labels) - 1 and len(values) > len(self.labels):
            self.tell(
                given.line,
                f"{key} has {len(values)} entries for {len(self.labels)} labels; the rest is left out",
            )
        return Given(values[index], given.line)

    def plain(self, key: str, index: int, kinds: type | tuple[type, ...], called: str) -> Given | None:
        """Return the value of a variable for one label if it is of the right kind."""
        given = self.item(key, index)
        if given is None:
            return None
        if not isinstance(given.value, kinds) or isinstance(given.value, bool | Function):
            self.tell(given.line, f"{key} is {given.value!r}, not {called}; left out")
            return None
        return given

    def draft(self, index: int, label: str) -> Draft | None:
        """Return the dataset of one label."""
        folder = self.plain("datafolder", index, str, "a path")
        if folder is None or not folder.value.strip():
            return None
        name = word_of(self.block.name)
        if name != self.block.name and index == 0:
            self.tell(self.block.line, f"the name becomes {name!r}: it stands in names of files")
        draft = Draft({"name": name, "label": label, "data": folder.value})
        results = self.plain("FPTfolder", index, str, "a path")
        if results is not None and results.value.strip():
            draft.put("results", results.value)
        self.prefix(draft, index)
        self.scan(draft, index)
        self.fit(draft, index)
        self.groups(draft, results)
        self.baseline(draft, label)
        idle = [key for key in _WITHOUT_EFFECT if key in self.block.values]
        if idle:
            draft.notes.append(f"Without effect in the original, left out: {', '.join(idle)}.")
        return draft

    def set(self, draft: Draft, key: str, value: Any, line: int, *comments: str) -> None:
        """Set a key if its value is allowed."""
        table, _, last = key.partition(".")
        try:
            model: type[StrictModel] = type(Entry.model_fields[table].default)
            given = {name: part for name, part in draft.values.get(table, {}).items() if name == "model"}
            build(model, {**given, last: value})
        except ConfigError as error:
            self.tell(line, f"{error.what}; left out")
        else:
            draft.put(key, value, *comments)

    @property
    def from_baseline(self) -> bool:
        """Whether thresholds of this dataset are measured from the baseline of each pixel."""
        text = self.block.name + self.folder_name()
        return any(word in text for word in _MEASURED_FROM_BASELINE)

    def folder_name(self) -> str:
        """Return the last part of the first folder of results, which chose algorithms in the original."""
        given = self.item("FPTfolder", 0)
        return PurePosixPath(given.value).name if given is not None and isinstance(given.value, str) else ""

    def prefix(self, draft: Draft, index: int) -> None:
        """Take module and chip out of the name of flux files."""
        given = self.plain("FPTfilename", index, str, "a text")
        if given is None:
            return
        found = _PREFIX.search(given.value)
        if found:
            draft.put(
                "prefix", found[0], f"From FPTfilename_l = {given.value!r}, which the original does not use."
            )
        elif index == 0:
            self.tell(
                given.line,
                f"FPTfilename_l = {given.value!r} names no module and chip; without effect in the original",
            )

    def scan(self, draft: Draft, index: int) -> None:
        """Take over which frames belong to the scan."""
        shutter = self.plain("ST", index, str, "a text")
        if shutter is not None:
            self.set(draft, "scan.shutter", shutter.value, shutter.line)
        number = self.plain("nacq", index, int, "a whole number")
        if number is not None:
            self.set(draft, "scan.acquisitions", number.value, number.line)
        self.thresholds(draft, index)
        condition = self.plain("condition", index, str, "a text")
        if condition is not None and condition.value.strip() not in {"False", "", "0"}:
            self.set(draft, "scan.exclude", condition.value, condition.line)
        window = _ACQUISITIONS.search(self.block.name + self.folder_name())
        if window and index == 0:
            first, last = window.groups()
            self.tell(
                self.block.line,
                f"its name says acquisitions {first} to {last}, for which the original had to be changed by hand:"
                f" add scan.exclude = 'acq < {first}'",
            )
        cut = self.plain("bad_cut", index, (int, float), "a number")
        if cut is not None and cut.value == 0:
            draft.put("scan.bad_frame", "none", "bad_cut_l is 0: the original found no bad frame with it.")
        elif cut is not None:
            self.set(
                draft,
                "scan.bad_frame",
                float(cut.value),
                cut.line,
                'From bad_cut_l. "auto" finds others as well.',
            )

    def thresholds(self, draft: Draft, index: int) -> None:
        """Take over first, last and distance of thresholds."""
        parts = [self.plain(key, index, int, "a whole number") for key in ("fromThr", "toThr", "stepThr")]
        start, stop, step = parts
        if start is None or stop is None:
            return
        value = {"start": start.value, "stop": stop.value, "step": 1 if step is None else step.value}
        if self.from_baseline:
            text = f"thresholds {start.value} to {stop.value} are distances from the baseline, not those of frames"
            if index == 0:
                self.tell(start.line, f"{text}: left out, all thresholds of the folder are used")
            draft.comments.setdefault("scan.threshold", []).append(f"In the original {text}.")
            return
        self.set(draft, "scan.threshold", value, start.line)

    def fit(self, draft: Draft, index: int) -> None:
        """Take over the flux equation and its start values."""
        model = self.model(draft, index)
        self.set(draft, "fit.model", model, self.block.line)
        for key, target in (("p0", "start"), ("p0_baseline", "start_baseline")):
            given = self.item(key, index)
            if given is None:
                continue
            values = given.value
            numbers = isinstance(values, list) and all(
                isinstance(value, int | float) and not isinstance(value, bool) for value in values
            )
            if not numbers:
                self.tell(given.line, f"{key} is {values!r}, not a list of numbers; left out")
                continue
            if key == "p0" and self.from_baseline:
                # its positions are targets, and p0_baseline says the same
                continue
            self.set(draft, f"fit.{target}", [float(value) for value in values], given.line)
        before = self.block.values.get("baseline_opt")
        if self.from_baseline:
            draft.put(
                "fit.baseline",
                "before",
                "The original counts again on thresholds less baseline before the fit.",
            )
        elif before is not None and before.value is True:
            draft.put("fit.baseline", "before", "From baseline_opt; the original asks for it at every fit.")

    def model(self, draft: Draft, index: int) -> str:
        """Return the flux equation: the function that is named, else what the folder says, else from the start values."""
        given = self.item("fit_function", index)
        folder = self.folder_name()
        told = next((function for word, function in _FOLDER_FUNCTIONS.items() if word in folder), None)
        missing, line = "no fit_function:", self.block.line if given is None else given.line
        if given is not None and isinstance(given.value, str):
            function = str(given.value)
            if function in FIT_FUNCTIONS:
                draft.comments.setdefault("fit.model", []).append(f"{function} of the original.")
                if told == "fitfunction4" and told != function and index == 0:
                    self.tell(
                        given.line,
                        f"fit_function is {function}, the folder {folder!r} says {told}; the former is taken",
                    )
                return FIT_FUNCTIONS[function]
            close = nearest(function, FIT_FUNCTIONS)
            guess = f", did you mean {' or '.join(close)}?" if close else ";"
            missing, line = f"unknown fit_function {function!r}{guess}", given.line
        start = self.item("p0", index)
        n_values = len(start.value) if start is not None and isinstance(start.value, list) else 4
        function = told or (
            "fitfunction2s" if n_values == len(MODELS["legacy_two_widths"]) else "fitfunction"
        )
        if index == 0:
            reason = f"from the folder {folder!r}" if told else f"from {n_values} start values"
            self.tell(line, f"{missing} {function} is taken, {reason}")
        return FIT_FUNCTIONS[function]

    def groups(self, draft: Draft, results: Given | None) -> None:
        """Take over the group of pixels, which the last part of the results folder says."""
        given = self.block.values.get("separation_opt")
        last = PurePosixPath(results.value).name if results is not None else ""
        pairs = "spp" in self.block.name or (results is not None and "spp" in results.value)
        if last in {"even", "odd", "rows"}:
            group = f"superpixel_{last}" if pairs and last != "rows" else last
            draft.put("selection.separation", group, f"From the last part of the results folder, {last!r}.")
            # groups have folders of their own below the results, there as here
            draft.values["results"] = str(PurePosixPath(draft.values["results"]).parent)
        elif given is not None and given.value is True and draft.values["label"] == self.labels[0]:
            names = "superpixel_even or superpixel_odd" if pairs else "even, odd or rows"
            self.tell(
                given.line, f"separation_opt is on, and the group came from -sep: give it again, {names}"
            )

    def baseline(self, draft: Draft, label: str) -> None:
        """Take over the file of baselines, from the dataset that lists their folders."""
        if self.baselines is None:
            return
        other = _Block(self.baselines, None)
        folders = self.baselines.values.get("datafolder")
        if folders is None:
            return
        other.labels = other.labels_of(folders.value if isinstance(folders.value, list) else [folders.value])
        if label not in other.labels:
            return
        index = other.labels.index(label)
        folder = other.plain("datafolder", index, str, "a path")
        name = other.plain("FPTfilename", index, str, "a text")
        if folder is None:
            return
        file = name.value if name is not None else ""
        if not file.endswith("_Noise_Predict"):
            file = f"{draft.values.get('prefix', 'Module0_VP3-1')}_TrimBest_Noise_Predict"
        path = str(PurePosixPath(folder.value) / f"{file}.csv")
        draft.put("baseline.choice", path, f"From the dataset {_BASELINES}.")


# ---------------------------------------------------------------- dataset.json


def _from_json(path: Path, output: Path, name: str) -> Conversion:
    content = load_config(path)
    if "ST" not in content and "thresholds" not in content:
        what = "is not the description of a scan: it has neither ST nor thresholds"
        raise ConfigError(what, where=path, known=sorted(content))
    where = path.parent
    label = str(content.get("label", ""))
    draft = Draft(
        {
            "name": word_of(name),
            "label": word_of(label) if label else "",
            "data": path_from(where, output.parent),
        }
    )
    problems: list[Problem] = []
    for key, value in content.items():
        if key in {"label", "seed"}:
            continue
        target = _JSON_KEYS.get(key)
        if target is None:
            problems.append(Problem(0, f"key {key!r} is not known; left out"))
            continue
        table, last = target[0].split(".")
        model: type[StrictModel] = type(Entry.model_fields[table].default)
        try:
            changed = target[1](value)
            build(model, {last: changed})
        except (ConfigError, TypeError, ValueError) as error:
            reason = error.what if isinstance(error, ConfigError) else str(error)
            problems.append(Problem(0, f"{key} = {json.dumps(value)}: {reason}; left out"))
            continue
        draft.put(target[0], changed)
    if "seed" in content:
        draft.notes.append(f"Simulated, seed {content['seed']}.")
    return Conversion((draft,), tuple(problems))


def _three(value: Any) -> dict[str, int]:
    start, stop, step = value
    return {"start": start, "stop": stop, "step": step}


def _same(value: Any) -> Any:
    return value


_JSON_KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "ST": ("scan.shutter", _same),
    "nacq": ("scan.acquisitions", _same),
    "thresholds": ("scan.threshold", _three),
    "bad_cut": ("scan.bad_frame", _same),
    "condition": ("scan.exclude", _same),
    "source_eV": ("calibration.energy", float),
    "eps_eV": ("calibration.energy_per_pair", float),
}
