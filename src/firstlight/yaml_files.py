"""YAML, of which steering files and settings of other tools are made."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from firstlight.errors import FirstlightError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["load_yaml"]


def load_yaml(path: Path, kind: type[FirstlightError], wrong: str) -> Any:
    """Return the content of a YAML file; only plain values are made of it.

    Parameters
    ----------
    path : Path
        The file.
    kind : type of FirstlightError
        Raised where it cannot be read.
    wrong : str
        What is wrong then, before the reason.

    Raises
    ------
    MissingExtraError
        If pyyaml is not installed.
    """
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError as error:
        package, extra = "pyyaml", "yaml"
        raise MissingExtraError(package, extra) from error
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        what = f"{wrong}: {' '.join(str(error).split())}"
        raise kind(what, where=path) from error
