"""The example of a detector of somebody else: installed through an entry point, held to the conformance suite."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from firstlight.detector import GROUP, Description, detector_names, get_detector
from firstlight.errors import DetectorError, InputError
from firstlight.run.config import StrictModel
from firstlight.run.store import open_run
from firstlight.testing import DetectorConformance
from firstlight.testing.workbench import Workbench, command_line

PROJECT = Path(__file__).parents[1] / "example_detector"


def install(folder: Path, name: str, points: dict[str, str]) -> Path:
    """Write what `pip install` leaves of a package that has entry points."""
    information = folder / f"{name.replace('-', '_')}-0.1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    lines = [f"[{GROUP}]", *(f"{key} = {value}" for key, value in points.items())]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def add_to_path(patch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let this process and those that it starts find packages in some folders."""
    for folder in folders:
        patch.syspath_prepend(str(folder))
    known = [str(folder) for folder in folders] + os.environ.get("PYTHONPATH", "").split(os.pathsep)
    patch.setenv("PYTHONPATH", os.pathsep.join(part for part in known if part))


@pytest.fixture(scope="module", autouse=True)
def bars_installed(tmp_path_factory):
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    site = install(tmp_path_factory.mktemp("site"), project["name"], project["entry-points"][GROUP])
    with pytest.MonkeyPatch.context() as patch:
        add_to_path(patch, PROJECT, site)
        yield
    for name in [name for name in sys.modules if name.split(".")[0] == "bars"]:
        del sys.modules[name]


class TestBars(DetectorConformance):
    detector_name = "bars"
    small = {"n_events": 300}


def test_truth_is_recovered(tmp_path):
    from bars.simulate import DEAD, HOT, true_response

    from firstlight.run.chain import Settings, process
    from firstlight.run.progress import silent

    detector = get_detector("bars")
    files = detector.load("simulate")(tmp_path / "raw", seed=3)
    run = process(detector, files, tmp_path / "run", settings=Settings(progress=silent(), plots=False))
    found = run["response/bars"].to_polars()
    assert found["response"].is_null().arg_true().to_list() == [DEAD]
    alive = np.delete(np.arange(64), DEAD)
    pulls = ((found["response"].to_numpy() - true_response(3)) / found["error"].to_numpy())[alive]
    # the median bar itself has an error, which all bars share: only the spread is compared with 1
    assert abs(pulls.mean()) < 1.5
    assert 0.75 < pulls.std() < 1.25
    details = {check["name"]: check["details"] for check in run.record["checks"]}
    assert details["dead bars"] == [f"bar {DEAD}"]
    assert details["hot bars"] == [f"bar {HOT}"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda lines: [*lines[:5], "garbage", *lines[6:]], "line 6 is not a hit of the run: 'garbage'"),
        (lambda lines: [*lines[:5], "0,64,1.0,2.0", *lines[6:]], "line 6 .* '0,64,1.0,2.0'"),
        (lambda lines: [*lines[:9], "0,1,1.0", *lines[10:]], "line 10 .* '0,1,1.0'"),
        (lambda lines: [*lines[:4], "200,1,1.0,2.0", *lines[5:]], "line 6 is not a hit"),
        (lambda lines: [*lines[:8], *lines[9:]], "line .* '# end rows"),
        (lambda lines: [*lines[:-1], lines[-2], lines[-1]], "there are more hits than the last line says"),
        (lambda lines: lines[:-1], "does not end with"),
        (lambda lines: ["event,channel", *lines[1:]], "begins with 'event,channel"),
    ],
)
def test_garbled_lines_are_named(tmp_path, spoil, reason):
    from bars.source import BarFiles

    from firstlight.data.schema import Span

    (path,) = get_detector("bars").load("simulate")(tmp_path, n_files=1, n_events=300)
    path.write_text("\n".join(spoil(path.read_text().splitlines())) + "\n")
    source = BarFiles()
    with pytest.raises(InputError, match=reason) as caught:
        list(source.read(Span(str(path), 0, 0, source.describe(path).n_events), {"hits": ("event",)}, None))
    assert caught.value.where == str(path)


