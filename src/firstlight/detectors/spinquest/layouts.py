"""The file layouts that hold SpinQuest hits, recognised by the names and shapes of their branches.

Tree names and file names say nothing: an SRAW file may be called anything, and its tree is ``save`` in one
program and ``tree`` in another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["PADDING", "TRIGGERS", "Layout", "decode_in_time", "decode_triggers", "find_layout", "is_jagged"]

TRIGGERS = ("FPGA1", "FPGA2", "FPGA3", "FPGA4", "FPGA5", "NIM1", "NIM2", "NIM3", "NIM4", "NIM5")

# unused entries of fixed-size arrays
PADDING = (32767, 2147483647)

_HITS = {
    "detector_id": "detectorID",
    "element_id": "elementID",
    "tdc_time": "tdcTime",
    "drift_distance": "driftDistance",
}
_SRAW_EVENTS = {
    "run_id": "fRunID",
    "event_id": "fEventID",
    "spill_id": "fSpillID",
    "target_position": "fTargetPos",
    "turn_id": "fTurnID",
    "rf_id": "fRFID",
    "triggers": "fTriggerBits",
}
_RUS_EVENTS = {
    "run_id": ("runID",),
    "event_id": ("eventID",),
    "spill_id": ("spillID",),
    "turn_id": ("turnID", "turnIDs"),
    "rf_id": ("rfID", "rfFID", "rfIDs"),
    "fpga": ("fpgaTrigger", "fpgaTriggers"),
    "nim": ("nimTrigger", "nimTriggers"),
}


@dataclass(frozen=True)
class Layout:
    """Where the columns of hits and events stand in a tree.

    Parameters
    ----------
    kind : str
        Name of the layout.
    tree : object
        The tree, as uproot has it.
    hits : mapping of str to branch
        By column of the hit table. ``in_time`` here is a flag word or a number, see `decode_in_time`.
    events : mapping of str to branch
        By column of the event table.
    trigger_hits : mapping of str to branch
        By column of the table of trigger-level hits; empty where there are none.
    header : branch, optional
        Hits per plane as the writer counted them (``fNHits``).
    n_planes : int, optional
        Number of planes of the writer.
    facts : mapping
        For people.
    notes : tuple of str
        What is missing or odd.
    """

    kind: str
    tree: Any
    hits: Mapping[str, Any]
    events: Mapping[str, Any] = field(default_factory=dict)
    trigger_hits: Mapping[str, Any] = field(default_factory=dict)
    header: Any = None
    n_planes: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def n_events(self) -> int:
        """Number of events in the tree."""
        return int(self.tree.num_entries)


def find_layout(trees: Mapping[str, Any], where: str) -> Layout:
    """Return the layout of the first tree that holds hits.

    Parameters
    ----------
    trees : mapping of str to tree
        All trees of a file by name.
    where : str
        The file, for messages.

    Raises
    ------
    InputError
        If no tree does; says what the trees are.
    """
    if not trees:
        what = "ROOT file without any tree"
        raise InputError(what, where=where)
    for tree in trees.values():
        leaves = _leaves(tree)
        for recognise in (_sraw, _track_qa, _rus, _hit_matrix):
            layout = recognise(tree, leaves)
            if layout is not None:
                return layout
    for name, tree in trees.items():
        _explain(name, tree, where)
    seen = [f"{name} with {', '.join(list(_leaves(tree))[:8])}" for name, tree in trees.items()]
    what = f"no tree with hits: found {'; '.join(seen)}"
    raise InputError(what, where=where, hint="trees with detectorID and elementID, or fAllHits, are read")


def _explain(name: str, tree: Any, where: str) -> None:
    names = list(_leaves(tree))
    if any(branch.typename == "SRawEvent" for branch in tree.branches):
        what = f"tree {name!r} holds SRawEvent objects that were written unsplit (split level 0)"
        hint = 'write it again with split level 99: tree->Branch("rawEvent", &event, 32000, 99)'
        raise InputError(what, where=where, hint=hint)
    if any(leaf.startswith("DST") for leaf in names):
        what = f"tree {name!r} is a DST with objects that only the software of the experiment can read"
        raise InputError(what, where=where, hint="make an SRAW or RUS file of it first")


def _leaves(tree: Any) -> dict[str, Any]:
    """Return the branches of a tree by the last part of their names."""
    # of several branches of one name the last is the one that was filled
    return {branch.name.rsplit("/", 1)[-1]: branch for branch in tree.itervalues(recursive=True)}


def _pick(leaves: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((leaves[name] for name in names if name in leaves), None)


def _shape(branch: Any) -> tuple[int, ...]:
    dtype = getattr(branch.interpretation, "to_dtype", None)
    return () if dtype is None else tuple(dtype.shape)


def is_jagged(branch: Any) -> bool:
    """Return whether each event has its own number of values in a branch."""
    return type(branch.interpretation).__name__ == "AsJagged"


def _sraw(tree: Any, leaves: Mapping[str, Any]) -> Layout | None:
    if not {"fAllHits.detectorID", "fAllHits.elementID"} <= leaves.keys():
        return None

    def hits(name: str) -> dict[str, Any]:
        wanted = {**_HITS, "in_time": "flag"}
        return {key: leaves[f"{name}.{leaf}"] for key, leaf in wanted.items() if f"{name}.{leaf}" in leaves}

    header = next((branch for leaf, branch in leaves.items() if leaf.startswith("fNHits")), None)
    n_planes = None if header is None or not _shape(header) else _shape(header)[0] - 1
    kind = "SRAW (E906)" if n_planes == 54 else "SRAW"
    events = {key: leaves[leaf] for key, leaf in _SRAW_EVENTS.items() if leaf in leaves}
    trigger = hits("fTriggerHits") if "fTriggerHits.detectorID" in leaves else {}
    split = "rawEvent" in {branch.name for branch in tree.branches}
    facts = {
        "tree": tree.name,
        "layout": "split object" if split else "flat leaves",
        "planes": n_planes or "not stated",
    }
    return Layout(kind, tree, hits("fAllHits"), events, trigger, header, n_planes, facts)


def _rus(tree: Any, leaves: Mapping[str, Any]) -> Layout | None:
    hits = {key: _pick(leaves, (leaf, f"{leaf}s")) for key, leaf in _HITS.items()}
    hits["in_time"] = _pick(leaves, ("hitInTime", "hitsInTime", "inTime"))
    hits = {key: branch for key, branch in hits.items() if branch is not None and is_jagged(branch)}
    if not {"detector_id", "element_id"} <= hits.keys():
        return None
    events = {key: _pick(leaves, names) for key, names in _RUS_EVENTS.items()}
    events = {key: branch for key, branch in events.items() if branch is not None and not is_jagged(branch)}
    trigger = {
        key: branch
        for key, leaf in (("detector_id", "triggerDetectorIDs"), ("element_id", "triggerElementIDs"))
        if (branch := leaves.get(leaf)) is not None
    }
    truth = sorted(leaf for leaf in leaves if leaf.startswith(("g", "HitArray")) and len(leaf) > 1)
    facts = {"tree": tree.name, "truth": ", ".join(truth[:12]) or "none"}
    return Layout("RUS", tree, hits, events, trigger if len(trigger) == 2 else {}, facts=facts)


def _track_qa(tree: Any, leaves: Mapping[str, Any]) -> Layout | None:
    detector, element = leaves.get("detectorID"), leaves.get("elementID")
    if (
        detector is None
        or element is None
        or len(_shape(detector)) != 1
        or _shape(detector) != _shape(element)
    ):
        return None
    notes = ["drift distances are not used: the file does not say which hit each belongs to"]
    if "triggerbits" in leaves:
        notes.append("trigger bits are not used: their order is not documented for this kind of file")
    facts = {
        "tree": tree.name,
        "slots per event": _shape(detector)[0],
        "per-plane columns": "D0U_ele" in leaves,
    }
    kind = "track QA (per plane)" if "D0U_ele" in leaves else "track QA"
    hits = {"detector_id": detector, "element_id": element}
    event_id = _pick(leaves, ("eventID", "event_id"))
    events = {} if event_id is None or is_jagged(event_id) else {"event_id": event_id}
    return Layout(kind, tree, hits, events, facts=facts, notes=tuple(notes))


def _hit_matrix(tree: Any, leaves: Mapping[str, Any]) -> Layout | None:
    matrix = next(
        (branch for leaf, branch in leaves.items() if leaf.split("[")[0].lower() == "hit_matrix"), None
    )
    if matrix is None or len(_shape(matrix)) != 2:
        return None
    facts = {"tree": tree.name, "planes x elements": "x".join(map(str, _shape(matrix)))}
    notes = ("a hit matrix holds chambers only, one hit per wire and event, without times",)
    return Layout("hit matrix", tree, {"matrix": matrix}, facts=facts, notes=notes)


def decode_in_time(values: NDArray[Any], kind: str) -> NDArray[np.int8]:
    """Return the in-time flag of hits as 0 or 1.

    In SRAW it is bit 1 (value 2) of the flag word; elsewhere it is a number by itself.
    """
    if kind.startswith("SRAW"):
        return np.asarray((values & 2) != 0, dtype=np.int8)
    return np.asarray(values != 0, dtype=np.int8)


def decode_triggers(word: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the trigger bits of an SRAW trigger word, of shape (n_events, 10), in the order of `TRIGGERS`.

    In SRAW, bits 0-4 are MATRIX1-5 (= FPGA1-5) and bits 5-9 are NIM1-5; a DST has them the other way round.
    """
    return ((word.astype(np.int64)[:, np.newaxis] >> np.arange(10)) & 1).astype(bool)
