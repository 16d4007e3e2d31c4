"""Parameters and configuration files.

A parameter model is a pydantic model that refuses unknown keys. Files are TOML (JSON is accepted too);
what is given on the command line overrides the file, and the effective configuration is stored in
``run.json``.
"""

from __future__ import annotations

import copyreg
import functools
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import pydantic

from firstlight.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StrictModel", "build", "configuration_model", "load_config"]

Model = TypeVar("Model", bound="StrictModel")


class StrictModel(pydantic.BaseModel):
    """Base of all parameter models: frozen, and unknown keys are errors."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, validate_default=True)


def load_config(path: Path | str) -> dict[str, Any]:
    """Return the content of a TOML or JSON configuration file.

    Parameters
    ----------
    path : Path or str
        A file whose name ends in ``.toml`` or ``.json``.

    Returns
    -------
    dict
        Nested tables as nested dictionaries.

    Raises
    ------
    ConfigError
        If the file is missing, of another kind, or malformed (with line and column).
    """
    path = Path(path)
    if not path.is_file():
        what = "configuration file does not exist"
        raise ConfigError(what, where=path)
    if path.suffix not in {".toml", ".json"}:
        what = f"configuration file ends in {path.suffix!r}"
        raise ConfigError(what, where=path, known=[".toml", ".json"])
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (UnicodeDecodeError, ValueError) as error:
        what = f"not valid {path.suffix[1:].upper()}: {error}"
        raise ConfigError(what, where=path) from error
    if not isinstance(content, dict):
        what = "the top level must be a table of keys"
        raise ConfigError(what, where=path)
    return content


def build(model: type[Model], values: Mapping[str, Any], where: str | Path | None = None) -> Model:
    """Return a validated parameter model.

    Parameters
    ----------
    model : type of StrictModel
        What to build.
    values : mapping
        Its parameters; missing ones take their defaults.
    where : str or Path, optional
        Where the values come from, for the message.

    Raises
    ------
    ConfigError
        With every fault found at once; an unknown key names its nearest neighbours.
    """
    try:
        return model.model_validate(dict(values))
    except pydantic.ValidationError as error:
        faults = []
        known: list[str] | None = None
        for fault in error.errors(include_url=False):
            key = ".".join(str(part) for part in fault["loc"])
            if fault["type"] == "extra_forbidden":
                known = _keys_at(model, fault["loc"][:-1])
                close = nearest(str(fault["loc"][-1]), known)
                guess = f", did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
                faults.append(f"unknown key {key!r}{guess}")
            else:
                message = fault["msg"].removeprefix("Value error, ")
                faults.append(f"{key or 'value'}: {message} (got {fault['input']!r})")
        raise ConfigError("; ".join(faults), where=where, known=known) from None


def _keys_at(model: type[pydantic.BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        inner = None if field is None else _model_in(field.annotation)
        model = inner or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[pydantic.BaseModel] | None:
    """Return the parameter model of a field, also of one that is optional or a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


@functools.cache
def configuration_model(
    name: str, options: type[StrictModel], steps: tuple[tuple[str, type[StrictModel]], ...]
) -> type[StrictModel]:
    """Return the model of a configuration file: options at the top, parameters of steps in tables.

    Parameters
    ----------
    name : str
        Name of the detector.
    options : type of StrictModel
        Its options.
    steps : tuple of (str, type of StrictModel)
        Name and parameter model of each step.
    """
    fields: dict[str, Any] = {
        step: (parameters, pydantic.Field(default_factory=parameters, description=f"step {step}"))
        for step, parameters in steps
        if parameters.model_fields
    }
    model: type[StrictModel] = pydantic.create_model(f"{name}_configuration", __base__=options, **fields)

    # the class stands in no module: other processes make it again from its parts
    def parts(config: StrictModel) -> tuple[Any, ...]:
        return _restore, (name, options, steps, dict(config))

    copyreg.pickle(model, parts)
    return model


def _restore(name: str, options: Any, steps: Any, values: dict[str, Any]) -> StrictModel:
    return configuration_model(name, options, steps).model_construct(**values)
