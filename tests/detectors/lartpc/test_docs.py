"""The page of the LArTPC says what the code has: verbs, options, parameters, products, checks, numbers, names, examples."""

from __future__ import annotations

import ast
import inspect
import itertools
import math
import re
import runpy
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import firstlight
from firstlight.detectors.lartpc import checks, tracks_tools
from firstlight.detectors.lartpc.chain import CHAIN
from firstlight.detectors.lartpc.commands import commands
from firstlight.detectors.lartpc.features.measure import Features
from firstlight.detectors.lartpc.medium import PRESETS, VELOCITY_MODELS, drift_velocity
from firstlight.detectors.lartpc.options import AnodeOptions, MediumOptions, Options
from firstlight.detectors.lartpc.quest import CATEGORIES
from firstlight.detectors.lartpc.reading.names import ENDINGS
from firstlight.detectors.lartpc.readout.designs import DESIGNS
from firstlight.detectors.lartpc.recombination import RECOMBINATION
from firstlight.detectors.lartpc.simulate import simulate
from firstlight.detectors.lartpc.simulation.tables import mean_free_path, pair_share

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "lartpc.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DRIFTING = ("plot", "gallery", "drift", "readout", "scan", "features")


def blocks(language):
    return [text for name, text in FENCED.findall(PAGE) if name == language]


def section(title):
    """Return the text below a heading, up to the next one of any depth."""
    found = re.search(
        rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", FENCED.sub("", PAGE), re.DOTALL | re.MULTILINE
    )
    assert found, title
    return found[1]


def tables(text):
    """Return the tables of a text: head, and the cells of each row."""
    found, lines = [], text.splitlines()
    for number, (one, other) in enumerate(itertools.pairwise(lines)):
        if one.startswith("|") and re.fullmatch(r"[|-]+", other):
            rows = itertools.takewhile(lambda line: line.startswith("|"), lines[number + 2 :])
            found.append((cells_of(one), [cells_of(row) for row in rows]))
    return found


