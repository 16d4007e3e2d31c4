"""The dataset file: what is written can be read, what is wrong is told with its place and what exists instead."""

from __future__ import annotations

import json
import re
import tarfile
import tomllib
from pathlib import Path

import click
import numpy as np
import pydantic
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from firstlight.detectors.velo.commands_dataset import datasets as datasets_command
from firstlight.detectors.velo.commands_dataset import init
from firstlight.detectors.velo.dataset import (
    ENVIRONMENT,
    Entry,
    find_dataset_file,
    load_datasets,
    select,
)
from firstlight.detectors.velo.dataset_writer import (
    KEYS,
    Draft,
    dataset_text,
    path_from,
    scan_drafts,
    toml_value,
    word_of,
)
from firstlight.detectors.velo.models import EQUATIONS
from firstlight.detectors.velo.options import (
    MODELS,
    SEPARATIONS,
    BadFrame,
    BaselineParameters,
    CalibrationParameters,
    FitParameters,
    Options,
    ScanParameters,
    SelectionParameters,
    ThresholdRange,
)
from firstlight.detectors.velo.selections import GROUPS
from firstlight.errors import ConfigError, InputError, UsageError
from firstlight.run.config import StrictModel, build, configuration_model

TWO_LABELS = """
[[dataset]]
name = "calibration"
label = "warm"
data = "warm"
prefix = "Module0_VP3-1"
[dataset.scan]
shutter = "2s621ms"
threshold = { start = 1480, stop = 1600, step = 5 }
bad_frame = 18.34765625
[dataset.baseline]
choice = "equalisation/baseline.csv"
[dataset.selection]
legacy_rows = true

[[dataset]]
name = "calibration"
label = "cold"
data = "/somewhere/cold"
results = "out/cold"
collection = "all.csv"

[[dataset]]
name = "other"
data = "."
"""


def write(path: Path, text: str = TWO_LABELS) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def frames(
    folder: Path, thresholds=(1480, 1485, 1490), acquisitions=2, prefix="Module0_VP3-1", shutter="2s621ms"
):
    folder.mkdir(parents=True, exist_ok=True)
    for threshold in thresholds:
        for number in range(acquisitions):
            (folder / f"{prefix}_ECS_data_ST_{shutter}_THR_{threshold}_{number}.csv").write_text("0\n")
    return folder


def run(command: click.Command, *arguments: object):
    return CliRunner().invoke(command, [str(each) for each in arguments])


# ---------------------------------------------------------------- parameters


def test_defaults_are_those_of_a_scan_of_iron() -> None:
    fit, calibration = FitParameters(), CalibrationParameters()
    assert (fit.model, fit.estimator, fit.baseline, fit.zero_fraction) == (
        "physical",
        "poisson",
        "after",
        0.8,
    )
    assert [(line.energy, line.weight) for line in fit.lines] == [(5895.0, 0.88), (6490.0, 0.12)]
    electrons = calibration.energy / calibration.energy_per_pair
    assert electrons == pytest.approx(1597.6, abs=0.1)
    assert calibration.energy_per_pair_uncertainty / calibration.energy_per_pair == pytest.approx(
        0.03, abs=0.001
    )
    assert ScanParameters().bad_frame == BadFrame(rule="auto")
    assert BaselineParameters().file is None


def test_thresholds_include_the_last_one() -> None:
    found = ThresholdRange(start=1480, stop=1600, step=5).values
    assert (found.size, found[0], found[-1], found.dtype) == (25, 1480, 1600, np.int32)
    assert ScanParameters(threshold=[1480, 1600, 5]).threshold == ThresholdRange(
        start=1480, stop=1600, step=5
    )


