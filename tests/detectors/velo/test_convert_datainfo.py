"""Lists of datasets of the original: what is taken over, and that everything else is told with its line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from firstlight.detectors.velo.commands_dataset import convert as command
from firstlight.detectors.velo.convert import FIT_FUNCTIONS, Conversion, convert
from firstlight.detectors.velo.datainfo import Function, read_datainfo
from firstlight.detectors.velo.dataset import Dataset, load_datasets, select
from firstlight.detectors.velo.dataset_writer import dataset_text
from firstlight.detectors.velo.options import MODELS, ScanParameters, ThresholdRange
from firstlight.errors import ConfigError, UsageError

CONDITION = "(thr == 1494 and acq == 18) or (thr == 1527 and acq == 78)"
# the variables of a dataset as the original has them; a test replaces some
VARIABLES = {
    "datafolder_l": "['/data/N037/20230803_warmFe55/', '/data/N037/20230823_coldFe55/']",
    "FPTfolder_l": "2*['/data/resultscalibration/']",
    "FPTfilename_l": "2*['Fluxperpixel_Module0_VP3-1_ECS_data_ST_']",
    "ST_l": "['2s621ms', '2s621ms']",
    "nacq_l": "[100, 50]",
    "fromThr_l": "[1480, 1480]",
    "toThr_l": "[1600, 1600]",
    "stepThr_l": "[1, 1]",
    "label_l": "['warm', 'cold']",
    "bad_cut_l": "[18.34765625, 17.6941176471]",
    "condition_l": f"['{CONDITION}', 'False']",
    "p0": "[[0.0009, 8, 12, 1551], [0.00032, 14.5, 17, 1535]]",
    "p0_baseline": "[[0.0009, 8, 12, 125], [0.00032, 14.5, 17, 115]]",
    "baseline_opt": "False",
    "separation_opt": "False",
    "predict_opt_l": "2*[False]",
    "output_opt_l": "2*[False]",
    "fit_function": "Equations().fitfunction",
}
HEAD = '''
import numpy as np


class Equations:
    def fitfunction(self, E, f, A, s, E0):
        ST_l = "of no dataset"
        return f


class DataInfo:
    def __init__(self, type_data=None, label=None):
        self.take(self.information(type_data), label)

    def information(self, type_data):
        """Return the lists of a dataset."""
'''
TAIL = """
        return [datafolder_l, p0]

    def take(self, lists, label=None):
        if label is None:
            self.datafolder_l = lists[0]
        else:
            self.datafolder_l = lists[0][1]
