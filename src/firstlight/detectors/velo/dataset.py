"""The dataset file: which folders of frames there are, by name and temperature label, and how each is analysed.

A TOML file with one ``[[dataset]]`` for each label of each name. Its tables hold the parameters of the steps,
under the same names as a configuration file.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from firstlight.detectors.velo.options import (
    BaselineParameters,
    CalibrationParameters,
    FitParameters,
    ScanParameters,
    SelectionParameters,
)
from firstlight.errors import ConfigError, InputError, UsageError, nearest
from firstlight.run.config import StrictModel, build, load_config

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

__all__ = ["ENVIRONMENT", "FILE_NAMES", "Dataset", "Entry", "find_dataset_file", "load_datasets", "select"]

ENVIRONMENT = "FIRSTLIGHT_VELO_DATASETS"
FILE_NAMES = ("velo.toml", "datasets.toml")

_WORD = re.compile(r"[\w.+-]+")
_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*dataset[ \t]*\]\]", re.MULTILINE)
_STEPS = ("scan", "baseline", "fit", "calibration")


class Entry(StrictModel):
    """One ``[[dataset]]`` as it stands in the file; paths are relative to the file.

    Attributes
    ----------
    name : str
        Name of the dataset, shared by its labels.
    label : str
        Temperature label: ``"warm"``, ``"cold"``.
    data : str
        Folder of the frames and of the equalisation files.
    results : str
        Folder of the results; ``results<name>`` beside the file where empty.
    collection : str
        File that collects the results of many datasets; ``results_collection.csv`` beside the folder of results
        where empty.
    prefix : str
        Module and chip whose frames are read; needed where a folder holds several.
    scan, baseline, fit, calibration : table
        Parameters of the steps.
    selection : table
        Group of pixels.
    """

    name: str
    label: str = ""
    data: str
    results: str = ""
    collection: str = ""
    prefix: str = ""
    scan: ScanParameters = ScanParameters()
    baseline: BaselineParameters = BaselineParameters()
    fit: FitParameters = FitParameters()
    calibration: CalibrationParameters = CalibrationParameters()
    selection: SelectionParameters = SelectionParameters()

    @pydantic.field_validator("name", "label")
    @classmethod
    def _word(cls, text: str, info: pydantic.ValidationInfo) -> str:
        if text in {".", ".."} or (_WORD.fullmatch(text) is None and (text or info.field_name == "name")):
            what = "stands in names of files: letters, digits and _ . + - only"
            raise ValueError(what)
        return text

    @pydantic.field_validator("data")
    @classmethod
    def _some_folder(cls, text: str) -> str:
        if not text.strip():
            what = "name the folder of the frames ('.' is the folder of this file)"
            raise ValueError(what)
        return text


@dataclass(frozen=True)
class Dataset:
    """One scan and how it is analysed, with all paths absolute.

    Parameters
    ----------
    name, label : str
        Both together say which one.
    data : Path
        Folder of the frames.
    results : Path
        Folder of the results.
    collection : Path
        File that collects the results of many datasets.
    prefix : str
        Module and chip; empty where the folder holds only one.
    scan : ScanParameters
        Which frames.
    baseline : BaselineParameters
        Baseline of each pixel; the path of a file is absolute.
    fit : FitParameters
        How pixels are fitted.
    calibration : CalibrationParameters
        From positions to gains.
    selection : SelectionParameters
        Group of pixels.
    file : Path
        Where this stands.
    where : str
        File, line and name, for messages.
    """

    name: str
    label: str
    data: Path
    results: Path
    collection: Path
    prefix: str
    scan: ScanParameters
    baseline: BaselineParameters
    fit: FitParameters
    calibration: CalibrationParameters
    selection: SelectionParameters
    file: Path
    where: str

    def __str__(self) -> str:
        return f"{self.name} ({self.label})" if self.label else self.name

    def configuration(
        self, overrides: Mapping[str, Any] | None = None, *, steps: Collection[str] = _STEPS
    ) -> dict[str, Any]:
        """Return the configuration of a run of this dataset.

        Only what stands in the file is in it, so that defaults stay defaults. ``legacy_rows`` of the selection goes
        to the steps that make groups of pixels; which group is written out is no parameter of the chain.

        Parameters
        ----------
        overrides : mapping, optional
            Nested like the result; takes precedence.
        steps : collection of str
            Steps of the chain that is run; tables of others are left out.

        Returns
        -------
        dict
            ``label``, ``prefix``, and a table for each step.
        """
        values: dict[str, Any] = {"label": self.label, "prefix": self.prefix}
        for step in (name for name in _STEPS if name in steps):
            parameters: StrictModel = getattr(self, step)
            values[step] = parameters.model_dump(exclude_unset=True)
            if self.selection.legacy_rows and "legacy_rows" in type(parameters).model_fields:
                values[step].setdefault("legacy_rows", True)
        return _merged(values, overrides or {})

    def require_data(self) -> Path:
        """Return the folder of the frames.

        Raises
        ------
        InputError
            If it is not there, with what is there instead.
        """
        if self.data.is_dir():
            return self.data
        if self.data.exists():
            what = f"data {self.data} is a file, not a folder of frames"
            raise InputError(what, where=self.where)
        existing = next((parent for parent in self.data.parents if parent.is_dir()), Path(self.data.anchor))
        try:
            known = sorted(path.name for path in existing.iterdir() if path.is_dir())
        except OSError:
            known = []
        missing = self.data.relative_to(existing).parts[0]
        close = nearest(missing, known)
        hint = f"did you mean {' or '.join(repr(name) for name in close)}?" if close else None
        what = f"the data folder {self.data} does not exist; {existing} does, without a folder {missing!r}"
        raise InputError(what, where=self.where, known=known, hint=hint)


def _merged(values: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in over.items():
        inner = values.get(key)
        if isinstance(inner, dict) and isinstance(value, dict):
            _merged(inner, value)
        else:
            values[key] = value
    return values


def find_dataset_file(given: Path | str | None = None) -> Path:
    """Return the dataset file that is meant.

    Parameters
    ----------
    given : path, optional
        The file, or a folder that holds ``velo.toml`` or ``datasets.toml``. Where not given: what the environment
        variable FIRSTLIGHT_VELO_DATASETS says, else the first such file in the working folder and those above it.

    Raises
    ------
    UsageError
        If there is none.
    """
    if given is not None:
        return _named(Path(given), "--datasets")
    named = os.environ.get(ENVIRONMENT)
    if named:
        return _named(Path(named).expanduser(), f"environment variable {ENVIRONMENT}")
    here = Path.cwd()
    for folder in (here, *here.parents):
        found = _within(folder)
        if found is not None:
            return found
    what = f"no dataset file: neither {' nor '.join(FILE_NAMES)} is here or in a folder above"
    hint = f"firstlight velo init FOLDER writes one; --datasets FILE or {ENVIRONMENT} name one elsewhere"
    raise UsageError(what, where=here, hint=hint)


def _named(path: Path, by: str) -> Path:
    found = _within(path) if path.is_dir() else path
    if found is not None and found.is_file():
        return found
    if path.is_dir():
        what = f"{by}: the folder holds neither {' nor '.join(FILE_NAMES)}"
        folder = path
    else:
        what = f"{by}: the dataset file does not exist"
        folder = path.parent
    known = sorted(each.name for each in folder.glob("*.toml")) if folder.is_dir() else None
    raise UsageError(what, where=path, known=known, hint="firstlight velo init FOLDER writes one")


def _within(folder: Path) -> Path | None:
    return next((folder / name for name in FILE_NAMES if (folder / name).is_file()), None)


def load_datasets(path: Path | str) -> list[Dataset]:
    """Return all datasets of a file, in its order.

    Whether folders exist is not looked at: see `Dataset.require_data`.

    Parameters
    ----------
    path : path
        TOML file; JSON of the same structure is read too.

    Raises
    ------
    ConfigError
        If the file is malformed, a key is unknown or a value is wrong (all faults of all datasets at once), or if
        name and label stand there twice.
    """
    path = Path(path)
    if path.suffix == ".py":
        what = "is a list of datasets of the original scripts"
        raise ConfigError(what, where=path, hint=f"firstlight velo convert {path}")
    content = load_config(path)
    tables = _tables(content, path)
    places = _places(path, tables)
    found: list[Dataset] = []
    faults: list[ConfigError] = []
    for table, where in zip(tables, places, strict=True):
        try:
            found.append(_dataset(build(Entry, table, where), path, where))
        except ConfigError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        what = f"{len(faults)} datasets are wrong:" + "".join(f"\n  {fault}" for fault in faults)
        raise ConfigError(what)
    _refuse_twins(found, path)
    return found


def _tables(content: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Return the tables of the datasets."""
    others = [key for key in content if key != "dataset"]
    if "ST" in content and "thresholds" in content:
        what = "is the description of one scan, not a dataset file"
        raise ConfigError(what, where=path, hint=f"firstlight velo convert {path}")
    if others:
        close = nearest(others[0], ["dataset"])
        hint = f"did you mean 'dataset'? It is written [[dataset]], not [[{others[0]}]]" if close else None
        if others[0] in Entry.model_fields:
            hint = (
                "keys of a dataset stand below a line [[dataset]]; [[dataset]] [dataset.scan] [dataset.fit]"
            )
        what = f"unknown key {others[0]!r} at the top level"
        raise ConfigError(what, where=path, known=["dataset"], hint=hint)
    tables = content.get("dataset", [])
    if isinstance(tables, dict):
        # [dataset] for [[dataset]]: there is only one
        tables = [tables]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        what = "dataset must be tables, each begun by a line [[dataset]]"
        raise ConfigError(what, where=path)
    if not tables:
        what = "holds no [[dataset]]"
        raise ConfigError(what, where=path, hint="firstlight velo init FOLDER writes one")
    return tables