@pytest.mark.parametrize(
    ("given", "rule", "value"),
    [
        (18.34765625, "fingerprint", 18.34765625),
        (18, "fingerprint", 18.0),
        ("auto", "auto", None),
        ("none", "none", None),
        ({"value": 17.5}, "fingerprint", 17.5),
        ({"rule": "fingerprint", "value": 17.5, "column": 3}, "fingerprint", 17.5),
        ({}, "auto", None),
    ],
)
def test_short_forms_of_bad_frames(given, rule: str, value: float | None) -> None:
    found = ScanParameters(bad_frame=given).bad_frame
    assert (found.rule, found.value) == (rule, value)


def test_excluded_frames_as_text_and_as_tables() -> None:
    text = "(thr == 1494 and acq == 18) or (thr == 1527 and acq == 78)"
    tables = [{"thr": 1494, "acq": 18}, {"thr": 1527, "acq": 78}]
    assert ScanParameters(exclude=text).exclude == text
    assert ScanParameters(exclude=tables).exclude == text
    assert ScanParameters(exclude=[]).exclude == "False"


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (ScanParameters, {"shutter": "2.621"}, "shutter: '2.621' is no open time of a shutter. seconds and"),
        (ScanParameters, {"shutter": "s"}, "no open time of a shutter"),
        (ScanParameters, {"acquisitions": 0}, "acquisitions: Input should be greater"),
        (ScanParameters, {"threshold": {"start": 1600, "stop": 1480}}, "stop 1480 lies below start 1600"),
        (ScanParameters, {"threshold": [1480, 1600, 7]}, "not a whole number of steps of 7"),
        (ScanParameters, {"threshold": [1480]}, r"or \[1480, 1600, 1\]"),
        (ScanParameters, {"threshold": {"start": 1, "stop": 2, "stp": 1}}, "'threshold.stp', did you mean 'stop' or 'step'"),
        (ScanParameters, {"bad_frame": "fingerprint"}, "needs a value"),
        (ScanParameters, {"bad_frame": {"rule": "auto", "value": 3}}, "goes with the rule fingerprint"),
        (ScanParameters, {"bad_frame": {"colum": 3}}, "'bad_frame.colum', did you mean 'column'"),
        (ScanParameters, {"bad_frame": True}, "bad_frame"),
        (ScanParameters, {"bad_frame": 64}, "less than or equal to 63"),
        (ScanParameters, {"exclude": 7}, "a condition is a text such as"),
        (ScanParameters, {"exclude": "__import__('os')"}, "exclude: "),
        (ScanParameters, {"exclude": "temperature > 3"}, "exclude: .*temperature"),
        (ScanParameters, {"exclude": [{"threshold": 3}]}, "exclude: "),
        (FitParameters, {"model": "physicl"}, "unknown flux equation, did you mean physical"),
        (FitParameters, {"model": 3}, "model"),
        (FitParameters, {"estimator": "chi2"}, "estimator"),
        (FitParameters, {"start": [1, 2, 3]}, "start has 3 values, the model physical has 4: step, slope"),
        (FitParameters, {"model": "legacy_two_widths", "start_baseline": [1, 2, 3, 4]}, "f, A, s, s2, E0"),
        (FitParameters, {"start": [1, 2, 3, float("nan")]}, "not a number"),
        (FitParameters, {"lines": [{"energy": 5895, "weight": 0.8}]}, "add up to 0.8, not to 1"),
        (FitParameters, {"lines": [{"energy": -1, "weight": 1}]}, "greater than 0"),
        (FitParameters, {"lines": [{"enrgy": 1, "weight": 1}]}, "did you mean 'energy'"),
        (FitParameters, {"model": "two_line", "lines": [{"energy": 5895, "weight": 1}]}, "needs two lines"),
        (FitParameters, {"zero_fraction": 0}, "zero_fraction"),
        (FitParameters, {"significance": 1}, "significance"),
        (BaselineParameters, {"choice": "contol"}, "did you mean control"),
        (CalibrationParameters, {"target_range": [100, 10]}, "the lower limit comes first"),
        (CalibrationParameters, {"energy": 0}, "energy"),
        (CalibrationParameters, {"energy": float("inf")}, "finite"),
        (SelectionParameters, {"separation": "evn"}, "unknown group of pixels, did you mean even"),
        (SelectionParameters, {"separation": "columns by the dozen"}, "There are even, odd, rows"),
        (Options, {"lable": "warm"}, "unknown key 'lable', did you mean 'label'"),
    ],
)  # fmt: skip
def test_wrong_parameters_say_what_is_right(model: type[StrictModel], values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(model, values)


def test_names_are_those_of_the_equations_and_groups() -> None:
    assert MODELS.keys() == EQUATIONS.keys()
    assert {name: sorted(names) for name, names in MODELS.items()} == {
        name: sorted(equation.reported) for name, equation in EQUATIONS.items()
    }
    assert set(SEPARATIONS) - {""} == set(GROUPS)
    assert get_literal(FitParameters, "model") == set(MODELS)
    assert get_literal(SelectionParameters, "separation") == set(SEPARATIONS)


def get_literal(model: type[pydantic.BaseModel], name: str) -> set[str]:
    return set(model.model_json_schema()["properties"][name]["enum"])


# ---------------------------------------------------------------- reading


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    warm, cold, other = load_datasets(write(tmp_path / "velo.toml"))
    assert (warm.data, warm.results) == (tmp_path / "warm", tmp_path / "resultscalibration")
    assert warm.collection == tmp_path / "results_collection.csv"
    assert warm.baseline.choice == str(tmp_path / "equalisation" / "baseline.csv")
    assert (cold.data, cold.results) == (Path("/somewhere/cold"), tmp_path / "out" / "cold")
    assert cold.collection == tmp_path / "all.csv"
    assert (other.data, other.label, str(other), str(warm)) == (tmp_path, "", "other", "calibration (warm)")
    assert other.results == tmp_path / "resultsother"
    assert warm.where == f"{tmp_path / 'velo.toml'}:2, dataset 'calibration' label 'warm'"


def test_collection_lies_beside_the_results(tmp_path: Path) -> None:
    text = '[[dataset]]\nname = "a"\ndata = "x"\nresults = "/far/resultsa/"\n'
    (only,) = load_datasets(write(tmp_path / "velo.toml", text))
    assert only.collection == Path("/far/results_collection.csv")


def test_relative_file_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "velo.toml")
    monkeypatch.chdir(tmp_path)
    assert load_datasets("velo.toml")[0].data == tmp_path / "warm"


