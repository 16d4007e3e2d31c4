"""Run directories of SpinQuest over several commands: nothing stale stays, masks can be used over and over."""

from __future__ import annotations

from click.testing import CliRunner

from firstlight.cli.main import cli
from firstlight.detectors.spinquest.simulate import simulate_spill
from firstlight.run.store import open_run


def run(*arguments):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def spill(tmp_path):
    path = tmp_path / "raw" / "spill.root"
    simulate_spill(path, seed=3, n_events=400, faults=["dead:D2X:100", "hot:D0X:74=40"])
    return path


def test_figures_and_groups_of_other_numbers_are_removed(tmp_path):
    path, out = spill(tmp_path), tmp_path / "out"
    run("spinquest", "occupancy", path, "-o", out, "-q")
    assert (out / "Station 1/Station_1_plot.png").is_file()
    assert (out / "report/index.html").is_file()
    run("spinquest", "occupancy", path, "-o", out, "-q", "--legacy-layout")
    assert (out / "Hodo/Hodo_plot.png").is_file()
    assert not (out / "Hodo-1").exists()
    run("spinquest", "occupancy", path, "-o", out, "-q", "--max-events", 100, "--no-plots")
    assert not (out / "report/index.html").exists()
    assert not list(out.rglob("*.png"))
    assert not (out / "Hodo_data.json").exists()
    assert open_run(out).record["figures"] == []
    assert (out / "total_hits_data.json").is_file()


def test_the_suggested_mask_keeps_what_it_masks(tmp_path):
    path, out = spill(tmp_path), tmp_path / "out"
    run("spinquest", "quality", path, "-o", out, "-q", "--no-plots")
    mask = out / "suggested_mask.txt"
    listed = {
        line.split("#")[0].strip() for line in mask.read_text().splitlines() if not line.startswith("#")
    }
    assert {" ".join(line.split()) for line in listed} == {"D2X 100", "D0X 74"}
    for _ in range(2):
        run("spinquest", "quality", out, "--mask", mask, "-q", "--no-plots")
        again = {
            line.split("#")[0].strip() for line in mask.read_text().splitlines() if not line.startswith("#")
        }
        assert again == listed
    record = open_run(out).record
    assert len(record["earlier_activities"]) == 2


def test_process_says_why_a_file_is_nobodys(tmp_path):
    path = tmp_path / "half.root"
    path.write_bytes(b"ro")
    result = CliRunner().invoke(cli, ["process", str(path), "-o", str(tmp_path / "out")])
    assert result.exit_code != 0
    assert "too short for a ROOT file (2 bytes)" in str(result.exception)
    assert "half.root" in str(result.exception)
