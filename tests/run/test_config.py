"""Configuration: unknown keys are refused with their neighbours, and every fault is told at once."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pydantic
import pytest

from firstlight.cli.common import values_from
from firstlight.errors import ConfigError, UsageError
from firstlight.run.config import StrictModel, build, load_config


class Fit(StrictModel):
    tolerance: float = 1e-6
    iterations: int = 100


class Step(StrictModel):
    minimum_hits: int = pydantic.Field(10, ge=0)
    fit: Fit = Fit()
    limits: dict[str, float] = {}


class Options(StrictModel):
    geometry: str = "auto"
    in_time: bool = False
    trigger: tuple[str, ...] = ()
    quality: Step = Step()
    maybe: Fit | None = None
    several: tuple[Fit, ...] = ()


def test_defaults():
    assert build(Options, {}).quality.fit.iterations == 100


def test_unknown_key_names_its_nearest_neighbour_and_all_others():
    with pytest.raises(ConfigError, match="unknown key 'geomtry', did you mean 'geometry'") as caught:
        build(Options, {"geomtry": "E906"}, "run.toml")
    assert caught.value.where == "run.toml"
    assert caught.value.known == list(Options.model_fields)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"quality": {"minimum_hit": 3}}, "unknown key 'quality.minimum_hit', did you mean 'minimum_hits'"),
        (
            {"quality": {"fit": {"tolerence": 3}}},
            "unknown key 'quality.fit.tolerence', did you mean 'tolerance'",
        ),
        ({"maybe": {"iteration": 3}}, "unknown key 'maybe.iteration', did you mean 'iterations'"),
        ({"several": [{"iteration": 3}]}, "unknown key 'several.0.iteration', did you mean 'iterations'"),
    ],
)
def test_unknown_key_deep_inside_names_its_neighbours_there(values, message):
    with pytest.raises(ConfigError, match=message):
        build(Options, values)


def test_every_fault_is_told_at_once():
    with pytest.raises(ConfigError) as caught:
        build(Options, {"in_time": "perhaps", "quality": {"minimum_hits": -1, "fitt": {}}})
    text = str(caught.value)
    assert "in_time:" in text
    assert "quality.minimum_hits:" in text
    assert "(got -1)" in text
    assert "'quality.fitt', did you mean 'fit'" in text


def test_models_are_frozen():
    with pytest.raises(pydantic.ValidationError):
        build(Options, {}).in_time = True


@pytest.mark.parametrize("ending", [".toml", ".json"])
def test_file_is_read(tmp_path, ending):
    path = tmp_path / f"run{ending}"
    path.write_text(
        "in_time = true\n[quality]\nminimum_hits = 3\n"
        if ending == ".toml"
        else json.dumps({"in_time": True, "quality": {"minimum_hits": 3}})
    )
    assert build(Options, load_config(path)).quality.minimum_hits == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "in_time = yes\n", r"not valid TOML: .*line 1"),
        ("a.toml", "[quality\n", "not valid TOML"),
        ("a.toml", "a = 1\na = 2\n", "not valid TOML"),
        ("a.json", "{", "not valid JSON: .*line 1"),
        ("a.json", "[1]", "top level must be a table"),
        ("a.yaml", "a: 1", "ends in '.yaml'"),
    ],
)
def test_malformed_file_says_where(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)


def test_binary_and_missing_files(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(tmp_path / "a.toml")
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "b.toml")


# ---------------------------------------------------------------- file < --set < options


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(
        'geometry = "file"\nin_time = true\n[quality]\nminimum_hits = 1\n[quality.fit]\niterations = 1\n'
    )
    return path


def test_option_beats_set_beats_file(file):
    assert values_from(file)["geometry"] == "file"
    assert values_from(file, ("geometry=set",))["geometry"] == "set"
    assert values_from(file, ("geometry=set",), geometry="option")["geometry"] == "option"


def test_option_that_was_not_given_changes_nothing(file):
    assert values_from(file, (), geometry=None, in_time=False, trigger=()) == tomllib.loads(file.read_text())


def test_set_reaches_deep_and_keeps_what_stands_beside(file):
    values = values_from(file, ("quality.fit.tolerance=1e-3",), quality__minimum_hits=7)
    assert values["quality"] == {"minimum_hits": 7, "fit": {"iterations": 1, "tolerance": 1e-3}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.5", 1.5),
        ("true", True),
        ("E906", "E906"),
        ("'E906'", "E906"),
        ("[1, 2]", [1, 2]),
        ("a=b", "a=b"),
        ("", ""),
        ("path/to.txt", "path/to.txt"),
    ],
)
def test_value_is_toml_or_plain_text(text, value):
    assert values_from(None, (f"x={text}",)) == {"x": value}


@pytest.mark.parametrize("setting", ["geometry", "=3", " = 3"])
def test_setting_without_key_or_value_is_refused(setting):
    with pytest.raises(UsageError, match="must be KEY=VALUE"):
        values_from(None, (setting,))


def test_setting_inside_a_value_is_refused(file):
    with pytest.raises(ConfigError, match="'geometry' is a value, not a table"):
        values_from(file, ("geometry.x=3",))


def test_setting_replaced_a_whole_table_is_refused_by_the_model(file):
    with pytest.raises(ConfigError, match="quality"):
        build(Options, values_from(file, ("quality=3",)))