def test_configuration_is_one_of_the_chain(tmp_path: Path) -> None:
    warm, cold, _ = load_datasets(write(tmp_path / "velo.toml"))
    assert warm.configuration() == {
        "label": "warm",
        "prefix": "Module0_VP3-1",
        "scan": {
            "shutter": "2s621ms",
            "threshold": {"start": 1480, "stop": 1600, "step": 5},
            "bad_frame": {"rule": "fingerprint", "value": 18.34765625},
        },
        "baseline": {"choice": str(tmp_path / "equalisation" / "baseline.csv")},
        "fit": {"legacy_rows": True},
        "calibration": {"legacy_rows": True},
    }
    assert cold.configuration() == {
        "label": "cold", "prefix": "", "scan": {}, "baseline": {}, "fit": {}, "calibration": {},
    }  # fmt: skip
    steps = (
        ("scan", ScanParameters), ("baseline", BaselineParameters), ("fit", FitParameters),
        ("calibration", CalibrationParameters),
    )  # fmt: skip
    model = configuration_model("velo", Options, steps)
    config = build(model, warm.configuration({"fit": {"legacy_rows": False, "model": "legacy"}}))
    assert config.fit == FitParameters(model="legacy")  # type: ignore[attr-defined]
    assert config.scan == warm.scan  # type: ignore[attr-defined]