"""


def block(name: str = "calibration", *extra: str, word: str = "if", **changes: str | None) -> str:
    """Return the block of one dataset; a variable that is None is left out."""
    lines = [f"        {word} type_data == '{name}':  # a scan"]
    for key, text in {**VARIABLES, **changes}.items():
        if text is not None:
            lines.append(f"            {key}={text}")
    return "\n".join([*lines, *(f"            {line}" for line in extra)]) + "\n\n"


def converted(folder: Path, *blocks: str, **options) -> Conversion:
    path = folder / "datainfo.py"
    path.write_text(HEAD + "".join(blocks) + TAIL, encoding="utf-8")
    return convert(path, folder / "velo.toml", **options)


def loaded(folder: Path, found: Conversion) -> list[Dataset]:
    (folder / "velo.toml").write_text(dataset_text(found.drafts, explain_all=False), encoding="utf-8")
    return load_datasets(folder / "velo.toml")


def told(found: Conversion) -> str:
    return "\n".join(map(str, found.problems))


# ---------------------------------------------------------------- what is taken over


def test_calibration_as_it_stands_in_the_original(tmp_path: Path) -> None:
    found = converted(tmp_path, block())
    assert found.problems == ()
    warm, cold = loaded(tmp_path, found)
    assert (str(warm), str(cold)) == ("calibration (warm)", "calibration (cold)")
    assert warm.data == Path("/data/N037/20230803_warmFe55")
    assert cold.data == Path("/data/N037/20230823_coldFe55")
    assert warm.results == cold.results == Path("/data/resultscalibration")
    assert warm.collection == Path("/data/results_collection.csv")
    assert warm.prefix == "Module0_VP3-1"
    scan = {"shutter": "2s621ms", "threshold": [1480, 1600, 1]}
    assert warm.scan == ScanParameters(**scan, acquisitions=100, exclude=CONDITION, bad_frame=18.34765625)
    assert cold.scan == ScanParameters(**scan, acquisitions=50, bad_frame=17.6941176471)
    assert (warm.fit.model, warm.fit.start) == ("legacy", (0.0009, 8.0, 12.0, 1551.0))
    assert cold.fit.start_baseline == (0.00032, 14.5, 17.0, 115.0)
    assert (warm.fit.estimator, warm.fit.baseline, warm.baseline.choice) == ("poisson", "after", "auto")
    assert warm.selection.separation == ""
    assert (
        "Without effect in the original, left out: predict_opt, output_opt."
        in (tmp_path / "velo.toml").read_text()
    )


def test_as_original_sets_all_that_differs(tmp_path: Path) -> None:
    warm, _ = loaded(tmp_path, converted(tmp_path, block(), legacy=True))
    assert (warm.fit.estimator, warm.fit.model, warm.fit.minimum_counts) == ("legacy", "legacy", 0)
    assert (warm.calibration.energy, warm.calibration.legacy_uncertainty) == (5900.0, True)
    assert warm.calibration.energy / warm.calibration.energy_per_pair == pytest.approx(1598.9, abs=0.05)
    assert (warm.baseline.choice, warm.selection.legacy_rows) == ("predicted", True)
    assert warm.configuration()["fit"]["legacy_rows"] is True


@pytest.mark.parametrize(("function", "model"), FIT_FUNCTIONS.items())
def test_flux_equations(tmp_path: Path, function: str, model: str) -> None:
    start = [1.0] * (len(MODELS[model]) - 1) + [1551.0]
    text = repr([start, start])
    for way in (f"Equations().{function}", f"self.equations.{function}", function):
        found = converted(tmp_path, block(p0=text, p0_baseline=text, fit_function=way))
        assert found.problems == ()
        warm = loaded(tmp_path, found)[0]
        assert (warm.fit.model, warm.fit.start) == (model, tuple(start))


def test_start_values_are_calculated(tmp_path: Path) -> None:
    one = "[(1-0.0009)*8/2, (0.0009*8)/2, 12, 1551]"
    found = converted(
        tmp_path, block(p0=f"[{one}, {one}]", p0_baseline=f"2*[{one}]", fit_function="fitfunctionAB")
    )
    start = loaded(tmp_path, found)[1].fit.start
    # B, A, s, E0 in the order of the original
    assert start == pytest.approx((3.9964, 0.0036, 12, 1551))


def test_one_list_of_start_values_for_all_labels(tmp_path: Path) -> None:
    warm, cold = loaded(tmp_path, converted(tmp_path, block(p0="[0.001, 8, 12, 1551]")))
    assert warm.fit.start == cold.fit.start == (0.001, 8.0, 12.0, 1551.0)


def test_baseline_before_the_fit(tmp_path: Path) -> None:
    warm, _ = loaded(tmp_path, converted(tmp_path, block("calibration_baseline", baseline_opt="True")))
    assert warm.fit.baseline == "before"


def test_thresholds_less_baseline_are_not_those_of_frames(tmp_path: Path) -> None:
    changes = {
        "FPTfolder_l": "2*['/data/resultscalibration_newbaseline/']",
        "fromThr_l": "[42, 44]", "toThr_l": "[193, 198]", "p0": VARIABLES["p0_baseline"],
    }  # fmt: skip
    found = converted(tmp_path, block("calibration_newbaseline", **changes))
    warm, _ = loaded(tmp_path, found)
    assert (warm.scan.threshold, warm.fit.baseline, warm.fit.start) == (None, "before", ())
    assert warm.fit.start_baseline[-1] == 125
    assert re.search(r"line \d+: .*thresholds 42 to 193 are distances from the baseline", told(found))


@pytest.mark.parametrize("group", ["even", "odd", "rows"])
def test_group_in_the_folder(tmp_path: Path, group: str) -> None:
    changes = {"FPTfolder_l": f"2*['/data/resultscalibration_separation/{group}/']", "separation_opt": "True"}
    found = converted(tmp_path, block("calibration_separation", **changes))
    warm, _ = loaded(tmp_path, found)
    assert (warm.selection.separation, found.problems) == (group, ())
    # the group is added to the folder when its files are written
    assert warm.results == Path("/data/resultscalibration_separation")


def test_super_pixels(tmp_path: Path) -> None:
    changes = {"FPTfolder_l": "2*['/data/resultscalibration_separationspp/odd/']", "separation_opt": "True"}
    warm, _ = loaded(tmp_path, converted(tmp_path, block("calibration_separationspp", **changes)))
    assert warm.selection.separation == "superpixel_odd"


@pytest.mark.parametrize(
    ("name", "said"), [("x_separation", "even, odd or rows"), ("x_separationspp", "superpixel_even")]
)
def test_group_of_the_command_line_is_asked_for(tmp_path: Path, name: str, said: str) -> None:
    found = converted(tmp_path, block(name, FPTfolder_l=f"2*['/data/results{name}/']", separation_opt="True"))
    (problem,) = found.problems
    assert "separation_opt is on, and the group came from -sep" in problem.text
    assert said in problem.text


def test_folders_of_baselines(tmp_path: Path) -> None:
    noise = block(
        "baseline_information",
        datafolder_l="['/data/20230626_warm/', '/data/20230622_cold/']",
        FPTfilename_l="2*['Module0_VP3-1_TrimBest_Noise_Predict']",
        fit_function="None",
    )
    found = converted(tmp_path, noise, block(), block("hot", label_l="['hot', 'cold']"))
    datasets = loaded(tmp_path, found)
    assert [each.name for each in datasets] == ["calibration"] * 2 + ["hot"] * 2
    file = "Module0_VP3-1_TrimBest_Noise_Predict.csv"
    assert [each.baseline.choice for each in datasets] == [
        f"/data/20230626_warm/{file}", f"/data/20230622_cold/{file}", "auto", f"/data/20230622_cold/{file}",
    ]  # fmt: skip
    # as original: the named file stays
    (warm, _) = loaded(tmp_path, converted(tmp_path, noise, block(), legacy=True))
    assert warm.baseline.choice == f"/data/20230626_warm/{file}"


def test_only_some_datasets(tmp_path: Path) -> None:
    blocks = (block("a", nacq_l="spoilt()"), block("b"), block("c"))
    found = converted(tmp_path, *blocks, only=("c", "b"))
    assert [draft.values["name"] for draft in found.drafts] == ["b", "b", "c", "c"]
    # what is wrong with others is no matter
    assert found.problems == ()
    with pytest.raises(UsageError, match="unknown dataset 'd'") as caught:
        converted(tmp_path, *blocks, only=("d",))
    assert caught.value.known == ["a", "b", "c"]


def test_names_that_cannot_stand_in_files(tmp_path: Path) -> None:
    found = converted(tmp_path, block("my scan", label_l="['room T', 'cold']"))
    assert [str(each) for each in loaded(tmp_path, found)] == ["my_scan (room_T)", "my_scan (cold)"]
    assert "the name becomes 'my_scan'" in told(found)
    assert "become ['room_T', 'cold']" in told(found)


# ---------------------------------------------------------------- ways to write the same


WAYS = {
    "elif": block("first") + block("calibration", word="elif"),
    "double quotes": block().replace("'calibration':", '"calibration":'),
    "the other way round": block().replace("type_data == 'calibration'", "'calibration' == type_data"),
    "attribute": block().replace("type_data ==", "self.type_data =="),
    "or": block().replace("type_data == 'calibration'", "type_data == 'calibration' or type_data == 'again'"),
    "in": block().replace("type_data == 'calibration'", "type_data in ('calibration', 'again')"),
    "attributes of self": re.sub(r"^            (\w+)=", r"            self.\1 = ", block(), flags=re.MULTILINE),
    "names without _l": re.sub(r"(\w+)_l=", r"\1=", block()),
    "np.array": block(p0="np.array([[0.0009, 8, 12, 1551], [0.00032, 14.5, 17, 1535]])"),
    "tuples": block(nacq_l="(100, 50)"),
    "two at once": block("calibration", "nacq_l, stepThr_l = [100, 50], [1, 1]", nacq_l=None, stepThr_l=None),
    "a list taken apart": block("calibration", "nacq_l, stepThr_l = both", nacq_l=None, stepThr_l="3", both=None)
    .replace("            stepThr_l=3", "            both = [[100, 50], [1, 1]]"),
    "one after the other": block("calibration", "nacq_l += [50]", nacq_l="[100]"),
    "annotated": block("calibration", "nacq_l: list[int] = [100, 50]", nacq_l=None),
    "set before": "        folder = '/data/N037'\n"
    + block(datafolder_l="[folder + '/20230803_warmFe55/', f'{folder}/20230823_coldFe55/']"),
    "joined": block(
        datafolder_l="[os.path.join('/data', 'N037', '20230803_warmFe55'), '/data/N037/20230823_coldFe55']"
    ),
    "an entry of another list": block("calibration", "nacq_l = [100, nacq_l[1]]"),
    "repeated from the right": block(ST_l="['2s621ms']*2"),
    "default for all": "        nacq_l = [100, 50]\n" + block(nacq_l=None),
    "inside another if": "        if type_data is not None:\n"
    + re.sub(r"^", "    ", block(), flags=re.MULTILINE).rstrip() + "\n",
}  # fmt: skip


@pytest.mark.parametrize("text", WAYS.values(), ids=WAYS.keys())
def test_ways_to_write_the_same(tmp_path: Path, text: str) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "other").mkdir()
    expected = loaded(tmp_path / "plain", converted(tmp_path / "plain", block()))
    found = converted(tmp_path / "other", text)
    for before, after in zip(expected, select(loaded(tmp_path / "other", found), "calibration"), strict=True):
        assert after.configuration() == before.configuration()
        assert (after.data, after.results, str(after)) == (before.data, before.results, str(before))
    assert not [problem for problem in found.problems if "both" not in problem.text]


def test_second_block_of_a_name_overrides_an_elif_does_not(tmp_path: Path) -> None:
    again = "        if type_data == 'calibration':\n            nacq_l = [7, 7]\n"
    found = converted(tmp_path, block(), again)
    assert [each.scan.acquisitions for each in loaded(tmp_path, found)] == [7, 7]
    assert "was there in line" in told(found)
    found = converted(tmp_path, block(), again.replace(" if ", " elif "))
    assert [each.scan.acquisitions for each in loaded(tmp_path, found)] == [100, 50]
    assert "never reached" in told(found)


def test_two_of_one_label(tmp_path: Path) -> None:
    twice = {
        key: f"[{text}]*2"
        for key, text in (("datafolder_l", "'/data/x/'"), ("label_l", "'warm'"), ("nacq_l", "4"))
    }
    twice |= {"bad_cut_l": "[18.3]*2", "condition_l": "['False']*2", "p0": "[[0.1, 8, 12, 1551]]*2"}
    twice["p0_baseline"] = "2*[[0.1, 8, 12, 125]]"
    found = converted(tmp_path, block(**twice))
    assert [str(each) for each in loaded(tmp_path, found)] == ["calibration (warm)"]
    assert "twice with the same settings; kept once" in told(found)
    found = converted(tmp_path, block(**{**twice, "nacq_l": "[4, 5]"}))
    assert [str(each) for each in loaded(tmp_path, found)] == ["calibration (warm)", "calibration (warm__2)"]


# ---------------------------------------------------------------- what is not understood is told


SPOILT = {
    "a call": ({"nacq_l": "read_them()"}, r"nacq_l = read_them\(\) is not understood \(read_them\(\) is not called\)"),
    "a comprehension": ({"nacq_l": "[50 for _ in range(2)]"}, "nacq_l = .* is not understood"),
    "a name that is not known": ({"nacq_l": "2*[number]"}, "number is not known here"),
    "a power": ({"nacq_l": "[10**9, 1]"}, "is not understood"),
    "too long a list": ({"nacq_l": "1000000000*[1]"}, "more than 10000 entries"),
    "too long a list from the right": ({"nacq_l": "[1]*1000000000"}, "more than 10000 entries"),
    "division by nothing": ({"bad_cut_l": "[1/0, 2]"}, "division by zero"),
    "text plus number": ({"ST_l": "['a'+1]"}, "ST_l = .* is not understood"),
    "no such entry": ({"nacq_l": "[[1][3], 2]"}, "is not understood"),
    "bytes": ({"ST_l": "[b'2s621ms', '1s']"}, "is not understood"),
    "a wrong shutter": ({"ST_l": "['long', '2s621ms']"}, "shutter: 'long' is no open time of a shutter"),
    "text for a number": ({"nacq_l": "['100', 50]"}, "nacq is '100', not a whole number"),
    "true for a number": ({"nacq_l": "[True, 50]"}, "nacq is True, not a whole number"),
    "number for a text": ({"ST_l": "[2.621, '2s621ms']"}, "ST is 2.621, not a text"),
    "backwards": ({"fromThr_l": "[1700, 1480]"}, "stop 1600 lies below start 1700"),
    "a condition": ({"condition_l": "['__import__(\"os\")', 'False']"}, "exclude: .*left out"),
    "a number above the counter": ({"bad_cut_l": "[99.0, 2.0]"}, "less than or equal to 63"),
    "too few start values": ({"p0": "[[1, 2], [1, 2, 3, 4]]"}, "start has 2 values, the model legacy has 4"),
    "start values that are none": ({"p0": "['many', [1, 2, 3, 4]]"}, "p0 is 'many', not a list of numbers"),
    "an unknown equation": ({"fit_function": "self.fitfunction2"}, "unknown fit_function 'fitfunction2', did you mean"),
    "nothing for an equation": ({"fit_function": "None"}, "no fit_function: fitfunction is taken, from 4 start values"),
    "no equation at all": ({"fit_function": None}, "no fit_function: fitfunction is taken, from 4 start values"),
    "too short a list": ({"nacq_l": "[]"}, "nacq has 0 entries for 2 labels; left out for 'warm'"),
    "one entry": ({"nacq_l": "[100]"}, "nacq has one entry for 2 labels: taken for all"),
    "too long": ({"nacq_l": "[100, 50, 25]"}, "nacq has 3 entries for 2 labels; the rest is left out"),
    "no labels": ({"label_l": None}, "label_l is missing: labels are 20230803_warmFe55, 20230823_coldFe55"),
    "labels that are none": ({"label_l": "[1, 2]"}, r"label_l = \[1, 2\] is no list of texts"),
    "a name of files without a chip": ({"FPTfilename_l": "2*['flux_']"}, "names no module and chip"),
    "another variable": ({"gain_l": "[1, 2]"}, "gain_l is no variable of a dataset; without effect"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), SPOILT.values(), ids=SPOILT.keys())
def test_what_is_not_understood_is_told_with_its_line(tmp_path: Path, changes: dict, message: str) -> None:
    found = converted(tmp_path, block("first"), block(**changes))
    own = [problem for problem in found.problems if "'calibration'" in problem.text]
    matching = [problem for problem in own if re.search(message, str(problem))]
    assert matching, told(found)
    lines = (tmp_path / "datainfo.py").read_text().splitlines()
    (key,) = changes
    # the line of the variable, or that of the block where the variable is not there
    here = lines[matching[0].line - 1]
    assert f" {key}=" in here if changes[key] is not None else "type_data == 'calibration'" in here
    # the rest is taken over
    assert len(loaded(tmp_path, found)) == 4


def test_statements_that_are_not_understood(tmp_path: Path) -> None:
    extra = (
        "for i in range(2):", "    nacq_l[i] = 3", "    ST_l = 4", "if label == 'warm':", "    p0 = 5",
        "with open('x') as f:", "    label_l = f.read()", "print('fine')", "np.seterr(all='ignore')",
    )  # fmt: skip
    found = converted(tmp_path, block("calibration", *extra))
    kinds = [re.search(r"a (\w+) statement|'(if .*?)' sets", problem.text) for problem in found.problems]
    assert [kind[1] or kind[2] for kind in kinds if kind] == ["for", "if label == 'warm'", "with"]
    assert loaded(tmp_path, found)[0].scan.acquisitions == 100


def test_else_branch_is_told(tmp_path: Path) -> None:
    found = converted(tmp_path, block(), "        else:\n            datafolder_l = []\n")
    assert "the else branch is for names that do not exist" in told(found)


def test_window_of_acquisitions_is_told(tmp_path: Path) -> None:
    found = converted(tmp_path, block("calibration_nacq25to50", nacq_l="[50, 50]"))
    assert "acquisitions 25 to 50" in told(found)
    assert "exclude = 'acq < 25'" in told(found)


def test_no_bad_frames(tmp_path: Path) -> None:
    warm, _ = loaded(tmp_path, converted(tmp_path, block(bad_cut_l="[0, 17.5]")))
    assert warm.scan.bad_frame.rule == "none"


def test_equation_of_the_folder(tmp_path: Path) -> None:
    folder = "2*['/data/resultscalibrationfitfunc4withterm0/']"
    found = converted(tmp_path, block(FPTfolder_l=folder, fit_function=None))
    assert loaded(tmp_path, found)[0].fit.model == "legacy_4"
    assert "fitfunction4 is taken, from the folder" in told(found)
    found = converted(tmp_path, block(FPTfolder_l=folder))
    assert loaded(tmp_path, found)[0].fit.model == "legacy"
    assert "the former is taken" in told(found)


def test_equation_of_five_start_values(tmp_path: Path) -> None:
    five = "2*[[0.0009, 8, 12, 8, 1551]]"
    found = converted(tmp_path, block(p0=five, fit_function=None))
    warm, _ = loaded(tmp_path, found)
    assert (warm.fit.model, warm.fit.start) == ("legacy_two_widths", (0.0009, 8.0, 12.0, 8.0, 1551.0))
    # these were forgotten
    assert "start_baseline has 4 values, the model legacy_two_widths has 5: f, A, s, s2, E0" in told(found)


def test_dataset_without_folders(tmp_path: Path) -> None:
    found = converted(tmp_path, block(), block("other", datafolder_l=None))
    assert [each.name for each in loaded(tmp_path, found)] == ["calibration"] * 2
    assert "dataset 'other': datafolder_l is missing" in told(found)
    with pytest.raises(ConfigError, match=r"no dataset could be taken over(.|\n)*datafolder_l is missing"):
        converted(tmp_path, block("other", datafolder_l=None))


# ---------------------------------------------------------------- files


def test_nothing_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    code = f"open({str(mark)!r}, 'w').close()\nraise SystemExit\n"
    path = tmp_path / "datainfo.py"
    path.write_text(code + HEAD + block(nacq_l=f"[open({str(mark)!r}, 'w'), 1]") + TAIL)
    found = convert(path, tmp_path / "velo.toml")
    assert not mark.exists()
    assert "open() is not called" in told(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no block 'if type_data =="),
        (b"def f(x):\n    return x\n", "has no block"),
        (b"if x == 'calibration':\n    ST_l = 3\n", "has no block"),
        (b"print 'Python 2'\n", "datainfo.py:1: is no Python 3 source"),
        (b"x = (\n", "is no Python 3 source"),
        (b"x = '\xff\xfe'\n", "is no Python 3 source"),
        (b"\x00\x01", "is no Python 3 source"),
    ],
)
def test_files_that_are_no_datainfo(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "datainfo.py"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_datainfo(path)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_deep_expressions_are_told(tmp_path: Path) -> None:
    found = converted(tmp_path, block(nacq_l="+".join(["1"] * 700)))
    assert "nacq_l = " in told(found)
    assert loaded(tmp_path, found)[0].scan.acquisitions is None


def test_other_encodings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "datainfo.py"
    text = HEAD + block(datafolder_l="['/data/wärm/', '/data/kält/']", label_l="['warm', 'cold']") + TAIL
    path.write_bytes(("# -*- coding: latin-1 -*-\n" + text).encode("latin-1"))
    assert convert(path, tmp_path / "velo.toml").drafts[0].values["data"] == "/data/wärm/"


def test_values_keep_their_lines(tmp_path: Path) -> None:
    converted(tmp_path, block())
    (only,), _ = read_datainfo(tmp_path / "datainfo.py")
    lines = (tmp_path / "datainfo.py").read_text().splitlines()
    assert all(key in lines[given.line - 1] for key, given in only.values.items())
    assert only.values["fit_function"].value == Function("fitfunction")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.py", "no such file(.|\n)*there.py"),
        ("data.txt", "neither a datainfo.py nor"),
        ("none.json", "does not exist"),
    ],
)
def test_files_that_are_not_there(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "there.py").touch()
    with pytest.raises(ConfigError) as caught:
        convert(tmp_path / name, tmp_path / "velo.toml")
    assert re.search(message, str(caught.value)), str(caught.value)


# ---------------------------------------------------------------- dataset.json

SCAN = {
    "seed": 7, "ST": "2s621ms", "nacq": 8, "thresholds": [1480, 1600, 5], "bad_cut": 18.34765625,
    "condition": "(thr == 1485 and acq == 4) or (thr == 1515 and acq == 2)", "source_eV": 5895, "eps_eV": 3.69,
    "label": "warm",
}  # fmt: skip


def scan_file(folder: Path, **changes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "dataset.json"
    path.write_text(json.dumps({**SCAN, **changes}))
    return path


def test_description_of_one_scan(tmp_path: Path) -> None:
    found = convert(scan_file(tmp_path / "scan"), tmp_path / "velo.toml", name="sample")
    (only,) = loaded(tmp_path, found)
    assert found.problems == ()
    assert (str(only), only.data) == ("sample (warm)", tmp_path / "scan")
    assert only.scan == ScanParameters(
        shutter="2s621ms", acquisitions=8, threshold=ThresholdRange(start=1480, stop=1600, step=5),
        exclude=SCAN["condition"], bad_frame=18.34765625,
    )  # fmt: skip
    assert (only.calibration.energy, only.calibration.energy_per_pair) == (5895.0, 3.69)
    assert "Simulated, seed 7." in (tmp_path / "velo.toml").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "key 'colour' is not known"),
        ({"thresholds": 5}, "thresholds = 5: .*left out"),
        ({"thresholds": [1480, 1600, 7]}, "not a whole number of steps of 7"),
        ({"ST": "long"}, 'ST = "long": shutter: .long. is no open time'),
        ({"condition": "pressure > 1"}, "condition = .*left out"),
        ({"nacq": "many"}, "nacq = .*left out"),
        ({"eps_eV": None}, "eps_eV = null: .*left out"),
    ],
)
def test_wrong_descriptions_are_told(tmp_path: Path, changes: dict, message: str) -> None:
    found = convert(scan_file(tmp_path / "scan", **changes), tmp_path / "velo.toml")
    (problem,) = found.problems
    assert re.search(message, str(problem)), str(problem)
    assert len(loaded(tmp_path, found)) == 1


def test_other_json(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}')
    with pytest.raises(ConfigError, match="neither ST nor thresholds"):
        convert(path, tmp_path / "velo.toml")
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="must be a table"):
        convert(path, tmp_path / "velo.toml")
    with pytest.raises(UsageError, match="no names to choose from"):
        convert(scan_file(tmp_path), tmp_path / "velo.toml", ["other"])


# ---------------------------------------------------------------- the verb


def test_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("datainfo.py").write_text(HEAD + block() + block("b", nacq_l="spoilt()") + TAIL)
    done = CliRunner().invoke(command, ["datainfo.py"])
    assert done.exit_code == 0, done.output
    assert "datainfo.py: line" in done.stderr
    assert "nacq_l = spoilt() is not understood" in done.stderr
    assert "calibration (warm): legacy, /data/N037/20230803_warmFe55  (not on this machine)" in done.stdout
    assert "written: velo.toml, 4 datasets, 1 note above" in done.stdout
    assert len(load_datasets("velo.toml")) == 4
    again = CliRunner().invoke(command, ["datainfo.py", "--only", "calibration"])
    assert isinstance(again.exception, UsageError)
    forced = CliRunner().invoke(
        command, ["datainfo.py", "--only", "calibration", "--force", "--quiet", "--legacy"]
    )
    assert (forced.exit_code, forced.output) == (0, "")
    assert [each.fit.estimator for each in load_datasets("velo.toml")] == ["legacy", "legacy"]
    assert "as the original analysed them" in Path("velo.toml").read_text()
