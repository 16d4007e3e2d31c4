"""Speed of the LArTPC: drift and read-out against loops over electrons, features, generator, picture, catalogue; memory.

python benchmarks/lartpc.py [--runs 5] [--track FILE.npz] [--only drift,memory,features,generator,view,catalogue]
"""

from __future__ import annotations

import argparse
import importlib
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from reporting import line, once

DEPTH = 0.175
SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "lartpc" / "Tracks" / "LAr" / "electrons"
ROOM = "firstlight.detectors.lartpc"


def skipped(what, why):
    print(f"--    {what}: skipped, {why}")


def room(module, *names):
    """Return names of a module of the package, or say why not."""
    try:
        found = importlib.import_module(f"{ROOM}.{module}")
        return [getattr(found, name) for name in names]
    except (ImportError, AttributeError) as error:
        skipped(module, error)
        return None


def median(function, runs):
    return statistics.median(once(function) for _ in range(runs))


def ten_mev(path):
    """Return points and charges of a 10 MeV electron: of a file, or a coil of as many points and electrons."""
    if path is None:
        path = next(iter(sorted((SAMPLE / "E0010000").glob("Track*.npz"))), None)
    if path is not None:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["r"], arrays["num_e"]
    rng = np.random.default_rng(1)
    along = np.linspace(0, 45e-3, 120_500)
    positions = np.stack([8e-3 * np.sin(along * 60), 8e-3 * np.cos(along * 45), along])
    satellites = rng.integers(0, 12, along.size) == 0
    positions[:, satellites] += 0.1 * rng.choice([-1.0, 0.5, 1.0], (3, 1))
    return positions, 1 + rng.poisson(1.5, along.size)


# ---------------------------------------------------------------- drift and read-out


def by_electron(positions, num_e, medium, anode):
    """Drift and read one electron after the other, as a first version does: survival, three Gaussians, a voxel."""
    numbers, floor = random.Random(1), math.floor  # noqa: S311
    chance, gauss = numbers.random, numbers.gauss
    across, along = medium.transverse_diffusion, medium.longitudinal_diffusion
    voxels = {}
    for x, y, z, n in zip(*positions.tolist(), num_e.tolist(), strict=True):
        distance = anode - z + DEPTH
        share = math.exp(-distance / medium.drift_length)
        passed = 2e-10 * 1000 * distance / medium.velocity
        wide, long = math.sqrt(across * passed), math.sqrt(along * passed)
        for _ in range(n):
            if chance() < share:
                place = (
                    floor(gauss(x, wide) / 0.5e-3 + 0.5),
                    floor(gauss(y, wide) / 0.5e-3 + 0.5),
                    floor(gauss(z, long) / 0.5e-3 + 0.5),
                )
                voxels[place] = voxels.get(place, 0) + 1
    noisy = {place: charge + gauss(0, 25) for place, charge in voxels.items()}
    return voxels, {place: charge for place, charge in noisy.items() if charge > 100}


def gampixpy(positions, num_e, anode, runs):
    """Return the time in which GAMPixPy drifts and reads the same event, or None where it is not installed."""
    try:
        import torch
        from gampixpy import config, detector, tracks
    except ImportError as error:
        skipped("GAMPixPy", error)
        return None
    torch.set_num_threads(1)
    manager = config.ConfigManager(readout_config="GAMPixD")
    manager.readout_config["coarse_tiles"]["pitch"], manager.readout_config["pixels"]["pitch"] = 1.0, 0.05
    model = detector.DetectorModel(manager)
    # its lengths are cm, and z is the distance to the anode
    place = np.array([positions[0], positions[1], anode + DEPTH - positions[2]]) * 100

    def drift_and_read():
        points = torch.tensor(place.T, dtype=torch.float32)
        charge = torch.tensor(num_e, dtype=torch.float32)
        labels = torch.zeros(charge.shape[0], dtype=torch.int32)
        track = tracks.Track(points, torch.zeros_like(charge), charge, labels)
        model.drift(track)
        model.readout(track, verbose=False)
        return track

    if not len(drift_and_read().pixel_samples):
        skipped("GAMPixPy", "it found no pixels")
        return None
    return median(drift_and_read, runs)


def drifting(runs, path):
    parts = room("drift", "drift")
    parts += room("medium", "PRESETS") + room("readout.cells", "cell_around")
    drift, presets, cell_around = parts
    from firstlight.detectors.lartpc.readout.designs import DESIGNS
    from firstlight.detectors.lartpc.readout.read import read_out
    from firstlight.detectors.lartpc.readout.waveforms import read_waveforms

    positions, num_e = ten_mev(path)
    medium = presets["gampy110K"]
    anode = cell_around(positions, DESIGNS["GAMPixG"]).z_anode
    print(f"a track of {num_e.size:,} points and {num_e.sum():,} electrons, one core")

    def moved(bunch=1.0):
        return drift(positions, num_e, medium, 1, anode=anode, depth=DEPTH, bunch=bunch)

    def whole():
        return read_out(moved(), "GAMPixG", 2)

    drifted, ours = moved(), whole()
    loop = by_electron(positions, num_e, medium, anode)
    assert ours.charge_true == ours.drifted
    lost = int(num_e.sum()) - ours.drifted
    assert abs(sum(loop[0].values()) - ours.drifted) < 5 * math.sqrt(2 * lost)
    assert abs(len(loop[0]) - ours.n_voxels) < 0.02 * ours.n_voxels
    line("drift of every electron by itself, and GAMPixG with noise", median(whole, runs), 0.1, "s", digits=3)
    times = []
    for _ in range(runs):
        start = time.process_time()
        whole()
        times.append(time.process_time() - start)
    line("the same, processor time", statistics.median(times), 0.1, "s", digits=3)
    line("of that drift", median(moved, runs), 0.06, "s", digits=3)
    line("drift in bunches of 12.5, as the original", median(lambda: moved(12.5), runs), 0.04, "s", digits=3)
    for name in DESIGNS:
        line(f"read-out {name}", median(lambda n=name: read_out(drifted, n, 2), runs), 0.06, "s", digits=3)
    for name in ("GAMPixG", "GAMPixD"):
        took = median(lambda n=name: read_waveforms(drifted, n, 2), runs)
        line(f"read-out of {name} in time, with waveforms", took, 0.3, "s", digits=3)
    ratios = [
        once(lambda: by_electron(positions, num_e, medium, anode)) / once(whole) for _ in range(min(runs, 3))
    ]
    line("ratio to a loop over electrons", statistics.median(ratios), 10, "", at_least=True)
    other = gampixpy(positions, num_e, anode, min(runs, 3))
    if other is not None:
        line("ratio to GAMPixPy", other / median(whole, runs), 10, "", at_least=True)