def test_file_without_events(tmp_path):
    path = tmp_path / "bars_0001_thr30.csv"
    path.write_text("# bars run=1 threshold=30 events=0\nevent,channel,time_ns,charge_pc\n# end rows=0\n")
    status, out, err = command_line("process", path, "-o", tmp_path / "run", "--json", "-q")
    assert status == 0, err
    assert [check["verdict"] for check in json.loads(out)["checks"]] == ["no-statistics"]


def test_cut_on_the_command_line(tmp_path):
    files = get_detector("bars").load("simulate")(tmp_path, n_files=1, n_events=100)
    setting = 'cuts=["charge > 20"]'
    status, out, err = command_line(
        "bars", "process", *files, "-o", tmp_path / "run", "--set", setting, "--json", "-q", "--no-plots"
    )
    assert status == 0, err
    (flow,) = json.loads(out)["cut_flow"]
    rows = [line.split(",") for line in files[0].read_text().splitlines()[2:-1]]
    assert (flow["rows"], flow["left"]) == (len(rows), sum(float(row[3]) > 20 for row in rows))
    run = open_run(tmp_path / "run")
    assert run["occupancy/totals"].to_polars()["n_hits"].item() == flow["left"]
    assert run["charge/all"].to_numpy()[:, :40].sum() == 0


def test_detectors_lists_it_with_its_package():
    status, out, _ = command_line("detectors")
    assert status == 0
    assert "Scintillator bars, 8 x 8" in out
    assert "CSV files of the bar array" in out
    assert "firstlight-example-bars" in out


def test_name_of_a_built_in_detector_is_refused(tmp_path, monkeypatch):
    add_to_path(monkeypatch, install(tmp_path, "other-spinquest", {"spinquest": "other:detector"}))
    with pytest.raises(DetectorError, match="built in") as caught:
        detector_names()
    assert "other-spinquest" in str(caught.value)
    assert get_detector("spinquest").name == "spinquest"
    # those who do not use that package are not stopped by it
    assert command_line("spinquest", "--help")[0] == 0


def test_two_packages_of_one_name_are_refused(tmp_path, monkeypatch):
    add_to_path(monkeypatch, install(tmp_path, "more-bars", {"bars": "morebars:detector"}))
    with pytest.raises(DetectorError, match="two packages") as caught:
        get_detector("bars")
    assert "more-bars" in str(caught.value)
    assert "firstlight-example-bars" in str(caught.value)


