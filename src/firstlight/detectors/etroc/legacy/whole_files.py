"""Files that take the place of old ones whole; flushed to the disk, or not where hundreds of small ones are written."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from firstlight.errors import StoreError
from firstlight.files import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["replace_json", "replace_text", "replaced"]


@contextmanager
def replaced(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends well.

    Parameters
    ----------
    path : Path
        The file.
    flush : bool
        Wait until the content is on the disk. A directory of a hundred runs has a thousand files that can be made again:
        waiting for each takes longer than making them.

    Raises
    ------
    StoreError
        If the file cannot be written.
    """
    if flush:
        with atomic(path) as temporary:
            yield temporary
        return
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise StoreError(what, where=path, hint="another output directory, or make room there") from error
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str, *, flush: bool = True) -> Path:
    """Write a text file whole."""
    with replaced(path, flush=flush) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def replace_json(path: Path, content: Any, *, flush: bool = True) -> Path:
    """Write a JSON file whole."""
    return replace_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n", flush=flush)