def cells_of(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def rows(text, head):
    """Return the rows of the table whose first column is called so."""
    return next(content for names, content in tables(text) if names[0] == head)


def quoted(text):
    return re.findall(r"`([^`]+)`", text)


def numbers(text):
    return [float(word.replace(",", "")) for word in re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?", text)]


def options_of(command):
    return {name for each in command.params if isinstance(each, click.Option) for name in each.opts} | {
        "--help"
    }


# ---------------------------------------------------------------- commands


def command_lines():
    for block in blocks("console"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["firstlight"]:
                yield words[1:]


def test_commands_of_the_page_exist():
    from firstlight.cli.main import cli

    context = click.Context(cli)
    lines = list(command_lines())
    assert len(lines) > 20
    for words in lines:
        group = commands if words[0] == "lartpc" else cli
        name, *rest = words[1:] if words[0] == "lartpc" else words
        command = group.get_command(context, name)
        assert command is not None, words
        given = {word for word in rest if re.fullmatch(r"--?[a-z][a-z-]*", word)}
        assert given <= options_of(command), (words, given - options_of(command))


def test_all_verbs_are_told():
    told = {name: cells for cells in rows(section("Verbs"), "verb") for name in quoted(cells[0])}
    assert told.keys() == set(commands.commands) | {"process"}
    for name, cells in told.items():
        if name in commands.commands:
            given = {word.split()[0] for word in quoted(cells[1]) if word.startswith("--")}
            assert given <= options_of(commands.commands[name]), name


def test_all_options_are_told():
    everywhere = {"--help", "-h", "--quiet", "-q", "--verbose", "--output", "-o", "--out", "-n"}
    text = section("Verbs")
    common = {word for word in quoted(text[text.index("Verbs that drift") :]) if word.startswith("--")}
    for name, command in commands.commands.items():
        (cells,) = (row for row in rows(text, "verb") if quoted(row[0]) == [name])
        told = {word.split()[0] for word in quoted(cells[1]) if word.startswith("--")}
        there = {word for word in options_of(command) if word.startswith("--")} - everywhere
        if name in DRIFTING:
            assert common <= options_of(command) | {"--depth"}, name
            there -= common | {"--readout", "--depth"}
        assert there <= told, (name, there - told)


def test_set_of_the_simulator_names_its_arguments():
    known = set(inspect.signature(simulate).parameters)
    given = [
        words[place + 1].split("=")[0]
        for words in command_lines() if words[1] == "simulate"
        for place, word in enumerate(words) if word == "--set"
    ]  # fmt: skip
    assert len(given) >= 3
    assert set(given) <= known


def test_set_of_process_names_parameters():
    given = [
        words[place + 1].split("=")[0]
        for words in command_lines() if words[0] == "process"
        for place, word in enumerate(words) if word == "--set"
    ]  # fmt: skip
    assert len(given) >= 4
    assert set(given) <= set(parameters())


# ---------------------------------------------------------------- parameters, products, checks


def parameters():
    """Return the defaults of all keys of a configuration."""
    found: dict[str, Any] = {
        name: field.default for name, field in Options.model_fields.items() if name not in ("medium", "anode")
    }
    parts = {"medium": MediumOptions, "anode": AnodeOptions}
    parts |= {step.name: step.parameters for step in CHAIN if step.parameters is not None}
    for part, model in parts.items():
        found |= {f"{part}.{name}": field.default for name, field in model.model_fields.items()}
    return found


def test_all_parameters_are_told_with_their_defaults():
    known = parameters()
    table = rows(section("Parameters"), "key")
    told = [key for cells in table for key in quoted(cells[0])]
    assert sorted(told) == sorted(known)
    compared = 0
    for cells in table:
        defaults = [known[key] for key in quoted(cells[0])]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in defaults):
            assert numbers(cells[1]) == defaults, cells
        elif all(isinstance(value, str) for value in defaults):
            assert [word.strip('"') for word in quoted(cells[1])] == defaults, cells
        elif defaults == [False]:
            assert cells[1] == "false"
        else:
            continue
        compared += len(defaults)
    assert compared >= 18


@dataclass(frozen=True)
class Example:
    """The run ``first`` that the examples of the page open, and where it is."""

    folder: Path
    run: Any


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    simulate(folder / "Tracks", seed=2, energies=(1.0, 3.0), n_tracks=10, faults=False)
    return Example(folder, firstlight.process(folder / "Tracks", folder / "first", quiet=True, plots=False))


def test_steps_and_products_are_told(example):
    table = rows(section("The chain"), "step")
    assert [quoted(cells[0])[0] for cells in table] == [step.name for step in CHAIN]
    told = {name for cells in table for name in quoted(cells[2])} | {"channels/map"}
    assert "`channels/map`" in section("The chain")
    assert told == set(example.run)


def test_checks_are_told(example):
    from firstlight.run.store import open_run

    told = [cells[0] for cells in rows(section("Checks"), "check")]
    made = [check["name"] for check in open_run(example.folder / "first").record["checks"]]
    assert len(made) >= 10
    assert set(made) <= set(told)
    source = inspect.getsource(checks)
    known = set(re.findall(r'Check\(\s*"([^"]+)"', source))
    assert set(told) == known


def test_examples_of_the_page_run(example, monkeypatch, tmp_path):
    monkeypatch.chdir(example.folder)
    code = [text for text in blocks("python") if "tracks_tools" not in text]
    path = tmp_path / "example.py"
    path.write_text("\n".join(code), encoding="utf-8")
    space = runpy.run_path(str(path))
    assert space["shapes"].height == 40
    assert space["areas"].height == 4
    assert set(space["winners"]["category"]) <= set(CATEGORIES)
    assert space["read"].charge_true == space["arrived"].charge
    assert space["track"].truth.energy == 10_000.0


def test_example_of_the_original_names_what_is_there():
    (code,) = (text for text in blocks("python") if "tracks_tools" in text)
    calls = [node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert {call.attr for call in calls} == {"Tracks", "readout_charge"}


# ---------------------------------------------------------------- numbers


def test_numbers_of_the_media_are_those_of_the_code():
    (head, table), *_ = tables(section("Liquid argon"))
    content = {cells[0]: cells[1:] for cells in table}
    for column, name in enumerate(quoted(" ".join(head[1:]))):
        medium = PRESETS[name]
        told = {key: numbers(cells[column]) for key, cells in content.items()}
        assert told["temperature, field, lifetime"] == [medium.temperature, medium.field, medium.lifetime]
        assert quoted(content["velocity"][column]) == [medium.model_name]
        assert told["velocity"][-1] == pytest.approx(medium.velocity, abs=5e-5)
        coefficients = [medium.longitudinal_diffusion, medium.transverse_diffusion]
        assert told["D_L, D_T"] == pytest.approx(coefficients, abs=5e-3)
        assert told["density"][0] == pytest.approx(medium.density, abs=5e-4)
        for key, length in (("after 17.5 cm: time, across, along, survivors", 0.175), ("after 1 m", 1.0)):
            across, along = medium.spread(length)
            wanted = [medium.drift_time(length), 1e3 * across, 1e3 * along, 100 * medium.survival(length)]
            assert np.abs(np.subtract(told[key], wanted)).max() <= 0.051, key
            assert told[key][1:3] == pytest.approx(wanted[1:3], abs=5.1e-4)


def test_velocities_are_those_of_the_code():
    head, table = next(content for content in tables(section("Liquid argon")) if content[0][0] == "model")
    fields = [float(word.removesuffix(" kV/cm")) for word in head[2:-1]]
    assert fields == [0.1, 0.273, 0.5, 1.0, 2.0]
    assert [quoted(cells[0])[0] for cells in table] == list(VELOCITY_MODELS)
    for cells in table:
        (name,) = quoted(cells[0])
        low, high = VELOCITY_MODELS[name].field
        for field, cell in zip(fields, cells[2:-1], strict=True):
            assert bool(cell) == (low <= field <= high), (name, field)
            if cell:
                assert float(cell) == pytest.approx(drift_velocity(field, 87.0, name), abs=5.1e-4)


def test_designs_are_those_of_the_code():
    head, table = tables(section("Read-outs"))[0]
    assert head[1:] == list(DESIGNS)
    content = {cells[0]: cells[1:] for cells in table}
    for column, design in enumerate(DESIGNS.values()):
        part = design.collecting
        told = {key: numbers(cells[column]) for key, cells in content.items()}
        assert told["fine"] == [1e3 * part.pitch, part.noise, part.threshold_sigma]
        assert told["slice in z"] == pytest.approx([1e3 * part.pitch])
        assert told["threshold"] == [part.threshold]
        coarse = design.coarse
        wanted = [] if coarse is None else [1e3 * coarse.pitch, coarse.noise, coarse.threshold_sigma]
        assert told["coarse"] == wanted


def test_recombination_is_that_of_the_code():
    text = section("Liquid argon")
    words = " ".join(text[text.index("Recombination, where") :].split())
    (share,) = RECOMBINATION["constant"].parameters
    assert f"({share:.2f} of 23.6 eV pairs, {share * 1000 / 23.6:.2f} electrons per keV)" in words
    assert "A = {:.3f}, k = {:.4f}".format(*RECOMBINATION["birks-icarus"].parameters) in words
    assert "alpha = {:.2f}, B = {:.3f}".format(*RECOMBINATION["box-argoneut"].parameters) in words


def test_physics_notes_have_the_cross_sections_of_the_code():
    text = " ".join(section("Physics notes").split())
    shares = re.findall(r"([\d.]+) % at ([\d.]+)(?: MeV)?[,.]", text[text.index("Shares of pairs") :])
    shares += re.findall(r"([\d.]+) % at (\d+) MeV", text[text.index("Shares of pairs") :])
    told = {float(energy): float(share) for share, energy in shares}
    assert {2.0, 3.0, 5.0, 10.0, 12.0, 20.0, 50.0} <= told.keys()
    for energy in (2.0, 3.0, 5.0, 10.0, 12.0, 20.0, 50.0):
        assert told[energy] == pytest.approx(100 * float(pair_share(1e3 * energy)), abs=0.5), energy
    assert "10 MeV flies 29 cm" in text
    assert round(float(mean_free_path(10_000.0))) == 29
    assert "Each flies 9 cm" in text
    assert round(float(mean_free_path(511.0))) == 9


def test_formula_of_the_lost_share_gives_the_numbers_of_the_page():
    text = " ".join(section("Physics notes").split())
    for name, told in (("dune87K", 17), ("gampy110K", 21)):
        across, along = (1e3 * float(width) for width in PRESETS[name].spread(0.175))
        lost = 100.0 / (6200.0 * 0.5**3 / (2 * math.pi * across * along))
        assert round(100 * lost) == told
    assert "17 % at 87 K, 21 % at 110 K" in text


# ---------------------------------------------------------------- names


def test_endings_of_files_are_told():
    told = {word for cells in rows(section("Files that are read"), "file") for word in quoted(cells[0])}
    known = {ending for ending in ENDINGS.values() if ending.startswith(".")}
    assert known <= told
    assert told <= known | {".npy", ".h5", ".hdf5", "x", "y", "z", "charge", "hits"}
    assert ENDINGS["truth_arrays"] in PAGE


def test_numbers_of_shapes_are_told():
    known = set(Features.__dataclass_fields__) - {"topology"}
    told = {word for cells in rows(section("Shapes"), "numbers") for word in quoted(cells[0])}
    assert told <= known
    # the rest are counts
    assert known - told == {"n_points", "charge", "n_voxels", "box"}
    assert numbers(section("Shapes"))[0] == len(known)


def test_categories_are_told_with_their_definitions():
    table = rows(section("The Quest"), "category")
    assert [quoted(cells[0])[0] for cells in table] == list(CATEGORIES)
    for cells, category in zip(table, CATEGORIES.values(), strict=True):
        plain = re.sub(r" of its energy", "", category.definition)
        assert cells[1] == plain


def test_names_of_the_original_are_there():
    table = rows(section("Original -> firstlight"), "original")
    told = [word for cells in table for word in quoted(cells[0])]
    functions = [name for name in tracks_tools.__all__ if name != "Tracks"]
    methods = ("reset_params", "compress", "apply_drift", "readout_charge", "display")
    assert set(functions) | set(methods) <= set(told)
    for name in methods:
        assert callable(getattr(tracks_tools.Tracks, name))
    (call,) = (word for word in told if word.startswith("Tracks("))
    names = re.findall(r"\w+", call)[1:]
    assert list(inspect.signature(tracks_tools.Tracks).parameters)[: len(names)] == names


def test_all_defects_are_told():
    table = rows(section("What differs on purpose"), "original")
    assert [int(cells[0].split(".")[0]) for cells in table] == list(range(1, 23))


def test_links_and_pictures_lead_somewhere():
    pages = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGE):
        file, _, anchor = target.partition("#")
        if file and not file.endswith(".md"):
            assert (ROOT / "docs" / file).is_file(), target
            continue
        heads = re.findall(r"^#+ (.*)$", FENCED.sub("", pages[file or "lartpc.md"]), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
        assert not anchor or anchor in anchors, target
    pictures = sorted((ROOT / "docs" / "pictures").glob("lartpc-*.png"))
    assert 1 <= len(pictures) <= 4
    for path in pictures:
        assert path.stat().st_size < 250_000, path.name
        assert path.name in PAGE


def test_readme_names_the_detector():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "[LArTPC](docs/lartpc.md)" in text
    assert "docs/lartpc-tutorial.ipynb" in text
    assert "firstlight lartpc " in text