BROKEN = {
    "missing": ("no_such_module_anywhere:detector", ""),
    "syntax": ("syntax_error_pkg:detector", "def detector(:\n"),
    "raises": ("raising_pkg:detector", "1 / 0\n"),
    "nothing": ("nothing_pkg:detector", ""),
    "other": ("other_pkg:detector", "detector = 3\n"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_package_is_named_and_stops_nobody_else(tmp_path, monkeypatch, name):
    place, code = BROKEN[name]
    module = tmp_path / f"{place.split(':')[0]}.py"
    if name != "missing":
        module.write_text(code)
    add_to_path(monkeypatch, install(tmp_path, f"broken-{name}", {name: place}))
    importlib.invalidate_caches()
    with pytest.raises(DetectorError, match=name) as caught:
        get_detector(name)
    assert place in str(caught.value)
    status, out, err = command_line("detectors", "--json")
    assert status == 0, err
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows[name]["maturity"] == "broken"
    assert rows["bars"]["maturity"] == "new"
    files = get_detector("bars").load("simulate")(tmp_path / "raw", n_files=1, n_events=50)
    status, _, err = command_line("process", *files, "-o", tmp_path / "run", "--quiet", "--no-plots")
    assert status == 0, err
    assert command_line("inspect", *files)[0] == 0


def test_page_quotes_the_example():
    page = (PROJECT.parents[1] / "docs" / "add-your-detector.md").read_text()
    quoted = re.findall(r"```(?:python|toml)\n(.*?)\n```", page, re.DOTALL)
    assert len(quoted) > 10
    files = [PROJECT / "pyproject.toml", *sorted((PROJECT / "bars").glob("*.py")), Path(__file__)]
    texts = [path.read_text() for path in files]
    strange = [block for block in quoted if not any(f"{block}\n" in text for text in texts)]
    assert not strange, "the page quotes what is not in the example:\n" + "\n---\n".join(strange)
    for path in files[1:-1]:
        assert f"`bars/{path.name}`" in page


def test_unknown_detector_names_its_neighbour():
    with pytest.raises(DetectorError, match="unknown detector 'barz'") as caught:
        get_detector("barz")
    assert "bars" in str(caught.value)


# ---- the suite itself: each planted fault is found by the test that is there for it


class Wrapped:
    """The source of the bars with something about it changed."""

    def __init__(self, **changed):
        from bars.source import BarFiles

        self.whole = BarFiles()
        self.changed = changed

    def __getattr__(self, name):
        if name in ("whole", "changed"):
            raise AttributeError(name)
        return self.changed[name] if name in self.changed else getattr(self.whole, name)


def read_short(span, columns, channels, *, chunk_events=None):
    """Lose the charge of the first hit of every chunk but the first."""
    from bars.source import BarFiles

    from firstlight.data.schema import Table

    for chunk in BarFiles().read(span, columns, channels, chunk_events=chunk_events):
        if "hits" in chunk.parts and chunk.span.start > span.start:
            table = chunk.table("hits")
            lost = pl.when(pl.int_range(pl.len()) > 0).then("charge").otherwise(0.0).cast(pl.Float32)
            chunk = chunk.with_parts(hits=Table(table.frame.with_columns(charge=lost), table.schema))
        yield chunk


def read_other_alone(span, columns, channels, *, chunk_events=None):
    """Give other times where nothing but times is asked for."""
    from bars.source import BarFiles

    from firstlight.data.schema import Table

    for chunk in BarFiles().read(span, columns, channels, chunk_events=chunk_events):
        if columns.get("hits") == ("time",):
            table = chunk.table("hits")
            chunk = chunk.with_parts(hits=Table(table.frame * 2, table.schema))
        yield chunk


def read_anything(span, columns, channels, *, chunk_events=None):
    """Pass over unknown columns."""
    from bars.source import BarFiles

    source = BarFiles()
    known = {
        name: tuple(c for c in wanted if c in source.schemas[name].names) for name, wanted in columns.items()
    }
    yield from source.read(span, known, channels, chunk_events=chunk_events)


def describe_more(path):
    from bars.source import BarFiles

    found = BarFiles().describe(path)
    return replace(found, tables={"hits": ("event", "channel", "energy")})


def describe_half(path):
    """Take a file whose end is missing for whole."""
    import bars.source

    lines = path.read_text().splitlines()
    if not lines:
        raise ZeroDivisionError
    return (
        bars.source.BarFiles().describe(path)
        if lines[-1][0] == "#"
        else Description(str(path), "csv", "csv", 0, {})
    )


def sniff_all(path):
    return path.read_bytes()[:1] == path.read_bytes()[:1]


def merge_in_place(one, other):
    one.counts[:, : other.counts.shape[1]] += other.counts[:, : one.counts.shape[1]]
    return one


def count_chunks(chunk, parameters, context):
    from firstlight.steps import occupancy

    found = occupancy.count(chunk, parameters, context)
    return replace(found, n_events=found.n_events + 1)


class Undocumented(StrictModel):
    """Parameters that nobody explains."""

    mystery: int = 3


def steps(**changed):
    """Return the chain of the bars with fields of some steps changed."""
    from bars.chain import CHAIN

    return tuple(replace(step, **changed.get(step.name, {})) for step in CHAIN)


def figures_twice(products, context):
    from bars.judge import figures

    return figures(products, context) * 2


def check_without_rule(products, context):
    from firstlight.steps.step import Check

    return [Check("dead bars", "bad", 1, 0, "")]


def simulate_anyhow(folder, *, seed=1, n_events=300):
    from bars.simulate import simulate

    return simulate(folder, seed=time.time_ns() % 2**31, n_events=n_events)


FAULTS = {
    "test_sniff_refuses_other_files": (lambda: {"sources": (Wrapped(sniff=sniff_all),)}, "sniff"),
    "test_describe_agrees_with_read": (
        lambda: {"sources": (Wrapped(describe=describe_more),)},
        "schema lacks: .'energy'",
    ),
    "test_spoilt_files_are_refused": (
        lambda: {"sources": (Wrapped(describe=describe_half),)},
        "an empty file gives",
    ),
    "test_projection": (
        lambda: {"sources": (Wrapped(read=read_other_alone),)},
        "hits.time read alone differs",
    ),
    "test_unknown_column": (lambda: {"sources": (Wrapped(read=read_anything),)}, "must refuse the column"),
    "test_chunk_size_does_not_matter": (
        lambda: {"sources": (Wrapped(read=read_short),)},
        "with 1 events in a chunk",
    ),
    "test_spans_do_not_matter": (
        lambda: {"chain": steps(occupancy={"map": count_chunks})},
        "occupancy/totals",
    ),
    "test_steps_need_what_they_say": (
        lambda: {"chain": steps(multiplicity={"needs": lambda _: {"hits": ("channel",)}})},
        "step multiplicity failed.*'events'",
    ),
    "test_merge_is_associative": (
        lambda: {"chain": steps(multiplicity={"merge": merge_in_place})},
        "merge.. of step multiplicity",
    ),
    "test_parts_can_be_pickled": (
        lambda: {"chain": steps(charge={"finish": lambda *_: {}})},
        "step charge cannot be pickled|the task cannot be pickled",
    ),
    "test_chain_is_in_order": (lambda: {"chain": steps()[::-1]}, "no step before it makes"),
    "test_parameters_are_documented": (
        lambda: {"chain": steps(response={"parameters": Undocumented})},
        "response.mystery is not documented",
    ),
    "test_figures": (lambda: {"figures": figures_twice}, "must be unique"),
    "test_checks_and_summary": (lambda: {"checks": check_without_rule}, "give the rule"),
    "test_simulation_follows_its_seed": (
        lambda: {"simulate": simulate_anyhow},
        "the same seed gives other data",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_suite_finds_planted_faults(name, tmp_path):
    make, message = FAULTS[name]

    class Faulty(TestBars):
        pass

    suite = Faulty()
    whole = get_detector("bars")
    Faulty._bench = bench = Workbench("bars", suite, tmp_path)
    assert len(bench.files) == 2  # written before the fault is there
    bench.__dict__["detector"] = replace(whole, **make())
    arguments = (
        [tmp_path / "test"] if "tmp_path" in inspect.signature(getattr(suite, name)).parameters else []
    )
    for folder in arguments:
        folder.mkdir()
    with pytest.raises((AssertionError, pytest.fail.Exception), match=message):
        getattr(suite, name)(*arguments)


def test_suite_finds_that_hits_do_not_follow_their_event(tmp_path, monkeypatch):
    from firstlight.run import reading

    monkeypatch.setattr(reading, "_with_links", lambda columns, source: columns)

    class Faulty(TestBars):
        pass

    suite = Faulty()
    Faulty._bench = Workbench("bars", suite, tmp_path)
    with pytest.raises(AssertionError, match="without its column 'event'"):
        suite.test_steps_follow_a_cut_on_events()
