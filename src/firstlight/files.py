"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["atomic", "locked", "write_json", "write_text"]


@contextmanager
def atomic(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends well.

    The content is flushed to the disk before the rename, so that after a crash either the old or the
    whole new file stands there.

    Parameters
    ----------
    path : Path
        The file.
    flush : bool
        Wait until the content is on the disk. Hundreds of small files that can be made again need not: waiting
        for each takes longer than making them.

    Raises
    ------
    StoreError
        If the file cannot be written: no permission, no room.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        if flush:
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise StoreError(what, where=path, hint="another --output, or make room there") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other commands from writing to a folder; a process that dies gives it free.

    Where the file system or the operating system knows no locks, nothing is locked.

    Raises
    ------
    StoreError
        If another command is writing there.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        opened = (folder / ".lock").open("a")
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise StoreError(
            what, where=folder, hint="a copy of it that can be written, or another --output"
        ) from error
    with opened as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = "another command is writing to this folder"
            raise StoreError(what, where=folder, hint="wait for it, or another --output") from None
        except OSError:
            pass
        for left in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp"), *folder.glob("*/*/.*.tmp")):
            # of a command that was killed in the middle of a write
            left.unlink(missing_ok=True)
        yield


def write_text(path: Path, text: str, *, flush: bool = True) -> Path:
    """Write a text file atomically."""
    with atomic(path, flush=flush) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, content: Any, indent: int | None = 1, *, flush: bool = True) -> Path:
    """Write a JSON file atomically."""
    text = json.dumps(content, indent=indent, default=_plain, allow_nan=False) + "\n"
    return write_text(path, text, flush=flush)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "to_dict"):
        return value.to_dict()
    what = f"{type(value).__name__} cannot be written as JSON"
    raise TypeError(what)
