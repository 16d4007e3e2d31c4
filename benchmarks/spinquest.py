"""Speed and memory of SpinQuest: counting against plain uproot, the whole command, one event.

python benchmarks/spinquest.py [--runs 7] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COLUMNS = ["fAllHits.detectorID", "fAllHits.elementID"]


def seconds(function, runs):
    """Return the median time of a call, after one that is not counted."""
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times), min(times)


def paired(ours, reference, runs):
    """Return medians of both, and the median of the ratios of neighbouring runs."""
    ours()
    reference()
    pairs = []
    for _ in range(runs):
        start = time.perf_counter()
        reference()
        middle = time.perf_counter()
        ours()
        pairs.append((time.perf_counter() - middle, middle - start))
    ratios = [a / b for a, b in pairs]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(ratios),
    )


def read_columns(path):
    """Read the two columns with uproot alone, in steps of 500 events."""
    import uproot

    tree = uproot.open(path)["save"]
    return sum(len(arrays) for arrays in tree.iterate(COLUMNS, step_size=500))


def counting(path):
    """Return a call that reads and counts one file with the package."""
    from firstlight.data.schema import Span
    from firstlight.detectors.spinquest.channels import channel_map
    from firstlight.detectors.spinquest.geometry import load_geometry
    from firstlight.detectors.spinquest.source import RootHits
    from firstlight.run.reading import reduce_chunks
    from firstlight.steps.occupancy import OccupancyParameters, occupancy
    from firstlight.steps.step import Context, NoParameters

    source, parameters = RootHits(), OccupancyParameters()
    channels = channel_map(load_geometry("E1039"))
    context = Context(channels, NoParameters(), (Path(path).name,))
    span = Span(str(path), 0, 0, source.describe(Path(path)).n_events)

    def count():
        chunks = source.read(span, occupancy.needs(parameters), channels)
        return reduce_chunks(chunks, [(occupancy, parameters)], context)[0]["occupancy"]

    return count


def in_process(code, path):
    """Return what a fresh process prints as JSON."""
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{code}"
    out = subprocess.run(
        [sys.executable, "-c", script, str(path)], check=True, capture_output=True, text=True
    )
    return json.loads(out.stdout.splitlines()[-1])


_MEASURE = """
import json, time
from pathlib import Path
from spinquest import counting
start = time.perf_counter()
counts = counting(sys.argv[1])()
cold = time.perf_counter() - start
# (ru_maxrss of a child holds the size of the process that started it)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({"rss": int(peak.split()[1]) / 1024, "cold": cold,
                  "hits": int(counts.values[:, 0].sum())}))
"""

_COMMAND = """
import json, resource, subprocess, tempfile, time
with tempfile.TemporaryDirectory() as folder:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "firstlight", "spinquest", "occupancy", sys.argv[1], "-o", folder, "-q"], check=True)
    took = time.perf_counter() - start
print(json.dumps({"rss": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, "seconds": took}))
"""


def line(what, value, limit, unit=""):
    verdict = "ok " if value <= limit else "MISS"
    print(f"{verdict}  {what:<58} {value:8.3f} {unit:<5} limit {limit:g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument(
        "--keep", type=Path, help="folder for the simulated files, used again if they are there"
    )
    options = parser.parse_args()
    from firstlight.detectors.spinquest.display import draw, open_events, read_event
    from firstlight.detectors.spinquest.simulate import simulate_spill

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        spill, long_run = folder / "spill.root", folder / "100k.root"
        if not spill.exists():
            simulate_spill(spill, seed=5, n_events=3716, mean_hits=1089)
        if not long_run.exists():
            simulate_spill(long_run, seed=6, n_events=100_000, mean_hits=300)

        hits = int(counting(spill)().values[:, 0].sum())
        print(f"spill: 3716 events, {hits:,} hits, {spill.stat().st_size / 1e6:.1f} MB")
        ours, reference, ratio = paired(counting(spill), lambda: read_columns(spill), options.runs)
        print(f"      counting {ours:.3f} s, uproot alone {reference:.3f} s")
        line("counting / reading two columns with uproot", ratio, 1.3)
        line("memory of counting the spill", in_process(_MEASURE, spill)["rss"], 250, "MiB")

        found = [in_process(_COMMAND, spill) for _ in range(3)]
        line("occupancy command with all plots", statistics.median(f["seconds"] for f in found), 8, "s")
        print(f"      the same: {found[0]['rss']:.0f} MiB; the original needs 615 s for such a spill")

        print(f"long run: 100,000 events, {long_run.stat().st_size / 1e6:.0f} MB")
        took, _ = seconds(counting(long_run), 3)
        line("counting 100k x 300", took, 4, "s")
        line("memory of counting 100k x 300", in_process(_MEASURE, long_run)["rss"], 400, "MiB")

        _, geometry = open_events(spill)
        numbers = iter(np.random.default_rng(1).integers(0, 3716, 1000).tolist())
        took, _ = seconds(lambda: read_event(spill, next(numbers), geometry=geometry), options.runs)
        line("reading one event for display", 1e3 * took, 150, "ms")
        event = read_event(spill, 7, geometry=geometry)
        for view in ("map", "xz", "station"):
            took, _ = seconds(lambda view=view: draw(view, event, geometry), 3)
            print(f"      drawing the {view} view: {1e3 * took:.0f} ms")


if __name__ == "__main__":
    main()
