"""Frames of a simulated scan: which ones are faulty and how, their counts, their files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from firstlight.detectors.velo.simulation.chip import SHAPE, stream
from firstlight.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from firstlight.detectors.velo.simulation.chip import Chip

    Floats = NDArray[np.float64]
    Frame = NDArray[np.uint8]

__all__ = ["Events", "Plan", "Written", "plan_events", "write_equalisation", "write_frames"]

# names of the lists of frames in a truth file, and how many frames each fault has in a scan of some size
_LISTS = {
    "bad_columns": ("bad", 6),
    "strange_columns": ("strange", 2),
    "missing": ("missing", 3),
    "empty": ("empty", 2),
    "truncated": ("truncated", 2),
    "text": ("text", 1),
    "not_square": ("not_square", 1),
    "light_leak": ("condition", 2),
}
_FRAMES_PER_FAULT = 40  # in small scans there are fewer faults than this many frames for each
_BRIGHTER, _LEAKED = 3.0, 2.0  # times the rate, and hits more per pixel, where light leaked in


@dataclass(frozen=True)
class Plan:
    """How a scan is taken.

    Parameters
    ----------
    thresholds : tuple of int
        In the order in which they are taken [DAC].
    acquisitions : int
        Frames at each threshold.
    shutter : str
        Open time as in file names: ``"2s621ms"``.
    shutter_time : float
        The same in seconds.
    gain_drift : float
        Relative change of all gains from the first frame to the last one; the true gain is that in the middle.
    prefix : str
        Module and chip: ``"Module0_VP3-1"``.
    """

    thresholds: tuple[int, ...]
    acquisitions: int
    shutter: str
    shutter_time: float
    gain_drift: float = 0.0
    prefix: str = "Module0_VP3-1"

    def file_name(self, threshold: int, acquisition: int) -> str:
        """Return the name of a frame."""
        return f"{self.prefix}_ECS_data_ST_{self.shutter}_THR_{threshold}_{acquisition}.csv"

    def gain(self, index: int, acquisition: int) -> float:
        """Return the gain relative to the true one at the time of a frame."""
        last = len(self.thresholds) * self.acquisitions - 1
        done = (index * self.acquisitions + acquisition) / max(last, 1)
        return 1.0 + self.gain_drift * (done - 0.5)


@dataclass(frozen=True)
class Events:
    """Frames with faults.

    Parameters
    ----------
    kind : dict of (int, int) to str
        What is wrong with a frame, by threshold and acquisition: a key of `lists`.
    bad_threshold : int or None
        Threshold whose frames are all bad.
    """

    kind: dict[tuple[int, int], str]
    bad_threshold: int | None = None

    def lists(self) -> dict[str, Any]:
        """Return the same as it stands in a truth file: lists of frames by fault."""
        found: dict[str, Any] = {
            name: [list(where) for where, kind in sorted(self.kind.items()) if kind == name]
            for name, _ in _LISTS.values()
        }
        return found | {"allbad_threshold": self.bad_threshold}

    @property
    def condition(self) -> str:
        """Frames to leave out as a condition of the original scripts: ``"(thr == 1494 and acq == 18)"``."""
        frames = [where for where, kind in sorted(self.kind.items()) if kind == "condition"]
        return " or ".join(f"(thr == {thr} and acq == {acq})" for thr, acq in frames) or "False"


def plan_events(plan: Plan, chip: Chip, faults: frozenset[str]) -> Events:
    """Draw which frames are faulty; every threshold but the bad one keeps a good frame.

    Raises
    ------
    ConfigError
        If there are too few frames for the faults.
    """
    rng = stream(chip.seed, "events", chip.label)
    kind: dict[tuple[int, int], str] = {}
    bad: int | None = None
    room = dict.fromkeys(plan.thresholds, plan.acquisitions - 1)
    if "bad_threshold" in faults and len(plan.thresholds) > 1:
        bad = int(rng.choice(plan.thresholds))
        kind |= {(bad, acquisition): "bad" for acquisition in range(plan.acquisitions)}
        room[bad] = 0
    n_frames = len(plan.thresholds) * plan.acquisitions
    wanted = [
        name
        for fault, (name, number) in _LISTS.items()
        if fault in faults
        for _ in range(min(number, max(1, n_frames // _FRAMES_PER_FAULT)))
    ]
    every = [(threshold, number) for threshold in plan.thresholds for number in range(plan.acquisitions)]
    for index in rng.permutation(len(every)):
        threshold = every[index][0]
        if wanted and room[threshold] > 0:
            room[threshold] -= 1
            kind[every[index]] = wanted.pop(0)
    if wanted:
        what = f"{n_frames} frames have no room for all faults: {len(wanted)} are left over"
        raise ConfigError(what, hint="more thresholds or acquisitions, or fewer faults (faults='none')")
    return Events(kind, bad)


class Written(NamedTuple):
    """What the good frames of a scan hold.

    Parameters
    ----------
    counts : ndarray of int32, shape (n_thresholds, 256, 256)
        Sums over good frames.
    n_good : ndarray of int64, shape (n_thresholds,)
        Good frames.
    n_saturated : ndarray of int32, shape (256, 256)
        Readings at 63 in good frames.
    """

    counts: NDArray[np.int32]
    n_good: NDArray[np.int64]
    n_saturated: NDArray[np.int32]


@dataclass(frozen=True)
class _Threshold:
    """What the frames of one threshold need."""

    folder: Path
    plan: Plan
    chip: Chip
    events: Events
    index: int

    def write(self) -> tuple[NDArray[np.int32], int, NDArray[np.int32]]:
        """Write the frames and return the sum of the good ones, their number, and readings at 63."""
        from firstlight.detectors.velo.simulation.kernels import LARGEST, draw

        plan, threshold = self.plan, self.plan.thresholds[self.index]
        counts, uniform = np.empty(SHAPE, dtype=np.uint8), np.empty(SHAPE[0] * SHAPE[1])
        text = np.empty(3 * uniform.size, dtype=np.uint8)
        total, saturated = np.zeros(SHAPE, dtype=np.int32), np.zeros(SHAPE, dtype=np.int32)
        n_good = 0
        mean = nothing = np.empty(0)
        for acquisition in range(plan.acquisitions):
            if acquisition == 0 or plan.gain_drift:
                rate = self.chip.rates(threshold, gain=plan.gain(self.index, acquisition))
                mean = rate.ravel() * plan.shutter_time
                nothing = np.exp(-mean)
            kind = self.events.kind.get((threshold, acquisition), "good")
            own_mean, own_nothing = mean, nothing
            if kind == "condition":
                own_mean = np.where(mean > 0, _BRIGHTER * mean + _LEAKED, 0.0)
                own_nothing = np.exp(-own_mean)
            rng = stream(self.chip.seed, "frame", self.chip.label, threshold, acquisition)
            rng.random(out=uniform)
            draw(own_mean, own_nothing, uniform, counts.reshape(-1))
            if kind == "good":
                total += counts
                saturated += counts == LARGEST
                n_good += 1
            content = self._content(counts, kind, rng, text)
            if content is not None:
                (self.folder / plan.file_name(threshold, acquisition)).write_bytes(content)
        return total, n_good, saturated

    def _content(self, counts: Frame, kind: str, rng: np.random.Generator, text: Frame) -> bytes | None:
        """Return the bytes of a frame, with what is wrong with it; None if there is no file."""
        from firstlight.detectors.velo.simulation.kernels import write_text

        if kind == "missing":
            return None
        if kind == "empty":
            counts = np.zeros_like(counts)
        elif kind in {"bad", "strange"}:
            counts = counts.copy()
            column = _fingerprint(self.chip)
            counts[:, -1] = column if kind == "bad" else rng.integers(8, 64, SHAPE[0]) * (column > 0)
        elif kind == "not_square":
            counts = np.ascontiguousarray(counts[:, :-1])
        size = write_text(counts, text)
        content = text[:size].tobytes()
        if kind == "truncated":
            # the writer stopped in the middle of a line
            return content[: int(rng.uniform(0.2, 0.9) * size)].rstrip(b"\n")
        if kind == "text":
            lines = content.split(b"\n")
            row, column_ = rng.integers(1, SHAPE[0], 2)
            values = lines[row].split(b",")
            values[column_] = b"ERR"
            lines[row] = b",".join(values)
            return b"\n".join(lines)
        return content


def _fingerprint(chip: Chip) -> Frame:
    """Return the last column of a corrupted frame: its sum over pixels that are not masked is always the same."""
    open_ = chip.mask[:, -1] == 0
    column = np.zeros(SHAPE[0], dtype=np.uint8)
    low, more = divmod(chip.fingerprint, int(open_.sum()))
    column[open_] = low
    column[np.flatnonzero(open_)[:more]] += 1
    return column


def write_frames(folder: Path, plan: Plan, chip: Chip, events: Events, threads: int = 2) -> Written:
    """Write all frames of a scan; the content of each depends on the seed, threshold and acquisition alone."""
    tasks = [_Threshold(folder, plan, chip, events, index) for index in range(len(plan.thresholds))]
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(_Threshold.write, tasks))
    counts, n_good, saturated = zip(*found, strict=True)
    return Written(
        np.stack(counts), np.array(n_good, dtype=np.int64), np.sum(saturated, axis=0, dtype=np.int32)
    )


def write_equalisation(folder: Path, prefix: str, chip: Chip, *, control: bool = True) -> list[Path]:
    """Write the files of the equalisation and return their paths.

    Parameters
    ----------
    folder : Path
        Scan folder.
    prefix : str
        Module and chip.
    chip : Chip
        What is written.
    control : bool
        Whether a noise scan at the chosen trims was taken.
    """
    test_pulses = np.zeros(SHAPE, dtype=np.int8)
    test_pulses[-1, 0] = 1
    whole, plain = ("%04d", ", "), ("%d", ",")
    contents: dict[str, tuple[NDArray[Any], tuple[str, str]]] = {
        "Matrix_Mask": (chip.mask, plain),
        "Matrix_Trim": (chip.trim, plain),
        "Matrix_TP": (test_pulses, plain),
        "Trim0_Noise_Mean": (chip.trim0_mean, whole),
        "TrimF_Noise_Mean": (chip.trimF_mean, whole),
        "TrimBest_Noise_Predict": (chip.predicted_mean, whole),
        "Trim0_Noise_Width": (chip.trim0_width, ("%05.2f", ", ")),
    }
    if control:
        contents["Control_Noise_Mean"] = (chip.control_mean, ("%07.2f", ", "))
    paths = []
    for name, (values, (form, separator)) in contents.items():
        line = separator.join([form] * SHAPE[1]) + "\n"
        text = "".join(line % tuple(row) for row in values.tolist()).replace(
            "00nan", "  nan"
        )  # as C writes it
        path = folder / f"{prefix}_{name}.csv"
        path.write_bytes(text.encode("ascii"))
        paths.append(path)
    return paths
