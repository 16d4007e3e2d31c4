"""The pages of the DigiCam say what the code has: verbs, options, parameters, products, flags, keys, tests, examples."""

from __future__ import annotations

import ast
import io
import itertools
import re
import runpy
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import click
import pytest

from firstlight.detectors.digicam.calibration import _FATAL, FLAGS
from firstlight.detectors.digicam.chain import CHAIN
from firstlight.detectors.digicam.commands import commands
from firstlight.detectors.digicam.options import Options, View
from firstlight.detectors.digicam.steering import _SAME, MODULES, NEEDLESS, Steering
from firstlight.fit.model import get_model

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "digicam.md").read_text(encoding="utf-8")
MODELS = (ROOT / "docs" / "sipm-models.md").read_text(encoding="utf-8")
SCRIPTS = ("analyse_hvoff", "analyse_dark", "analyse_dark_spe", "analyse_ac_dac_scan")


FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page, language):
    return [text for name, text in FENCED.findall(page) if name == language]


def section(title, page=PAGE):
    """Return the text below a heading, up to the next one of any depth."""
    found = re.search(
        rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", FENCED.sub("", page), re.DOTALL | re.MULTILINE
    )
    assert found, title
    return found[1]


def rows(text, head):
    """Return the cells of the rows of the table whose first column is called so."""
    lines = text.splitlines()
    pairs = itertools.pairwise(lines)
    start = next(
        k
        for k, (one, other) in enumerate(pairs)
        if one.startswith(f"| {head} |") and other.startswith("|---")
    )
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


def quoted(text):
    return re.findall(r"`([^`]+)`", text)


def opts_of(command):
    return {
        opt for parameter in command.params if isinstance(parameter, click.Option) for opt in parameter.opts
    }


# ---------------------------------------------------------------- commands


def command_lines():
    for page in (PAGE, MODELS):
        for block in blocks(page, "console"):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["firstlight"]:
                    yield words[1:]


def test_commands_of_the_page_exist():
    from firstlight.cli.main import cli

    context = click.Context(cli)
    lines = list(command_lines())
    assert len(lines) > 25
    for words in lines:
        group = commands if words[0] == "digicam" else cli
        name, *rest = words[1:] if words[0] == "digicam" else words
        command = group.get_command(context, name)
        assert command is not None, words
        given = {word.split("=")[0] for word in rest if re.fullmatch(r"--?[a-z].*", word)}
        assert given <= opts_of(command) | {"-h", "--help"}, (words, given - opts_of(command))


def test_all_verbs_are_told():
    told = {name for cells in rows(section("Verbs"), "verb") for name in quoted(cells[0])}
    assert told == set(commands.commands) | {"process"}
    for cells in rows(section("Verbs"), "verb"):
        names = quoted(cells[0])
        if names[0] in commands.commands:
            options = {word.split()[0] for word in quoted(cells[1]) if word.startswith("--")}
            assert options <= opts_of(commands.commands[names[0]]), names


def test_all_options_of_the_scripts_are_told():
    table = rows(section("Original -> firstlight"), "option")
    told = {opt for cells in table for opt in re.findall(r"--?[a-z_]+", cells[0])}
    told |= set(re.findall(r"--[a-z_-]+", table[-1][2])) | {"--file_namebase"}
    there = {opt for name in SCRIPTS for opt in opts_of(commands.commands[name])}
    assert there - told == set()
    assert told - there == set()
    for cells in table[:-1]:
        scripts = SCRIPTS if cells[1] == "all" else [name for name in quoted(cells[1]) if name in SCRIPTS]
        for name in scripts:
            assert set(re.findall(r"--?[a-z_]+", cells[0])) <= opts_of(commands.commands[name]), cells


# ---------------------------------------------------------------- parameters


def parameters():
    """Return the defaults of all keys of a configuration."""
    found = {name: field.default for name, field in Options.model_fields.items() if name != "view"}
    found |= {f"view.{name}": field.default for name, field in View.model_fields.items()}
    for step in CHAIN:
        if step.parameters is not None:
            for name, field in step.parameters.model_fields.items():
                found[f"{step.name}.{name}"] = field.default
    return found


def keys_of(cell):
    names = quoted(cell)
    step = names[0].split(".")[0]
    return [f"{step}{name}" if name.startswith(".") else name for name in names]