def test_configuration_of_some_steps_with_changes(tmp_path: Path) -> None:
    warm = load_datasets(write(tmp_path / "velo.toml"))[0]
    changes = {"scan": {"bad_frame": "auto", "acquisitions": 4}, "label": "hot"}
    found = warm.configuration(changes, steps={"scan"})
    assert found.keys() == {"label", "prefix", "scan"}
    assert (found["label"], found["scan"]["bad_frame"], found["scan"]["acquisitions"]) == ("hot", "auto", 4)
    # the dataset itself stays what it was
    assert warm.configuration(steps=["scan"])["scan"]["bad_frame"]["value"] == 18.34765625


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no \\[\\[dataset\\]\\]"),
        ("dataset = []", "holds no"),
        ("dataset = 3", "must be tables"),
        ("[[datasets]]\nname = 'a'", "unknown key 'datasets'.*\n.*\n.*written \\[\\[dataset\\]\\]"),
        ("name = 'a'\ndata = 'x'", "unknown key 'name' at the top level.*\n.*\n.*below a line"),
        ("[[dataset]\n", "not valid TOML.*line 1"),
        ("[[dataset]]\ndata = 'x'", "dataset number 1: name: Field required"),
        ("[[dataset]]\nname = 'a'", "dataset 'a': data: Field required"),
        ("[[dataset]]\nname = 'a'\ndata = ' '", "name the folder of the frames"),
        ("[[dataset]]\nname = 'a/b'\ndata = 'x'", "stands in names of files"),
        ("[[dataset]]\nname = ''\ndata = 'x'", "stands in names of files"),
        ("[[dataset]]\nname = '..'\ndata = 'x'", "stands in names of files"),
        ("[[dataset]]\nname = 'a'\nlabel = 'w c'\ndata = 'x'", "label: stands in names of files"),
        ("[[dataset]]\nname = 'a'\ndata = 'x'\nresult = 'y'", "unknown key 'result', did you mean 'results'"),
        (
            "\n[[dataset]]\nname = 'a'\nlabel = 'warm'\ndata = 'x'\n[dataset.scan]\nacquisition = 4",
            "toml:2, dataset 'a' label 'warm': unknown key 'scan.acquisition', did you mean 'acquisitions'",
        ),
        (
            "[[dataset]]\nname = 'a'\ndata = 'x'\n[dataset.fits]\nmodel = 'legacy'",
            "'fits', did you mean 'fit'",
        ),
        (
            "[[dataset]]\nname = 'a'\ndata = 'x'\n[dataset.fit]\nmodel = 'legcy'",
            "fit.model: .*did you mean legacy",
        ),
        ("[[dataset]]\nname = 'a'\ndata = 'x'\n" * 2, "dataset a stands there twice: .*:1,.*:4,"),
    ],
)
def test_wrong_files_say_where_and_what_is_right(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_datasets(write(tmp_path / "velo.toml", text))
    assert re.search(message, str(caught.value)), str(caught.value)
    assert str(tmp_path / "velo.toml") in str(caught.value)
    assert caught.value.exit_status == 2


def test_faults_of_all_datasets_are_told_at_once(tmp_path: Path) -> None:
    text = (
        "[[dataset]]\nname = 'a'\n[[dataset]]\nname = 'b'\ndata = 'x'\n[[dataset]]\nnam = 'c'\ndata = 'x'\n"
    )
    with pytest.raises(
        ConfigError, match=r"2 datasets are wrong(.|\n)*:1, dataset 'a'(.|\n)*:6, dataset number 3"
    ):
        load_datasets(write(tmp_path / "velo.toml", text))


def test_other_files_of_the_original_point_to_convert(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="firstlight velo convert"):
        load_datasets(write(tmp_path / "datainfo.py", "x = 1"))
    text = json.dumps({"ST": "2s621ms", "thresholds": [1480, 1600, 5]})
    with pytest.raises(ConfigError, match="firstlight velo convert"):
        load_datasets(write(tmp_path / "dataset.json", text))


def test_one_table_without_double_brackets_is_read(tmp_path: Path) -> None:
    (only,) = load_datasets(write(tmp_path / "velo.toml", "[dataset]\nname = 'a'\ndata = 'x'\n"))
    assert only.where == f"{tmp_path / 'velo.toml'}, dataset 'a'"


# ---------------------------------------------------------------- the folder of the frames


def test_data_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "warm").mkdir()
    assert load_datasets(write(tmp_path / "velo.toml"))[0].require_data() == tmp_path / "warm"


