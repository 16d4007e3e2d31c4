"""Compilation of kernels: numba, cached on disk, without the lock of the interpreter.

A kernel is a module-level function with `kernel` before it. Compiled code is kept beside the module, or in
the user's cache folder; where neither can be written (a container with a read-only home), in a temporary one.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["kernel"]


def _writable(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _provide_cache() -> None:
    if os.environ.get("NUMBA_CACHE_DIR") or _writable(Path(__file__).parent / "__pycache__"):
        return
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  (Path.home() raises where there is no home)
    if _writable(home / ".cache" / "numba"):
        return
    name = f"firstlight-kernels-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    folder = Path(tempfile.gettempdir()) / name
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return
    # code is loaded from there: only a folder of one's own will do
    if not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid():
        os.environ["NUMBA_CACHE_DIR"] = str(folder)


_provide_cache()

import numba

kernel = numba.njit(cache=True, nogil=True)
"""Decorator of kernels."""