def memory(path):
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[1]); import numpy as np\n"
        "from lartpc import DEPTH, ten_mev\n"
        "from firstlight.detectors.lartpc.drift import drift\n"
        "from firstlight.detectors.lartpc.medium import PRESETS\n"
        "from firstlight.detectors.lartpc.readout.read import read_out\n"
        "positions, num_e = ten_mev(sys.argv[2] or None)\n"
        "anode = positions[2].max() + 0.05\n"
        "drifted = drift(positions, num_e, PRESETS['gampy110K'], 1, anode=anode, depth=DEPTH)\n"
        "read_out(drifted, 'GAMPixG', 2)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(path or "")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line("memory of a process that drifts and reads it", int(done.stdout) / 1024, 300, "MB", digits=0)


# ---------------------------------------------------------------- the other rooms


def features(runs, path):
    found = room("features.measure", "measure")
    if found is None:
        return
    (measure,) = found
    largest = next(iter(sorted((SAMPLE / "E0050000").glob("Track*.npz"))), None)
    tracks = [(10, ten_mev(path), 50)]
    if largest is None:
        skipped("features at 50 MeV", f"no sample tracks in {SAMPLE}")
    else:
        tracks.append((50, ten_mev(largest), 300))
    for energy, (positions, num_e), limit in tracks:
        measure(positions, num_e)
        took = median(lambda place=positions, charge=num_e: measure(place, charge), runs)
        line(f"features of a track of {energy} MeV, {num_e.size:,} points", 1000 * took, limit, "ms")
        times = []
        for _ in range(runs):
            start = time.process_time()
            measure(positions, num_e)
            times.append(time.process_time() - start)
        line("the same, processor time", 1000 * statistics.median(times), limit, "ms")


def generator(runs):
    found = room("simulation.generate", "simulate_track")
    if found is None:
        return
    (simulate_track,) = found
    n = 40
    for particle, energy, limit in (("electron", 1000, 1.5), ("electron", 10_000, 5), ("photon", 10_000, 5)):

        def make(particle=particle, energy=energy):
            return [simulate_track(particle, energy, seed) for seed in range(n)]

        make()
        times = [once(make) / n for _ in range(runs)]
        line(f"{energy / 1000:g} MeV {particle}, a track", 1000 * statistics.median(times), limit, "ms")


def view(runs, path):
    found = room("views.three", "draw_track")
    values = room("track", "Track")
    if found is None or values is None:
        return
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    (draw_track,), (track_type,) = found, values
    track = track_type(*ten_mev(path), name="benchmark")

    def draw():
        figure = draw_track(track)
        with tempfile.TemporaryFile() as file:
            figure.savefig(file, format="png")
        plt.close(figure)

    draw()
    line("picture of a 10 MeV track in space, drawn and written", median(draw, runs), 0.3, "s")


def catalogue(runs):
    found = room("reading.catalogue", "catalogue")
    source = next(iter(sorted(SAMPLE.glob("E*/Track*.npz"))), None)
    if found is None:
        return
    if source is None or not source.with_suffix(".pickle").exists():
        skipped("catalogue", f"no sample tracks in {SAMPLE}")
        return
    (list_tracks,) = found
    n = 10_000
    with tempfile.TemporaryDirectory() as folder:
        for number in range(n):
            energy = (100, 1000, 5000, 10_000, 50_000)[number % 5]
            place = Path(folder, "Tracks", "LAr", "electrons", f"E{energy:07d}")
            place.mkdir(parents=True, exist_ok=True)
            stem = f"TrackE{energy:07d}_D20250527_T1337{number:06d}"
            for ending in (".npz", ".pickle"):
                # a link is as much to list as a file, and no work to write
                (place / (stem + ending)).symlink_to(source.with_suffix(ending))
        table = list_tracks(Path(folder, "Tracks"))
        assert len(table) == n, f"{len(table)} tracks listed"
        line(f"catalogue of {n:,} tracks", median(lambda: list_tracks(Path(folder, "Tracks")), runs), 2, "s")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--track", type=Path, default=None)
    parser.add_argument("--only", default="drift,memory,features,generator,view,catalogue")
    options = parser.parse_args()
    parts = options.only.split(",")
    if "drift" in parts:
        drifting(options.runs, options.track)
    if "memory" in parts:
        memory(options.track)
    if "features" in parts:
        features(options.runs, options.track)
    if "generator" in parts:
        generator(options.runs)
    if "view" in parts:
        view(options.runs, options.track)
    if "catalogue" in parts:
        catalogue(min(options.runs, 3))


if __name__ == "__main__":
    main()