def test_all_parameters_are_told_with_their_defaults():
    known = parameters()
    table = rows(section("Parameters"), "key")
    told = [key for cells in table for key in keys_of(cells[0])]
    assert sorted(told) == sorted(known)
    compared = 0
    for cells in table:
        wanted = [known[key] for key in keys_of(cells[0])]
        numbers = [float(word) for word in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?", cells[1])]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in wanted):
            assert numbers == wanted, cells
            compared += len(wanted)
    assert compared > 25


def test_extractors_are_told():
    from firstlight.detectors.digicam.options import EXTRACTORS

    told = {quoted(cells[0])[0] for cells in rows(section("Parameters"), "`light.extractor`")}
    assert told == set(EXTRACTORS)


# ---------------------------------------------------------------- products, flags, keys of steering files


def test_all_products_are_told(campaign):
    told = {name for cells in rows(section("Products"), "product") for name in quoted(cells[0])}
    full = {name for name in told if "..." not in name}
    parts = {tuple(name.split("...")) for name in told if "..." in name}
    for name in campaign.run:
        assert name in full or any(name.startswith(begin) and name.endswith(end) for begin, end in parts), (
            name
        )
    # what the campaign cannot have: it has no triggered events
    assert full - set(campaign.run) == {"samples/sky"}


def test_columns_of_the_calibration_are_told(campaign):
    told = set(quoted(section("Calibration")))
    for name in campaign.run["calibration/pixels"].to_polars().columns:
        base = re.sub(r"_(error|from)$", "", name)
        assert base in told | {"channel"}, name


def test_steps_are_told_in_order():
    told = [quoted(cells[0])[0] for cells in rows(section("The chain"), "step")]
    assert told == [step.name for step in CHAIN]


def test_flags_are_told():
    table = rows(section("Flags"), "bit")
    assert [(int(cells[0]), quoted(cells[1])[0]) for cells in table] == [
        (1 << place, name) for place, name in enumerate(FLAGS)
    ]
    assert {quoted(cells[1])[0] for cells in table if cells[3] == "yes"} == set(_FATAL)


def test_keys_of_steering_files_are_told():
    text = section("YAML analyses")
    told = {name for cells in rows(text, "key") for cell in cells for name in quoted(cell)}
    known = set(Steering.model_fields) - {"analysis_module"} | set(_SAME) | set(NEEDLESS)
    assert known - told == set()
    modules = {name for cells in rows(text, "`analysis_module`") for name in quoted(cells[0])}
    assert {name for name in modules if name.startswith("analyse_")} == set(MODULES)


def test_steering_file_of_the_page_is_read(tmp_path):
    pytest.importorskip("yaml")
    from firstlight.detectors.digicam.steering import read_steering

    (block,) = blocks(PAGE, "yaml")
    path = tmp_path / "page.yml"
    path.write_text(block)
    steering, values, needless = read_steering(path)
    assert steering.job == "scan"
    assert values == {"light": {"extractor": "integration", "window_width": 7, "window_start": 3}}
    assert not needless


def test_configuration_of_the_page_is_valid():
    import tomllib

    from firstlight.run.config import build

    (block,) = blocks(PAGE, "toml")
    content = tomllib.loads(block)
    steps = {step.name: step.parameters for step in CHAIN}
    own = {key: value for key, value in content.items() if key not in steps}
    assert build(Options, own).cts_sector == 3
    for name in content.keys() & steps.keys():
        build(steps[name], content[name])


# ---------------------------------------------------------------- Python, tests, links


def run_blocks(code, folder):
    """Run blocks of code one after the other; return what they define and what they print."""
    path, said = folder / "example.py", io.StringIO()
    path.write_text("\n".join(code), encoding="utf-8")
    with redirect_stdout(said):
        space = runpy.run_path(str(path))
    return space, said.getvalue()


@pytest.mark.parametrize("page", [PAGE, MODELS], ids=["digicam", "sipm-models"])
def test_imports_of_the_examples_work(page, tmp_path):
    code = ast.parse("\n".join(blocks(page, "python")))
    imports = [node for node in code.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports
    run_blocks([ast.unparse(node) for node in imports], tmp_path)


def test_examples_read_the_run(campaign, monkeypatch, tmp_path):
    (tmp_path / "first").symlink_to(campaign.run.folder)
    monkeypatch.chdir(tmp_path)
    text = PAGE[PAGE.index("## In Python") : PAGE.index("Events, one batch after the other")]
    space, _ = run_blocks(blocks(text, "python"), tmp_path)
    assert space["good"].height > 1250
    assert space["level"].shape == (1296,)
    assert space["honest"].ok.any()


def test_examples_of_the_models_print_what_the_page_shows(tmp_path):
    """The numbers are those of the page within the last digits: generators are seeded, machines differ in rounding."""
    _, said = run_blocks(blocks(MODELS, "python"), tmp_path)
    shown = [text for text in blocks(MODELS, "") if re.search(r"^\w+ +\d", text)]
    wanted = "".join(shown).split()
    found = said.split()
    assert len(found) == len(wanted) >= 40
    for one, other in zip(found, wanted, strict=True):
        if re.search(r"\d", other):
            assert float(one.strip(",")) == pytest.approx(float(other.strip(",")), rel=2e-3, abs=0.02)
        else:
            assert one == other


def test_models_and_tests_of_the_page_exist():
    for name in ("gaussian", "generalised_poisson", "generalised_poisson_area"):
        assert f"`{name}`" in MODELS
        assert get_model(name).name == name
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", MODELS + PAGE))
    assert len(named) > 12
    assert [name for name in sorted(named) if f"def {name}(" not in tests] == []


def test_links_lead_somewhere():
    pages = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
    for name in ("digicam.md", "sipm-models.md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", pages[name]):
            file, _, anchor = target.partition("#")
            if file.startswith("pictures/"):
                assert (ROOT / "docs" / file).is_file(), target
                continue
            text = pages[file or name]
            heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert not anchor or anchor in anchors, target
