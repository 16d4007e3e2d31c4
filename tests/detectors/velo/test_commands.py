"""The verbs of the original scripts: every line of their README, options in place of their questions, wrong options."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from firstlight.cli.main import cli
from firstlight.detectors.velo.legacy import COLLECTION
from firstlight.detectors.velo.simulate import load_truth, simulate
from firstlight.errors import ConfigError, InputError, StoreError, UsageError

THRESHOLDS = range(1480, 1601, 6)


def call(*words):
    # nothing can be answered: a question would end the command
    return CliRunner().invoke(cli, ["velo", *(str(word) for word in words)], input="")


def run(*words):
    result = call(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def refused(kind, *words):
    """Return what a command says that is refused."""
    result = call(*words)
    assert isinstance(result.exception, kind), (result.output, result.exception)
    return str(result.exception)


def is_picture(path):
    with Image.open(path) as image:
        return min(image.size) > 300 and len(image.convert("L").getcolors(1 << 20) or range(9)) > 3


# ---------------------------------------------------------------- the README, line by line


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with two scans and a dataset file, analysed as the README says."""
    folder = tmp_path_factory.mktemp("campaign")
    simulate(
        folder,
        seed=701,
        labels=("warm", "cold"),
        step=6,
        acquisitions=2,
        rate=6.0,
        faults=("masked", "missing"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("init", "synthetic_warmFe55", "synthetic_coldFe55", "-q")
        text = (folder / "velo.toml").read_text()
        assert text.count("# minimum_counts = 50\n") == 2
        (folder / "velo.toml").write_text(text.replace("# minimum_counts = 50\n", "minimum_counts = 420\n"))
        told = {}
        for line in (
            "analysis flux -dt calibration",
            "analysis fitter -dt calibration",
            "analysis matrices -dt calibration --no-plots",
            "analysis flux -dt calibration -sep even",
        ):
            told[line] = run(*line.split()).output
    return folder, told


@pytest.fixture
def here(place, monkeypatch):
    """Return that folder, as the working folder."""
    monkeypatch.chdir(place[0])
    return place[0]


def test_flux_files(place):
    folder, told = place
    results = folder / "resultscalibration"
    for label in ("warm", "cold"):
        head = f"Module0_VP3-1_ECS_data_ST_2s621ms_{label}_THR"
        for threshold in THRESHOLDS:
            assert (results / f"Fluxperpixel_{head}_{threshold}.csv").is_file()
            assert (results / f"UncertaintyFluxperpixel_{head}_{threshold}.csv").is_file()
        for name in ("FluxperASIC", "UncertaintyFluxperASIC"):
            assert len((results / f"{name}_{head}_1480-1600-step6.csv").read_text().split()) == 21
    assert "calibration (warm): flux" in told["analysis flux -dt calibration"]
    assert "files in" in told["analysis flux -dt calibration"]


def test_flux_of_a_group(place):
    folder, _ = place
    truth = load_truth(folder / "synthetic_warmFe55")
    head = "Module0_VP3-1_ECS_data_ST_2s621ms_warm_THR"
    flux = np.loadtxt(folder / "resultscalibration" / "even" / f"Fluxperpixel_{head}_1510.csv", delimiter=",")
    index = list(truth["thresholds"]).index(1510)
    expected = truth["counts_sum"][index] / (truth["good_acq"][index] * 2.621)
    row, column = np.indices((256, 256))
    even = (column % 2 == 0) & ~np.isin(row % 16, (0, 15)) & (truth["mask"] == 0)
    assert np.isnan(flux[~even]).all()
    np.testing.assert_allclose(flux[even], expected[even], rtol=1e-12)
    chip = np.loadtxt(folder / "resultscalibration" / "even" / f"FluxperASIC_{head}_1480-1600-step6.csv")
    assert chip[index] == pytest.approx(expected[even].mean(), rel=1e-12)


def test_fitter_and_matrices_files(place):
    folder, _ = place
    names = {path.name for path in (folder / "resultscalibration").glob("*.csv")}
    for label in ("warm", "cold"):
        tail = f"ST_2s621ms_{label}.csv"
        for name in ("f", "A", "s", "E0"):
            assert {f"{name}matrix_{tail}", f"u{name}matrix_{tail}"} <= names
        assert {
            f"Fittypematrix_{tail}", f"targetmatrix_{tail}", f"utargetmatrix_{tail}", f"K_matrix_{tail}",
            f"uK_matrix_{tail}", f"ASIC_params{label}.csv", f"ASICgood_params{label}.csv",
            f"log_file_resultscalibration_{label}.csv",
        } <= names  # fmt: skip


def rows_of(folder):
    with (folder / "results_collection.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_collection_of_results(place):
    folder, _ = place
    rows = [
        row
        for row in rows_of(folder)
        if row["Results"] == "resultscalibration" and row["baseline"] == "after"
    ]
    assert tuple(rows[0])[:17] == COLLECTION
    assert [row["label"] for row in rows] == ["warm", "cold"]
    for row, gain in zip(rows, (13.2, 14.264), strict=True):
        assert float(row["Kmean"]) == pytest.approx(gain, rel=0.02)
        assert float(row["Kcommon"]) == pytest.approx(float(row["Kmean"]) * 0.11 / 3.69, rel=1e-6)
        assert row["baselinerule"] == "control"


@pytest.mark.parametrize(
    ("line", "pictures"),
    [
        (
            "plot -distribution -dt calibration -p E0 -opt discrepancy",
            [f"resultscalibration/plots/discrepancy/E0_discrepancy_ASICgood_{label}.png" for label in ("warm", "cold")],
        ),
        (
            "plot -d -dt calibration",
            [
                f"resultscalibration/plots/{name}_distribution_{label}.png"
                for name in ("E0", "f", "s") for label in ("warm", "cold")
            ],
        ),
        (
            "plot -plot_heatmap -dt calibration -p target",
            [
                f"resultscalibration/plots/heat_map_plots/target/target_heatmap_{label}.png"
                for label in ("warm", "cold")
            ],
        ),
        (
            "plot -flux_vs_thr -dt calibration -t cold",
            [f"resultscalibration/plots/flux_vs_thr_{name}_cold.png" for name in ("ASIC", "ASICgood")],
        ),
        ("plot -rc -opt summary", ["plots/results_summary.png", "plots/results_summary_pixels.png"]),
    ],
)  # fmt: skip
def test_plots_of_the_readme(here, line, pictures):
    for picture in pictures:
        (here / picture).unlink(missing_ok=True)
    told = run(*line.split()).output
    for picture in pictures:
        assert is_picture(here / picture), picture
        assert (here / picture).stem in told


def test_help_of_the_readme(here):
    told = run("analysis", "-h").output
    assert all(word in told for word in ("flux", "fitter", "matrices"))
    told = run("plot", "-h").output
    for option in ("-hm", "-rc", "-d", "-flux_vs_thr", "-opt", "-o", "-p", "-a", "-sep", "-dt", "-t"):
        assert f"{option}," in told or f"{option} " in told, option


# ---------------------------------------------------------------- options where the original asked


def test_nothing_is_made_twice_unless_asked(here):
    record = here / "resultscalibration" / "warm" / "products" / "fit" / "pixels.parquet"
    before = record.stat().st_mtime_ns
    run("analysis", "fitter", "-dt", "calibration", "-t", "warm", "-q")
    assert record.stat().st_mtime_ns == before
    run("analysis", "fitter", "-dt", "calibration", "-t", "warm", "-q", "--redo")
    assert record.stat().st_mtime_ns > before


def test_an_earlier_stage_keeps_what_later_ones_found(here):
    run("analysis", "flux", "-dt", "calibration", "-t", "cold", "-q")
    products = here / "resultscalibration" / "cold" / "products"
    assert (products / "calibration" / "pixels.parquet").is_file()
    run("plot", "-hm", "-dt", "calibration", "-t", "cold", "-p", "K", "-q")


def test_baseline_before_the_fit(here):
    run(
        "analysis", "matrices", "-dt", "calibration", "-t", "warm", "--baseline", "before", "--no-plots", "-q"
    )
    rows = {row["baseline"]: row for row in rows_of(here) if row["label"] == "warm"}
    assert set(rows) == {"before", "after"}
    # of pixels both are the same, of the chip they are not
    assert float(rows["before"]["Kmean"]) == pytest.approx(float(rows["after"]["Kmean"]), rel=2e-4)
    assert rows["before"]["KASICgood"] != rows["after"]["KASICgood"]
    assert float(rows["before"]["KASICgood"]) == pytest.approx(float(rows["after"]["KASICgood"]), rel=0.01)
    run("analysis", "fitter", "-dt", "calibration", "-t", "warm", "--baseline", "before", "-q")
    results = here / "resultscalibration"
    target = np.loadtxt(results / "targetmatrix_ST_2s621ms_warm.csv", delimiter=",")
    assert np.nanmedian(np.abs(target - load_truth(here / "synthetic_warmFe55")["target"])) < 1.5
    # positions of a fit of the other kind would contradict it
    assert not (results / "E0matrix_ST_2s621ms_warm.csv").exists()


def test_without_the_curves_of_the_chip(here):
    run(
        "analysis",
        "matrices",
        "-dt",
        "calibration",
        "-t",
        "cold",
        "-sep",
        "odd",
        "--no-asic",
        "--no-plots",
        "-q",
    )
    (row,) = [row for row in rows_of(here) if row["Results"] == "resultscalibration/odd"]
    assert row["KASIC"] == row["KASICgood"] == "nan"
    assert float(row["Kmean"]) > 14
    odd = here / "resultscalibration" / "odd"
    assert (odd / "K_matrix_ST_2s621ms_cold.csv").is_file()
    assert not list(odd.glob("ASIC*"))


def test_another_rule_of_the_baseline(here):
    words = ("analysis", "matrices", "-dt", "calibration", "-t", "cold", "--no-plots")
    before = {row["label"]: float(row["Kmean"]) for row in rows_of(here) if row["baseline"] == "after"}
    told = run(*words, "--baseline-rule", "predicted").output
    assert "which changes the gain by" in told
    now = {
        row["label"]: row for row in rows_of(here) if row["baseline"] == "after" and "/" not in row["Results"]
    }
    assert now["cold"]["baselinerule"] == "predicted"
    assert float(now["cold"]["Kmean"]) / before["cold"] - 1 == pytest.approx(-0.085, abs=0.015)
    run(*words, "-q")


def test_two_widths(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_datasets(tmp_path, two=place[0] / "synthetic_warmFe55")
    with (tmp_path / "velo.toml").open("a") as file:
        file.write("[dataset.fit]\nminimum_counts = 700\nstart = [0.0009, 8.0, 12.0, 1545.0]\n")
    run("analysis", "fitter", "-dt", "two", "-s2", "-q")
    for name in ("s", "us", "s2", "us2", "f", "A", "E0", "uE0"):
        assert (tmp_path / "resultstwo" / f"{name}matrix_ST_2s621ms_warm.csv").is_file()
    position = np.loadtxt(tmp_path / "resultstwo" / "E0matrix_ST_2s621ms_warm.csv", delimiter=",")
    truth = load_truth(place[0] / "synthetic_warmFe55")["E0"]
    assert np.isfinite(position).sum() > 100
    assert abs(np.nanmedian(position - truth)) < 2.0


@pytest.mark.parametrize(
    ("options", "pictures"),
    [
        ("-flux_vs_thr -t warm --no-asic --pixel 127,151", ["ind_pixel_plots/flux_vs_thr_127x151_warm"]),
        (
            "-flux_vs_thr -t warm --no-asic --pixel 127x151 --residuals --pulls",
            ["ind_pixel_plots/flux_vs_thr_127x151_warm_residuals_pulls"],
        ),
        ("-flux_vs_thr -t warm --no-asic --area 127,151,5", ["ind_pixel_plots/flux_vs_thr_127x151_r5_warm"]),
        ("-flux_vs_thr -t warm --baseline before", ["flux_vs_thr_ASIC_warm_baseline", "flux_vs_thr_ASICgood_warm_baseline"]),
        ("-d -t warm -p K -o discrepancy --compare-to ASIC", ["discrepancy/K_discrepancy_ASIC_warm"]),
        ("-d -t warm -o QQ", ["QQ_warm"]),
        ("-hm -t warm -p Fittype", ["heat_map_plots/Fittype/Fittype_heatmap_warm"]),
        ("-hm -t warm -p totalflux", ["heat_map_plots/totalflux/totalflux_heatmap_warm"]),
        ("-d -t warm -p Fittype", ["Fittype_distribution_warm"]),
        ("-rc", ["calibration_target_eDAC_histograms_warm_cold", "calibration_countsdiff_cold"]),
        ("-rc -opt QQ", ["calibration_target_eDAC_QQ_warm_cold"]),
        ("-rc -opt summary --summary energy", ["results_summary_energy_vs_target"]),
    ],
)  # fmt: skip
def test_options_in_place_of_questions(here, tmp_path, options, pictures):
    run("plot", *options.split(), "-dt", "calibration", "-O", tmp_path, "-q")
    found = {str(path.relative_to(tmp_path).with_suffix("")) for path in tmp_path.rglob("*.png")}
    assert set(pictures) <= found
    for picture in pictures:
        assert is_picture(tmp_path / f"{picture}.png")


def test_results_as_json(here):
    told = json.loads(run("analysis", "flux", "-dt", "calibration", "--json").output)
    assert [entry["label"] for entry in told] == ["warm", "cold"]
    assert len(told[0]["files"]) == 2 * 21 + 2


# ---------------------------------------------------------------- what is wrong is told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("analysis flux -dt calibratoin", "unknown dataset 'calibratoin'"),
        ("analysis flux -dt check", "calibration"),
        ("analysis flux -dt calibration -t hot", "unknown label of dataset 'calibration' 'hot'"),
        ("analysis flux -dt calibration -sep evens", "unknown group of pixels 'evens'"),
        ("plot -dt calibration", "which plot?"),
        ("plot -hm -dt nothing", "unknown dataset 'nothing'"),
        ("plot -flux_vs_thr -dt calibration --pixel 127", "ROW,COLUMN"),
        ("plot -flux_vs_thr -dt calibration --pixel a,b", "ROW,COLUMN"),
        ("plot -flux_vs_thr -dt calibration --pixel 127,300", "300"),
        ("plot -flux_vs_thr -dt calibration --area 127,151", "ROW,COLUMN,RADIUS"),
        ("plot -rc -opt summary --collection nowhere.csv", "there is no collection of results"),
        ("analysis flux -dt calibration --datasets nowhere.toml", "the dataset file does not exist"),
    ],
)
def test_wrong_words_are_told(here, tmp_path, words, message):
    assert message in refused(UsageError, *words.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("plot -hm -dt calibration -p EO", "'E0'"),
        ("plot -d -dt calibration -opt summery", "'summary'"),
        ("analysis fluxx -dt calibration", "flux"),
        ("analysis matrices -dt calibration --baseline during", "'before', 'after'"),
        ("analysis flux -dt calibration -s2", "No such option"),
    ],
)
def test_wrong_options_end_with_status_2(here, words, message):
    result = call(*words.split())
    assert result.exit_code == 2
    assert message in result.output


def test_without_a_dataset_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FIRSTLIGHT_VELO_DATASETS", raising=False)
    for words in ("analysis flux -dt calibration", "plot -hm -dt calibration"):
        told = refused(UsageError, *words.split())
        assert "velo init FOLDER" in told


def write_datasets(folder, **data):
    text = "".join(
        f'[[dataset]]\nname = "{name}"\ndata = "{path}"\nlabel = "warm"\n' for name, path in data.items()
    )
    (folder / "velo.toml").write_text(text)


def test_plots_before_the_analysis_say_what_to_do(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_datasets(tmp_path, calibration=place[0] / "synthetic_warmFe55")
    told = refused(StoreError, "plot", "-hm", "-dt", "calibration")
    assert "has not been analysed" in told
    assert "firstlight velo analysis matrices -dt calibration" in told
    run("analysis", "flux", "-dt", "calibration", "-q")
    told = refused(StoreError, "plot", "-hm", "-dt", "calibration")
    assert "only" in told
    assert "analysis matrices" in told


def test_folders_that_cannot_be_read_stop_only_themselves(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    source = place[0] / "synthetic_warmFe55"
    write_datasets(tmp_path, one=tmp_path / "empty", two=tmp_path / "nowhere")
    told = refused(InputError, "analysis", "flux", "-dt", "one")
    assert "no frame" in told
    told = refused(InputError, "analysis", "flux", "-dt", "two")
    assert "does not exist" in told
    assert "dataset 'two'" in told
    # of two labels the one that can be read is done
    (tmp_path / "velo.toml").write_text(
        f'[[dataset]]\nname = "both"\nlabel = "cold"\ndata = "empty"\n'
        f'[[dataset]]\nname = "both"\nlabel = "warm"\ndata = "{source}"\n'
    )
    result = call("analysis", "flux", "-dt", "both")
    assert isinstance(result.exception, InputError)
    assert result.exception.exit_status == 3
    assert "both (warm): flux" in result.output
    assert list((tmp_path / "resultsboth").glob("FluxperASIC_*_warm_*"))


def test_a_condition_with_an_unknown_variable_names_the_dataset(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_datasets(tmp_path, one=place[0] / "synthetic_warmFe55")
    with (tmp_path / "velo.toml").open("a") as file:
        file.write('[dataset.scan]\nexclude = "threshold == 1494"\n')
    told = refused(ConfigError, "analysis", "flux", "-dt", "one")
    assert "unknown variable 'threshold'" in told
    assert "velo.toml:1, dataset 'one'" in told
