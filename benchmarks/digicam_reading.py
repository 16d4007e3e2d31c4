"""Speed and memory of reading DigiCam files, against the bare loop of protozfits over the same events.

The loop is ``for event in protozfits.File(path).Events: event.hiGain.waveforms.samples``: it decodes, and sorts no pixel. Ours
gives chunks of sorted waveforms, event numbers, times, types and baselines, and has compared the checksum of the file. Both
are timed in turn, and the median of the ratios of neighbours is held against the limit. References need protozfits.

python benchmarks/digicam_reading.py [--runs 7] [--events 2000] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

LIMIT = 1.2
N_PIXELS, N_SAMPLES = 1296, 50
DATA = Path(os.environ.get("FIRSTLIGHT_DATA", Path(__file__).parents[2] / "shared" / "data"))


def timed(function, *arguments):
    """Return wall and processor time of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    function(*arguments)
    return time.perf_counter() - wall, time.process_time() - cpu


def bare(paths):
    import protozfits

    for path, _ in paths:
        file = protozfits.File(str(path))
        for event in file.Events:
            event.hiGain.waveforms.samples  # noqa: B018
        file.close()


def pure(paths):
    import protozfits

    for path, _ in paths:
        file = protozfits.File(str(path), pure_protobuf=True)
        for event in file.Events:
            len(event.hiGain.waveforms.samples.data)
        file.close()


def ours(paths, columns=None):
    from firstlight.data.schema import Span
    from firstlight.detectors.digicam.channels import channel_map
    from firstlight.detectors.digicam.source import EVENTS, SOURCES

    channels = channel_map()
    columns = columns or {"events": tuple(EVENTS.names), "waveforms": (), "baselines": ()}
    for path, n_events in paths:
        for chunk in SOURCES[0].read(Span(str(path), 0, 0, n_events), columns, channels):
            assert chunk.span.stop <= n_events


def waveforms(paths):
    return ours(paths, {"waveforms": ()})


def numbers(paths):
    return ours(paths, {"events": ("number", "time", "event_type")})


def described(paths):
    from firstlight.detectors.digicam.source import SOURCES

    for path, _ in paths:
        SOURCES[0].describe(path)


def simulated(path, n_events, seed=1):
    """Write dark events of the camera, as the camera does but for the compression."""
    from firstlight.detectors.digicam.readout.batch import EventBatch
    from firstlight.detectors.digicam.readout.zfits_writer import ZfitsWriter

    rng = np.random.default_rng(seed)
    level = rng.normal(284, 6, N_PIXELS).astype(np.float32)
    with ZfitsWriter(path, run_type="darkrun", trigger=True) as writer:
        for first in range(0, n_events, 100):
            size = min(100, n_events - first)
            samples = np.rint(
                level[:, None] + rng.standard_normal((size, N_PIXELS, N_SAMPLES), dtype=np.float32)
            )
            number = first + np.arange(size)
            writer.write(EventBatch.of(samples, number, 10**18 + 10**6 * number, 8, level))
    return path


def compare(what, paths, runs):
    """Time both ways in turn and print the ratio; a path stands with its number of events."""
    functions = {
        "bare": bare,
        "pure": pure,
        "ours": ours,
        "waveforms": waveforms,
        "numbers": numbers,
        "describe": described,
    }
    n_events = sum(size for _, size in paths)
    took = {name: [] for name in functions}
    for function in functions.values():
        function(paths)
    for _ in range(runs):
        for name, function in functions.items():
            took[name].append(timed(function, paths))
    ratio = statistics.median(
        one[0] / other[0] for one, other in zip(took["ours"], took["bare"], strict=True)
    )
    good = "ok " if ratio <= LIMIT else "MISS"
    print(f"{good}  {what}: {ratio:.2f} times the bare loop   limit {LIMIT:g}", flush=True)
    for name, pairs in took.items():
        wall, cpu = (statistics.median(each) for each in zip(*pairs, strict=True))
        print(f"      {name:<10} {n_events / wall:8,.0f} events/s   {wall:.3f} s, processor {cpu:.3f} s")


def in_processes(tasks, runs):
    """Time the same tasks in one process and in two."""
    from firstlight.run.execution import one_thread_each

    n_events = sum(size for paths in tasks for _, size in paths)
    together = [path for paths in tasks for path in paths]
    with one_thread_each(), ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(ours, tasks))
        one, two = [], []
        for _ in range(runs):
            one.append(timed(ours, together)[0])
            two.append(timed(lambda: list(pool.map(ours, tasks)))[0])
    gain = statistics.median(slow / fast for slow, fast in zip(one, two, strict=True))
    print(
        f"      two processes: {gain:.2f} times as fast, {n_events / statistics.median(two):,.0f} events/s",
        flush=True,
    )


_PROBE = """
import json, resource, sys
sys.path.insert(0, {folder!r})
from digicam_reading import ours
ours([{few!r}])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ours([{many!r}])
print(json.dumps([before / 1e3, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3]))
"""


def memory(many, few):
    """Print what reading many events takes more than reading few, in a process that does only this."""
    folder = str(Path(__file__).parent)
    code = _PROBE.format(folder=folder, few=(str(few[0]), few[1]), many=(str(many[0]), many[1]))
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    before, after = json.loads(out.stdout)
    good = "ok " if after - before <= 150 else "MISS"
    size = many[0].stat().st_size / 1e6
    what = (
        f"{after:.0f} MB, {after - before:.0f} MB more than for {few[1]} events; the file has {size:.0f} MB"
    )
    print(f"{good}  memory: {what}   limit 150 more")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--events", type=int, default=2000, help="of the simulated file")
    parser.add_argument("--data", type=Path, default=DATA, help="sample data with the real files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        wall, _ = timed(simulated, place / "dark.fits.fz", options.events)
        size = (place / "dark.fits.fz").stat().st_size / 1e6
        print(f"simulated file: {options.events:,} events, {size:.0f} MB, made in {wall:.1f} s")
        compare("simulated, not compressed", [(place / "dark.fits.fz", options.events)], options.runs)
        real = options.data / "digicam" / "zfits" / "example_10_evts.000.fits.fz"
        if real.is_file():
            compare("real, 10 events, 20 times", 20 * [(real, 10)], options.runs)
        else:
            print(f"      real files are not there: {real}")
        import protozfits

        shipped = Path(protozfits.__file__).parent / "tests" / "resources" / "example_100evts.fits.fz"
        if shipped.is_file():
            compare("real, 100 events, 5 times", 5 * [(shipped, 100)], options.runs)
            in_processes([[(shipped, 100)] * 10] * 4, options.runs)
        half = options.events // 2
        parts = [simulated(place / f"part{number}.fits.fz", half, number) for number in range(2)]
        in_processes([[(part, half)] for part in parts], options.runs)
        memory((place / "dark.fits.fz", options.events), (simulated(place / "few.fits.fz", 10), 10))


if __name__ == "__main__":
    main()