def test_data_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "warms").mkdir()
    (tmp_path / "cold").mkdir()
    warm, cold, _ = load_datasets(write(tmp_path / "velo.toml"))
    with pytest.raises(InputError, match="does not exist") as caught:
        warm.require_data()
    assert caught.value.known == ["cold", "warms"]
    assert caught.value.hint == "did you mean 'warms'?"
    assert caught.value.where == warm.where
    with pytest.raises(InputError, match="/ does, without a folder 'somewhere'"):
        cold.require_data()


def test_data_that_are_a_file(tmp_path: Path) -> None:
    (tmp_path / "warm").write_text("")
    with pytest.raises(InputError, match="is a file, not a folder"):
        load_datasets(write(tmp_path / "velo.toml"))[0].require_data()


# ---------------------------------------------------------------- which file, which dataset


def test_file_is_found_from_folders_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    general = write(tmp_path / "datasets.toml")
    assert find_dataset_file() == general
    own = write(tmp_path / "velo.toml")
    assert find_dataset_file() == own
    nearer = write(below / "datasets.toml")
    assert find_dataset_file() == nearer
    monkeypatch.setenv(ENVIRONMENT, str(general))
    assert find_dataset_file() == general
    assert find_dataset_file(own) == own
    assert find_dataset_file(tmp_path) == own


def test_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no dataset file(.|\n)*firstlight velo init"):
        find_dataset_file()
    write(tmp_path / "other.toml")
    with pytest.raises(UsageError, match="--datasets: the dataset file does not exist") as caught:
        find_dataset_file(tmp_path / "velos.toml")
    assert caught.value.known == ["other.toml"]
    with pytest.raises(
        UsageError, match=re.escape("--datasets: the folder holds neither velo.toml nor datasets.toml")
    ):
        find_dataset_file(tmp_path)
    monkeypatch.setenv(ENVIRONMENT, "/nowhere/velo.toml")
    with pytest.raises(UsageError, match=f"environment variable {ENVIRONMENT}"):
        find_dataset_file()


def test_select(tmp_path: Path) -> None:
    found = load_datasets(write(tmp_path / "velo.toml"))
    assert [each.label for each in select(found, "calibration")] == ["warm", "cold"]
    assert [str(each) for each in select(found, "calibration", "cold")] == ["calibration (cold)"]
    assert select(found, "other") == select(found[2:]) == found[2:]


def test_select_what_does_not_exist(tmp_path: Path) -> None:
    found = load_datasets(write(tmp_path / "velo.toml"))
    with pytest.raises(
        UsageError, match=r"unknown dataset 'calibratio'(.|\n)*did you mean 'calibration'"
    ) as caught:
        select(found, "calibratio")
    assert caught.value.where == str(tmp_path / "velo.toml")
    with pytest.raises(
        UsageError, match=r"unknown label of dataset 'calibration' 'wram'(.|\n)*'warm'"
    ) as caught:
        select(found, "calibration", "wram")
    assert caught.value.known == ["warm", "cold"]
    with pytest.raises(UsageError, match="which dataset is meant") as caught:
        select(found)
    assert caught.value.known == ["calibration", "other"]


# ---------------------------------------------------------------- writing

_WORDS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12)
_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | _WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip


@given(_VALUES)
def test_values_survive_toml(value) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}")["x"] == value


def test_what_toml_has_no_form_for() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        toml_value(None)


