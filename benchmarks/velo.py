"""Speed and memory of the VELO: frames against numpy.loadtxt, a whole scan of 12,100 frames, the command.

python benchmarks/velo.py [--runs 5] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from reporting import line, once

PREFIX = "Module0_VP3-1"


def scanning(folder):
    """Return a call that reads, judges and adds up all frames of a folder."""
    from firstlight.data.schema import Span
    from firstlight.detectors.velo.channels import channel_map
    from firstlight.detectors.velo.equalisation import read_equalisation
    from firstlight.detectors.velo.options import ScanParameters
    from firstlight.detectors.velo.scan import needs, scan
    from firstlight.detectors.velo.source import ScanFolders
    from firstlight.run.reading import reduce_chunks
    from firstlight.steps.step import Context, NoParameters

    source, parameters = ScanFolders(), ScanParameters()
    channels = channel_map(PREFIX, read_equalisation(folder, PREFIX))
    context = Context(channels, NoParameters(), (folder.name,))

    def count():
        n_events = source.describe(folder).n_events
        chunks = source.read(Span(str(folder), 0, 0, n_events), needs(parameters), channels)
        return reduce_chunks(chunks, [(scan, parameters)], context)[0]["scan"]

    return count


_COMMAND = """
import json, resource, subprocess, sys, tempfile, time
with tempfile.TemporaryDirectory() as folder:
    start = time.perf_counter()
    command = [sys.executable, "-m", "firstlight", "process", sys.argv[1], "-o", folder, "-q", *sys.argv[2:]]
    subprocess.run(command, check=True)
    took = time.perf_counter() - start
print(json.dumps({"rss": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, "seconds": took}))
"""


def command(folder, *options):
    out = subprocess.run(
        [sys.executable, "-c", _COMMAND, str(folder), *options], check=True, capture_output=True, text=True
    )
    return json.loads(out.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--keep", type=Path, help="folder for the simulated scan (1.6 GB), used again if it is there"
    )
    options = parser.parse_args()
    from firstlight.detectors.velo.frames import read_frame, read_frames
    from firstlight.detectors.velo.simulate import simulate

    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        folder = place / "synthetic_warmFe55"
        if not folder.is_dir():
            simulate(place, seed=21, size="full")
        frames = sorted(folder.glob("*_THR_14[89]*.csv"))[:300]
        frames = [path for path in frames if path.stat().st_size > 130_000]
        read_frame(frames[0])
        ratios = []
        for _ in range(options.runs):
            theirs = once(lambda: [np.loadtxt(path, delimiter=",") for path in frames[:60]]) / 60
            ours = once(lambda: [read_frame(path) for path in frames]) / len(frames)
            ratios.append(theirs / ours)
        print(f"one frame: {1e3 * ours:.3f} ms, numpy.loadtxt {1e3 * theirs:.3f} ms")
        line("one frame: numpy.loadtxt / ours", statistics.median(ratios), 8, at_least=True)

        every = sorted(folder.glob("*_THR_*.csv"))
        blocks = [every[at : at + 100] for at in range(0, len(every), 100)]
        took = [once(lambda: [read_frames(block) for block in blocks]) for _ in range(3)]
        line(f"reading {len(every):,} frames with their digests", statistics.median(took), 4, "s")
        count = scanning(folder)
        count()
        took = [once(count) for _ in range(3)]
        line(f"reading, judging and adding up {len(every):,} frames", statistics.median(took), 4, "s")
        found = [command(folder, "--no-plots") for _ in range(2)]
        print(f"      process without figures: {statistics.median(f['seconds'] for f in found):.1f} s")
        line("memory of the whole command", max(f["rss"] for f in found), 1000, "MiB")
        found = command(folder)
        print(f"      process with figures and report: {found['seconds']:.1f} s, {found['rss']:.0f} MiB")


if __name__ == "__main__":
    main()
