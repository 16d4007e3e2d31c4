"""What a detector is tested with: the conformance suite, and comparison of runs.

`DetectorConformance` needs pytest and is imported when it is asked for; the rest does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firstlight.errors import MissingExtraError
from firstlight.testing.equality import assert_products_equal, differences, products_equal

if TYPE_CHECKING:
    from firstlight.testing.conformance import DetectorConformance

__all__ = ["DetectorConformance", "assert_products_equal", "differences", "products_equal"]


def __getattr__(name: str) -> Any:
    if name != "DetectorConformance":
        what = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(what)
    try:
        import pytest  # noqa: F401
    except ImportError:
        package, extra = "pytest", "test"
        raise MissingExtraError(package, extra) from None
    from firstlight.testing.conformance import DetectorConformance

    return DetectorConformance