def leaves(model: type[pydantic.BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        inner = isinstance(field.default, StrictModel) and not prefix
        found |= leaves(type(field.default), f"{name}.") if inner else {prefix + name}
    return found


def test_every_key_is_explained() -> None:
    # the rows of the original are said once, in the table selection
    assert set(KEYS) == leaves(Entry) - {"fit.legacy_rows", "calibration.legacy_rows"}
    assert not [text for text in KEYS.values() if re.match(r"\w+ = ", text)]


def test_written_defaults_are_the_defaults(tmp_path: Path) -> None:
    text = dataset_text([Draft({"name": "a", "data": "x"})])
    (before,) = load_datasets(write(tmp_path / "velo.toml", text))
    text, number = re.subn(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert number >= 25
    (after,) = load_datasets(write(tmp_path / "velo.toml", text))
    # these two show an example: by default they say nothing
    examples = {"acquisitions": None, "threshold": None}
    assert after.scan.model_copy(update=examples) == before.scan
    assert (after.scan.acquisitions, after.scan.threshold) != (None, None)
    for part in ("fit", "baseline", "calibration", "selection", "results", "collection"):
        assert getattr(after, part) == getattr(before, part)


def test_lines_can_be_read(tmp_path: Path) -> None:
    draft = Draft({"name": "a", "data": "x"})
    draft.put("scan.shutter", "1s", "word " * 60)
    text = dataset_text([draft], ["head " * 50])
    assert max(len(line) for line in text.splitlines() if line.startswith("# ")) <= 110
    assert load_datasets(write(tmp_path / "velo.toml", text))[0].scan.shutter == "1s"


def test_paths_near_the_file_are_relative(tmp_path: Path) -> None:
    assert path_from(tmp_path / "a" / "b", tmp_path) == "a/b"
    assert path_from(tmp_path / "a", tmp_path / "c") == "../a"
    assert path_from(tmp_path, tmp_path) == "."
    assert path_from(Path("/far/away"), tmp_path) == "/far/away"


@pytest.mark.parametrize(
    ("text", "word"), [("20230803_warmFe55", "20230803_warmFe55"), ("a b/c", "a_b_c"), ("..", "scan")]
)
def test_words(text: str, word: str) -> None:
    assert word_of(text) == word


# ---------------------------------------------------------------- init


def test_init_of_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frames(tmp_path / "raw" / "20230803_warmFe55", range(1480, 1601, 5), 3)
    frames(tmp_path / "raw" / "20230823_coldFe55", range(1480, 1601, 10), 2)
    done = run(init, "raw/20230803_warmFe55", "raw/20230823_coldFe55")
    assert done.exit_code == 0, done.output
    warm, cold = load_datasets("velo.toml")
    assert (warm.name, warm.label, cold.label) == ("calibration", "warm", "cold")
    assert warm.data == tmp_path / "raw" / "20230803_warmFe55"
    assert warm.prefix == "Module0_VP3-1"
    assert warm.scan == ScanParameters(shutter="2s621ms", acquisitions=3, threshold=[1480, 1600, 5])
    assert cold.scan == ScanParameters(shutter="2s621ms", acquisitions=2, threshold=[1480, 1600, 10])
    text = (tmp_path / "velo.toml").read_text()
    assert text.count('data = "raw/') == 2
    assert "calibration (warm): Module0_VP3-1, thresholds 1480 to 1600 in steps of 5 DAC" in done.output
    # every key of the file has a line above that explains it
    lines = text.splitlines()
    keys = [index for index, line in enumerate(lines) if re.match(r"(# )?\w+ = ", line)]
    assert len(keys) >= 50
    assert all(re.match(r"# (?!\w+ = )", lines[index - 1]) for index in keys)


def test_init_says_what_is_missing(tmp_path: Path) -> None:
    folder = frames(tmp_path / "warm", (1480, 1485, 1490, 1500), 3)
    (folder / "Module0_VP3-1_ECS_data_ST_2s621ms_THR_1490_1.csv").unlink()
    frames(folder, (1480,), 1, shutter="1s")
    (draft,) = scan_drafts([folder], tmp_path / "velo.toml")
    text = dataset_text([draft])
    assert draft.values["scan"] == {
        "shutter": "2s621ms", "acquisitions": 3, "threshold": {"start": 1480, "stop": 1500, "step": 5},
    }  # fmt: skip
    assert "Found: 11 frames at 4 thresholds; 1 of 12 frames are missing." in text
    assert "Thresholds without any frame: 1495." in text
    assert "Other shutters in the folder: 1s0ms (1 frames)." in text
    assert "no equalisation file of this chip" in text
    assert "No baseline follows" in text


def test_init_says_what_is_odd(tmp_path: Path) -> None:
    folder = frames(tmp_path / "warm")
    (folder / "Module0_VP3-1_ECS_data_ST_2s621ms_THR_1480_01.csv").touch()
    (folder / "Module0_VP3-1_ECS_data_ST_2s621ms_THR_high_1.csv").touch()
    (draft,) = scan_drafts([folder], tmp_path / "velo.toml")
    first, second = draft.notes
    assert "nearly those of frames, not read: Module0_VP3-1_ECS_data_ST_2s621ms_THR_high_1.csv" in first
    assert "There twice: " in second
    assert "THR_1480_01.csv" in second


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("Control_Noise_Mean", "TrimBest_Noise_Predict"), '"auto" is control here'),
        (("TrimBest_Noise_Predict",), '"auto" is predicted here(.|\n)*Control_Noise_Mean would tell'),
        (
            ("TrimBest_Noise_Predict", "Matrix_Trim", "Trim0_Noise_Mean", "TrimF_Noise_Mean"),
            '"auto" is predicted here(.|\n)*disagrees with "cubic"',
        ),
        (("Matrix_Mask", "Matrix_Trim", "Trim0_Noise_Mean", "TrimF_Noise_Mean"), '"auto" is cubic here'),
        (("Matrix_Mask", "Matrix_Trim"), "No baseline follows"),
    ],
)
def test_init_says_which_baseline_follows(tmp_path: Path, files: tuple[str, ...], said: str) -> None:
    folder = frames(tmp_path / "warm")
    for name in files:
        (folder / f"Module0_VP3-1_{name}.csv").write_text("")
    done = run(init, folder, "-o", tmp_path / "velo.toml")
    assert re.search(said, done.output), done.output
    assert ("Without Matrix_Mask" in done.output) == ("Matrix_Mask" not in files)


