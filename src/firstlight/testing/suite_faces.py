"""Conformance of what people see: configuration, command line, figures, checks, simulated files."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import pydantic
import pytest

from firstlight.data.patterns import find_files
from firstlight.errors import ConfigError
from firstlight.run.chain import Products, configuration_of
from firstlight.run.config import build
from firstlight.run.finished import context_of
from firstlight.run.store import open_run
from firstlight.steps.step import Verdict
from firstlight.testing.equality import assert_products_equal
from firstlight.testing.workbench import command_line, copy_input, simulated
from firstlight.view.style import styled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from firstlight.testing.workbench import Workbench

__all__ = ["FaceTests"]

_NAME = re.compile(r"[A-Za-z0-9_+-]+")


class FaceTests:
    """Tests of what a user types and reads."""

    bench: Workbench
    detector_name: str
    tolerance: float
    small: ClassVar[Mapping[str, Any]]

    def test_parameters_are_documented(self) -> None:
        """Every option and every parameter has a sentence, and stands in the JSON schema."""
        model = configuration_of(self.bench.detector)
        schema = model.model_json_schema()
        for place, owner, name in _parameters(model):
            field = owner.model_fields[name]
            is_step = isinstance(field.annotation, type) and issubclass(field.annotation, pydantic.BaseModel)
            assert is_step or field.description or name in _documented(owner), (
                f"{place} is not documented: describe {name!r} under Attributes in the docstring of "
                f"{owner.__name__}, or with pydantic.Field(description=...)"
            )
            assert _in_schema(schema, place), f"{place} is missing in the JSON schema of the configuration"

    def test_steps_have_defaults(self) -> None:
        """Every step can be run without any configuration."""
        for step in self.bench.detector.load("chain"):
            try:
                step.parameters()
            except pydantic.ValidationError as error:
                pytest.fail(f"parameters of step {step.name} have no defaults: {error}")

    def test_unknown_key_names_its_neighbour(self) -> None:
        """A key that is spelled wrong is refused with the right spelling."""
        model = configuration_of(self.bench.detector)
        places = [place for place, _, name in _parameters(model) if len(name) > 3]
        for place in places:
            wrong = f"{place[:-2]}{place[-1]}{place[-2]}x"
            content: Any = 1
            for part in reversed(wrong.split(".")):
                content = {part: content}
            with pytest.raises(ConfigError) as caught:
                build(model, content)
            right = place.rsplit(".", maxsplit=1)[-1]
            assert "unknown key" in str(caught.value), f"{wrong} is not refused: use StrictModel"
            assert right in (caught.value.known or ()), f"{wrong}: {right} is not named"

    def test_command_line_processes(self, tmp_path: Path) -> None:
        """`firstlight process FILES --detector NAME` gives the run that Python gives; `NAME process` too."""
        for number, words in enumerate(
            (["process", "--detector", self.detector_name], [self.detector_name, "process"])
        ):
            folder = tmp_path / str(number)
            arguments = [*words, *self.bench.files, "-o", folder, "--json", "--quiet", "--no-plots"]
            status, out, err = command_line(*arguments)
            assert status == 0, f"firstlight {' '.join(words)} ends with status {status}:\n{out}\n{err}"
            assert json.loads(out)["detector"] == self.detector_name, "the JSON output names another detector"
            assert_products_equal(self.bench.reference, open_run(folder))

    def test_command_line_recognises(self, tmp_path: Path) -> None:
        """`firstlight process FOLDER` finds the files and the detector by itself."""
        folder = tmp_path / "files"
        folder.mkdir()
        # folders of one name may stand in different ones of a tree
        common = os.path.commonpath([path.parent for path in self.bench.files])
        for path in self.bench.files:
            copy_input(path, folder / path.relative_to(common))
        status, out, err = command_line(
            "process", folder, "-o", tmp_path / "run", "--json", "-q", "--no-plots"
        )
        assert status == 0, f"firstlight process FOLDER ends with status {status}:\n{err}"
        record = json.loads(out)
        assert record["detector"] == self.detector_name, (
            f"the files were taken for those of {record['detector']}"
        )
        assert len(record["inputs"]) == len(self.bench.files), "not all files of the folder were found"

    def test_command_line_inspects(self) -> None:
        """`firstlight inspect FILE` says whose file it is."""
        status, out, err = command_line("inspect", self.bench.files[0], "--json")
        assert status == 0, f"firstlight inspect ends with status {status}:\n{err}"
        (found,) = json.loads(out)
        assert found["detector"] == self.detector_name, f"inspect says {found['detector']}"
        status, out, _ = command_line("inspect", self.bench.files[0], "--detector", self.detector_name)
        assert status == 0, "firstlight inspect --detector fails"
        assert f"{found['n_events']:,}" in out, "inspect does not say how many events there are"

    def test_command_line_reports(self) -> None:
        """`firstlight report RUN` writes the report again."""
        run = self.bench.copied_reference()
        page = run.folder / "report" / "index.html"
        page.unlink()
        status, out, err = command_line("report", run.folder)
        assert status == 0, f"firstlight report ends with status {status}:\n{err}"
        assert str(page) in out, "report does not say where the page is"
        assert page.is_file(), "report does not write the page"

    def test_help(self) -> None:
        """`firstlight NAME --help` works in a fresh process and shows the title."""
        command = [sys.executable, "-m", "firstlight", self.detector_name, "--help"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == 0, f"firstlight {self.detector_name} --help fails:\n{found.stderr}"
        words = " ".join(found.stdout.split())
        assert self.bench.detector.title in words, "the help does not show the title of the detector"
        assert "process" in words, "the help does not show the verb process"

    def test_detectors_lists_it(self) -> None:
        """`firstlight detectors` lists the detector with what it reads."""
        status, out, err = command_line("detectors", "--json")
        assert status == 0, f"firstlight detectors ends with status {status}:\n{err}"
        rows = {row["name"]: row for row in json.loads(out)}
        assert self.detector_name in rows, "firstlight detectors does not list it"
        assert rows[self.detector_name]["maturity"] != "broken", rows[self.detector_name]["title"]

    def test_figures(self) -> None:
        """Figures have names, titles and captions, and are drawn without a warning."""
        detector = self.bench.detector
        if detector.figures is None:
            return
        run = self.bench.reference
        figures = detector.load("figures")(Products(run), context_of(run, detector))
        names = [figure.name for figure in figures]
        twice = sorted({name for name in names if names.count(name) > 1})
        assert not twice, f"names of figures must be unique: {twice}"
        for figure in figures:
            assert _NAME.fullmatch(figure.name), f"figure name {figure.name!r}: letters, digits, _, -, + only"
            assert figure.title.strip(), f"figure {figure.name} has no title"
            assert figure.section.strip(), f"figure {figure.name} has no section"
            assert len(figure.caption) > 15, f"figure {figure.name}: say in a sentence what is shown"
        with styled():
            canvas = figures[0].draw() if figures else None
        assert canvas is None or canvas.get_axes() or canvas.texts, f"figure {names[0]} is empty"
        assert not self.bench.warnings, f"the run, or drawing its figures, warns: {self.bench.warnings[:5]}"
        pyplot = sys.modules.get("matplotlib.pyplot")
        left = [] if pyplot is None else pyplot.get_fignums()
        assert not left, "figures were made with pyplot and stay open: use matplotlib.figure.Figure"

    def test_report_is_written(self) -> None:
        """The report holds the title, every figure and every check."""
        run = self.bench.reference
        page = (run.folder / "report" / "index.html").read_text(encoding="utf-8")
        assert self.bench.detector.title in page, "the report does not show the title of the detector"
        for entry in run.record.get("figures", []):
            assert (run.folder / entry["file"]).is_file(), f"figure {entry['name']} was not written"

    def test_checks_and_summary(self) -> None:
        """Checks have a verdict and a rule in words; headline numbers have a label and a plain value."""
        seen = set()
        for check in self.bench.reference.record["checks"]:
            name, rule = check["name"], check["rule"]
            assert name.strip(), f"a check has no name: {check}"
            assert check["verdict"] in get_args(Verdict), (
                f"check {name!r}: unknown verdict {check['verdict']!r}"
            )
            assert len(rule) > 8, f"check {name!r}: give the rule that fired as a sentence with its numbers"
            assert "None" not in rule, f"check {name!r}: the rule reads {rule!r}"
            assert (name, check["subject"]) not in seen, (
                f"two checks are called {name!r} of {check['subject']!r}"
            )
            seen.add((name, check["subject"]))
        for row in self.bench.reference.record.get("summary", []):
            assert set(row) >= {"label", "value"}, f"a headline number needs label, value and unit: {row}"
            assert isinstance(row["value"], int | float | str | None), (
                f"{row['label']}: {row['value']!r} is no plain value"
            )

    def test_simulation_follows_its_seed(self, tmp_path: Path) -> None:
        """The same seed gives the same data, another seed gives others."""
        if self.bench.detector.simulate is None:
            pytest.skip(f"{self.detector_name} has no simulator")
        found = []
        for number, seed in enumerate((7, 7, 8)):
            files = simulated(self.bench.detector, tmp_path / str(number), seed, **self.small)
            found_there = find_files([tmp_path / str(number)], claims=self.bench.detector.claims)
            assert all(path in found_there for path in files), "files outside the folder"
            found.append([(path.name, self.bench.contents(path)) for path in files])
        assert found[0] == found[1], (
            "the same seed gives other data: use numpy.random.default_rng(seed), nothing else"
        )
        data = [[content for _, content in files] for files in found]
        assert data[0] != data[2], "another seed gives the same data"


def _parameters(
    model: type[pydantic.BaseModel], before: str = ""
) -> Iterator[tuple[str, type[pydantic.BaseModel], str]]:
    """Yield place, model and name of every parameter, those of steps and sections included."""
    for name, field in model.model_fields.items():
        yield f"{before}{name}", model, name
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, pydantic.BaseModel):
            yield from _parameters(inner, f"{before}{name}.")


def _documented(model: type[pydantic.BaseModel]) -> set[str]:
    """Return the names that the docstrings of a model and its bases describe."""
    names: set[str] = set()
    for base in model.__mro__:
        if base is pydantic.BaseModel:
            break
        for line in inspect.cleandoc(base.__doc__ or "").splitlines():
            entry = re.match(r"([a-z_][\w]*(?:, [a-z_][\w]*)*) : ", line)
            if entry:
                names.update(entry[1].split(", "))
    return names


def _in_schema(schema: dict[str, Any], place: str) -> bool:
    at: Any = schema
    for part in place.split("."):
        at = at.get("properties", {}).get(part)
        if at is None:
            return False
        reference = at.get("$ref") or next(
            (entry["$ref"] for entry in at.get("allOf", []) if "$ref" in entry), None
        )
        if reference is not None:
            at = schema["$defs"][reference.rsplit("/", maxsplit=1)[-1]]
    return True
