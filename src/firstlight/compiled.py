"""Compilation of kernels: numba, cached on disk, without the lock of the interpreter.

A kernel is a module-level function with `kernel` before it. Compiled code is kept beside the package, or in
the user's cache folder; where neither can be written (a container with a read-only home), in a temporary one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

__all__ = ["kernel"]

_KERNEL = re.compile(rb"^@\w*kernel\b", re.MULTILINE)
_KEPT = 3  # versions whose compiled code is kept


def _writable(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _digest() -> str:
    """Return a digest of all modules with kernels.

    numba looks only at the file in which a kernel stands: a kernel that calls one of another file would be loaded as it
    was before the other one was changed.
    """
    digest = hashlib.sha256(sys.version.encode())
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        if _KERNEL.search(content):
            digest.update(f"{path.relative_to(root)} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()[:16]


def _places() -> list[Path]:
    """Return where compiled code may be kept, the best place first."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  (Path.home() raises where there is no home)
    name = f"firstlight-kernels-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    places = [Path(__file__).parent / "__pycache__" / "kernels", home / ".cache" / "firstlight" / "kernels"]
    return [*(place for place in places if _writable(place)), Path(tempfile.gettempdir()) / name]


def _provide_cache() -> None:
    if os.environ.get("NUMBA_CACHE_DIR"):
        return
    folder = _places()[0]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return
    # code is loaded from there: only a folder of one's own will do
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        return
    own = folder / _digest()
    if not own.exists():
        others = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
        for other in others[:-_KEPT]:
            # code of an old version; a process that still uses it compiles again
            shutil.rmtree(other, ignore_errors=True)
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write("compiling, once for this version: some ten seconds for each new kind of work\n")
        own.mkdir(exist_ok=True)
    os.environ["NUMBA_CACHE_DIR"] = str(own)
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = str(own)


_provide_cache()

import numba

kernel = numba.njit(cache=True, nogil=True)
"""Decorator of kernels."""