def _places(path: Path, tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return file, line and name of each dataset."""
    text = path.read_text(encoding="utf-8")
    lines = [text.count("\n", 0, found.start()) + 1 for found in _HEADER.finditer(text)]
    known = len(lines) == len(tables)
    places = []
    for index, table in enumerate(tables):
        place = f"{path}:{lines[index]}" if known else str(path)
        name, label = table.get("name"), table.get("label")
        named = f"dataset {name!r}" if isinstance(name, str) else f"dataset number {index + 1}"
        places.append(f"{place}, {named}" + (f" label {label!r}" if label else ""))
    return places


def _dataset(entry: Entry, path: Path, where: str) -> Dataset:
    """Return a dataset with its paths made absolute."""
    base = path.absolute().parent

    def absolute(text: str) -> Path:
        return Path(os.path.normpath(base / Path(text).expanduser()))

    results = absolute(entry.results or f"results{entry.name}")
    collection = absolute(entry.collection) if entry.collection else results.parent / "results_collection.csv"
    baseline = entry.baseline
    if baseline.file is not None:
        baseline = BaselineParameters(choice=str(absolute(baseline.file)))
    return Dataset(
        entry.name, entry.label, absolute(entry.data), results, collection, entry.prefix,
        entry.scan, baseline, entry.fit, entry.calibration, entry.selection, path.absolute(), where,
    )  # fmt: skip


def _refuse_twins(found: Iterable[Dataset], path: Path) -> None:
    first: dict[tuple[str, str], Dataset] = {}
    for dataset in found:
        twin = first.setdefault((dataset.name, dataset.label), dataset)
        if twin is not dataset:
            what = f"dataset {dataset} stands there twice: {twin.where}; {dataset.where}"
            raise ConfigError(what, where=path, hint="another name or another label for one of them")


def select(datasets: Sequence[Dataset], name: str | None = None, label: str | None = None) -> list[Dataset]:
    """Return the datasets of a name, all labels or one of them.

    Parameters
    ----------
    datasets : sequence of Dataset
        Of one file.
    name : str, optional
        May be left out where the file has only one name.
    label : str, optional
        One temperature label; all by default.

    Raises
    ------
    UsageError
        If there is no such name or label, with what exists.
    """
    names = list(dict.fromkeys(dataset.name for dataset in datasets))
    where = datasets[0].file if datasets else None
    if name is None:
        if len(names) != 1:
            what = "which dataset is meant?"
            raise UsageError(what, where=where, known=names, hint="-dt NAME")
        name = names[0]
    if name not in names:
        raise UsageError.unknown("dataset", name, names, where=where)
    found = [dataset for dataset in datasets if dataset.name == name]
    if label is None:
        return found
    labels = [dataset.label for dataset in found]
    if label not in labels:
        kind = f"label of dataset {name!r}"
        raise UsageError.unknown(kind, label, labels, where=where)
    return [dataset for dataset in found if dataset.label == label]