def test_init_of_a_folder_with_two_chips(tmp_path: Path) -> None:
    folder = frames(tmp_path / "cold")
    frames(folder, (1500, 1510), prefix="Module0_VP0-1")
    assert run(init, folder, "-o", tmp_path / "velo.toml").exit_code == 0
    first, second = load_datasets(tmp_path / "velo.toml")
    assert (first.name, first.prefix, first.label) == ("calibration_Module0_VP0-1", "Module0_VP0-1", "cold")
    assert (second.name, second.prefix) == ("calibration_Module0_VP3-1", "Module0_VP3-1")
    assert first.scan.threshold == ThresholdRange(start=1500, stop=1510, step=10)


def test_labels_are_unique(tmp_path: Path) -> None:
    folders = [frames(tmp_path / name) for name in ("a_warm", "b_warm", "cold", "x/scan", "y/scan")]
    drafts = scan_drafts(folders, tmp_path / "velo.toml")
    assert [draft.values["label"] for draft in drafts] == ["a_warm", "b_warm", "cold", "scan-1", "scan-2"]


def test_label_may_stand_in_the_folder_above(tmp_path: Path) -> None:
    (draft,) = scan_drafts([frames(tmp_path / "warm_fe55" / "data")], tmp_path / "velo.toml")
    assert draft.values["label"] == "warm"


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (("warm", "--label", "a", "--label", "b"), "--label is there 2 times for 1 folders", 2),
        (("warm", "warm2", "--label", "a", "--label", "a"), "--label a is there twice", 2),
        (("warm", "--name", "a b"), "--name 'a b' stands in names of files", 2),
        (("warm", "--label", "a/b"), "--label 'a/b' stands in names of files", 2),
        (("warm", "-o", "velo.json"), "a dataset file ends in .toml", 2),
        (("warm", "-o", "warm"), "is a folder, not a dataset file", 2),
        (("warm", "-o", "there.toml"), "exists already", 2),
        (("wram",), "no such folder(.|\n)*what exists: above, empty, warm, warm2", 3),
        (("there.toml",), "is not a folder", 3),
        (("empty",), "holds no frame(.|\n)*frames are called Module0", 3),
        (("above",), "holds no frame(.|\n)*with frames in it: warm3", 3),
    ],
)
def test_init_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments, message: str, status: int
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("warm", "warm2", "above/warm3"):
        frames(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.toml").write_text("kept")
    done = run(init, *arguments)
    assert isinstance(done.exception, UsageError | InputError)
    assert re.search(message, str(done.exception)), str(done.exception)
    assert done.exception.exit_status == status
    assert not (tmp_path / "velo.toml").exists()
    assert (tmp_path / "there.toml").read_text() == "kept"


def test_init_overwrites_if_told(tmp_path: Path) -> None:
    folder = frames(tmp_path / "warm")
    path = write(tmp_path / "velo.toml", "old")
    done = run(init, folder, "-o", path, "--force", "--quiet", "--name", "mine", "--label", "room")
    assert (done.exit_code, done.output) == (0, "")
    assert str(load_datasets(path)[0]) == "mine (room)"


def test_init_needs_a_folder() -> None:
    assert run(init).exit_code == 2


# ---------------------------------------------------------------- the list


def test_list_of_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "velo.toml")
    frames(tmp_path / "warm")
    (tmp_path / "resultscalibration").mkdir()
    done = run(datasets_command)
    assert done.exit_code == 0, done.output
    assert re.search(r"calibration \(warm\)\n.*\n +data +there +\S+/warm\n +results +empty", done.output)
    assert re.search(
        r"calibration \(cold\)\n.*\n +data +missing +/somewhere/cold\n +results +not yet", done.output
    )
    assert re.search(r"other\n.*\n +data +no frames", done.output)
    (tmp_path / "resultscalibration" / "x.csv").write_text("")
    rows = json.loads(run(datasets_command, "--json").stdout)
    assert rows["file"] == str(tmp_path / "velo.toml")
    first = rows["datasets"][0]
    assert (first["name"], first["label"], first["data_state"], first["results_state"]) == (
        "calibration", "warm", "there", "there",
    )  # fmt: skip
    assert [row["data_state"] for row in rows["datasets"]] == ["there", "missing", "no frames"]


def test_list_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.chdir(tmp_path)
    assert isinstance(run(datasets_command).exception, UsageError)
    assert isinstance(run(datasets_command, "--datasets", "no.toml").exception, UsageError)


# ---------------------------------------------------------------- the sample scan


def test_init_of_the_sample_scan(sample_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "warm"
    folder.mkdir()
    with tarfile.open(sample_data / "velo" / "synthetic_fe55_scan_dev.tar.xz") as archive:
        names = [Path(name).name for name in archive.getnames()]
    for name in names:
        if name.endswith(".csv"):
            (folder / name).touch()
    done = run(init, folder, "-o", tmp_path / "velo.toml")
    assert done.exit_code == 0, done.output
    (only,) = load_datasets(tmp_path / "velo.toml")
    assert only.scan == ScanParameters(shutter="2s621ms", acquisitions=8, threshold=[1480, 1600, 5])
    text = (tmp_path / "velo.toml").read_text()
    assert "Found: 197 frames at 25 thresholds; 3 of 200 frames are missing." in text
    assert '"auto" is control here' in text
