"""Speed and memory of the ETROC: beam text to Parquet and SQLite, ETROC2 decoders, the chain, the resolution, the commands.

References are row loops in plain Python, in this file: pandas is no dependency. What is held against a limit is the
median wall time; the processor time beside it tells a busy machine from a slow program.

python benchmarks/etroc.py [--runs 5] [--keep FOLDER] [--only text,decode,chain,memory,figures]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PARTS = ("text", "decode", "chain", "memory", "figures")
PATTERN = (0, 1, 3)


def once(function, folder=None):
    """Return wall time, processor time of all threads, and the result of a call, in a folder that is not there yet."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def repeated(function, runs, *, warm=True):
    """Return medians of wall and processor time."""
    if warm:
        function()
    took = [once(function)[:2] for _ in range(runs)]
    return tuple(statistics.median(each) for each in zip(*took, strict=True))


def line(what, value, limit, unit="", *, at_least=False, cpu=None):
    good = value >= limit if at_least else value <= limit
    beside = "" if cpu is None else f"   processor {cpu:.2f} s"
    print(
        f"{'ok ' if good else 'MISS'}  {what:<66} {value:10,.2f} {unit:<9} limit {limit:g}{beside}",
        flush=True,
    )


def tell(what, took):
    wall, cpu = took
    print(f"      {what}: {wall:.3f} s, processor {cpu:.3f} s", flush=True)


def median(pairs):
    return tuple(statistics.median(each) for each in zip(*pairs, strict=True))


def paired(reference, ours):
    """Return the median of the ratios of neighbouring runs."""
    return statistics.median(slow / fast[0] for slow, fast in zip(reference, ours, strict=True))


# -- references: straightforward loops over rows and words ----------------------------------------------------


def parsed_by_rows(lines):
    """Return (board, toa, tot, cal, flag, moment) of each line of a beam text; log lines are passed over."""
    rows = []
    for text in lines:
        fields = text.split()
        if len(fields) == 7 and fields[0].isdigit():
            board, toa, tot, cal, flag = map(int, fields[:5])
            rows.append((board, toa, tot, cal, flag, f"{fields[5]} {fields[6]}"))
    return rows


def events_by_rows(rows, pattern=PATTERN):
    """Return rows of three hits that follow each other with the boards of the pattern, with an event number."""
    found, event, at = [], 0, 0
    rows = [row for row in rows if row[4]]
    while at + len(pattern) <= len(rows):
        hits = rows[at : at + len(pattern)]
        if tuple(hit[0] for hit in hits) == pattern:
            found += [(event, *hit) for hit in hits]
            event += 1
            at += len(pattern)
        else:
            at += 1
    return found


COLUMNS = (
    "event",
    "data_board_id",
    "time_of_arrival",
    "time_over_threshold",
    "calibration_code",
    "hit_flag",
    "datetime",
)


def parquet_by_rows(lines, path):
    import polars as pl

    found = events_by_rows(parsed_by_rows(lines))
    pl.DataFrame(
        {name: list(values) for name, values in zip(COLUMNS, zip(*found, strict=True), strict=True)}
    ).write_parquet(path)
    return len(found)


def sqlite_by_rows(lines, path):
    found = events_by_rows(parsed_by_rows(lines))
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.execute(f"CREATE TABLE etroc1_data ({', '.join(COLUMNS)})")
    for row in found:
        connection.execute("INSERT INTO etroc1_data VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    connection.commit()
    connection.close()
    return len(found)


def chain_by_rows(path):
    """Return the resolution [ps] of three boards: events, windows on codes, ns, two iterations of the walk, widths."""
    with path.open() as stream:
        found = events_by_rows(parsed_by_rows(stream))
    events = {}
    for event, board, toa, tot, cal, _, _ in found:
        events.setdefault(event, {})[board] = (toa, tot, cal)
    middle = {
        board: [statistics.median(hits[board][k] for hits in events.values()) for k in (1, 2)]
        for board in PATTERN
    }
    kept = {}
    for event, hits in events.items():
        good = True
        for board in PATTERN:
            _, tot, cal = hits[board]
            if abs(tot - middle[board][0]) > 40 or abs(cal - middle[board][1]) > 4:
                good = False
        if good:
            kept[event] = hits
    bins = {board: 3.125 / statistics.mean(hits[board][2] for hits in kept.values()) for board in PATTERN}
    raw, width = [], []
    for hits in kept.values():
        raw.append([12.5 - bins[b] * hits[b][0] for b in PATTERN])
        width.append([(2 * hits[b][1] - hits[b][1] // 32) * bins[b] for b in PATTERN])
    raw, width = within_window(raw, width)
    times = [list(row) for row in raw]
    for _ in range(2):
        curves = []
        for k in range(3):
            delta = [
                (row[(k + 1) % 3] + row[(k + 2) % 3]) / 2 - own[k]
                for row, own in zip(times, raw, strict=True)
            ]
            curves.append(np.polyfit([row[k] for row in width], delta, 2).tolist())
        corrected = []
        for row, tots in zip(raw, width, strict=True):
            corrected.append(
                [t + c[0] * w * w + c[1] * w + c[2] for t, w, c in zip(row, tots, curves, strict=True)]
            )
        times = corrected
    square = {
        pair: statistics.variance(row[pair[0]] - row[pair[1]] for row in times)
        for pair in ((0, 1), (0, 2), (1, 2))
    }
    total = sum(square.values())
    return [1e3 * ((total - 2 * square[other]) / 2) ** 0.5 for other in ((1, 2), (0, 2), (0, 1))]


def within_window(raw, width):
    """Keep events in which no two boards differ by more than 5 robust widths from what is usual."""
    limits = []
    for one, two in ((0, 1), (0, 2), (1, 2)):
        differences = [row[one] - row[two] for row in raw]
        middle = statistics.median(differences)
        spread = 1.4826 * statistics.median(abs(each - middle) for each in differences)
        limits.append((one, two, middle, 5 * spread))
    kept = []
    for row, tots in zip(raw, width, strict=True):
        if all(abs(row[one] - row[two] - middle) < limit for one, two, middle, limit in limits):
            kept.append((row, tots))
    return [row for row, _ in kept], [tots for _, tots in kept]


CRC = []
for _byte in range(256):
    _value = _byte
    for _ in range(8):
        _value = ((_value << 1) ^ 0x2F if _value & 0x80 else _value << 1) & 0xFF
    CRC.append(_value)


def packets_by_words(words):
    """Return good packets and their hits of (link, 40-bit word) pairs: a loop over words, with checksum and hit count."""
    waiting, packets, hits = {}, 0, []
    for link, word in words:
        if word >> 39:
            if link in waiting:
                waiting[link].append(word)
        elif word >> 22 == 0x3C5C << 2:
            waiting[link] = [word]
        elif link in waiting and word >> 24 != 0x3C5C:
            packet = [*waiting.pop(link), word]
            value = 0
            for each in packet:
                for byte in each.to_bytes(5, "big"):
                    value = CRC[value ^ byte]
            if value == 0 and (word >> 8) & 255 == (len(packet) - 2) & 255:
                packets += 1
                for each in packet[1:-1]:
                    hits.append(
                        {
                            "link": link, "ea": each >> 37 & 3, "col": each >> 33 & 15, "row": each >> 29 & 15,
                            "toa": each >> 19 & 1023, "tot": each >> 10 & 511, "cal": each & 1023,
                        }
                    )  # fmt: skip
    return packets, hits


def tamalero_by_words(content):
    words = []
    for at in range(0, len(content), 8):
        record = int.from_bytes(content[at : at + 8], "little")
        words.append((record >> 40 & 255, record & 0xFFFFFFFFFF))
    return packets_by_words(words)


def frames_by_words(words):
    """Return good packets and hits of KC705 event frames, given as numbers of 32 bits."""
    packets, hits = 0, []
    at, begun = 0, False
    while at + 1 < len(words):
        if words[at] >> 4 != 0xC3A3C3A:
            at += 1
            continue
        mask, number = words[at] & 15, words[at + 1] >> 2 & 1023
        begun = begun or words[at + 1] >> 12 & 0xFFFF in (0, 1)
        size = (40 * number + 31) // 32
        payload = words[at + 2 : at + 2 + size]
        at += 2 + size
        if not begun or len(payload) < size or at >= len(words) or words[at] >> 26 != 0b001011:
            continue
        bits = b"".join(word.to_bytes(4, "big") for word in payload)
        links = [link for link in range(4) if mask >> link & 1]
        chips, channel = [], -1
        for index in range(number):
            word = int.from_bytes(bits[5 * index : 5 * index + 5], "big")
            if word >> 22 == 0x3C5C << 2:
                channel += 1
            chips.append((links[channel], word))
        more, of_frame = packets_by_words(chips)
        packets += more
        hits += of_frame
    return packets, hits


def binary_frames_by_words(content):
    return frames_by_words(
        [int.from_bytes(content[at : at + 4], "little") for at in range(0, len(content), 4)]
    )


def text_frames_by_words(content):
    return frames_by_words([int(text, 2) for text in content.decode().split("\n") if text])


# -- what is measured -----------------------------------------------------------------------------------------


def simulated(place, name, **options):
    """Return the file of a simulation, which is made where it is not there."""
    from firstlight.detectors.etroc.simulate import simulate

    folder = place / name
    if not (folder / "truth.json").is_file():
        simulate(folder, seed=11, n_files=1, **options)
    names = json.loads((folder / "truth.json").read_text())["names"]
    return folder / names[0]


def processed(path, folder, configuration, steps=None):
    """Make a run as `firstlight process --no-plots` does, from nothing."""
    from firstlight.detector import get_detector
    from firstlight.detectors.etroc import source
    from firstlight.run.chain import process
    from firstlight.run.finishing import Settings

    # a process decodes a file that it has not seen before
    source._memory.clear()
    return process(get_detector("etroc"), [path], folder, configuration, Settings(plots=False), steps=steps)


def text_to_tables(options, place):
    from firstlight.detectors.etroc.events import build_by_pattern
    from firstlight.detectors.etroc.legacy.sqlite import write_database
    from firstlight.detectors.etroc.legacy.writers import OriginalOptions, write_original_files
    from firstlight.detectors.etroc.readout.beam import decode_beam
    from firstlight.run.finishing import Products

    path = simulated(place, "beam", kind="telescope", n_events=340_000)
    with path.open() as stream:
        lines = stream.readlines()
    print(f"beam text: {len(lines):,} lines, {path.stat().st_size / 1e6:.1f} MB")
    folder = place / "run"
    tenth = lines[: len(lines) // 10]
    to_parquet, to_sqlite, bare = [], [], []
    slow_parquet, slow_sqlite = [], []
    configuration = {"events": {"pattern": PATTERN, "building": "pattern", "one_hit": "keep"}}

    def parquet():
        return processed(path, folder, configuration, ("events",))

    def sqlite():
        run = parquet()
        values = Products(run)
        known = {name: values[name] for name in run}
        write_original_files(folder, known, "ingest", OriginalOptions(inputs=(path,)))
        return run

    def functions():
        found = decode_beam(path)
        build_by_pattern(found.hits["link"], PATTERN, np.zeros(found.n_records, dtype=np.int64))

    run = sqlite()
    functions()
    hits = run["events/hits"].to_polars().height
    small = place / "tenth.txt"
    small.write_text("".join(tenth))
    shutil.rmtree(place / "tenth", ignore_errors=True)
    of_tenth = processed(small, place / "tenth", configuration, ("events",))["events/hits"].to_polars().height
    for _ in range(options.runs):
        bare.append(once(functions)[:2])
        to_parquet.append(once(parquet, folder)[:2])
        to_sqlite.append(once(sqlite, folder)[:2])
        wall, _, rows = once(lambda: parquet_by_rows(tenth, place / "rows.parquet"))
        slow_parquet.append(10 * wall)
        wall, _, again = once(lambda: sqlite_by_rows(tenth, place / "rows.sqlite"))
        slow_sqlite.append(10 * wall)
    if not rows == again == of_tenth:
        print(f"MISS  the row loop finds {rows} hits of events in a tenth of the lines, not {of_tenth}")
    tell("decoding and event building alone", median(bare))
    wall, cpu = median(to_parquet)
    line("beam text to Parquet: a run with hits, events and run.json", wall, 1, "s", cpu=cpu)
    print(f"      row loop / ours: {paired(slow_parquet, to_parquet):.1f} (a tenth of the lines, times ten)")
    wall, cpu = median(to_sqlite)
    line("beam text to SQLite (etroc1_data), with the run and a copy of the text", wall, 3.5, "s", cpu=cpu)
    print(
        f"      row loop / ours: {paired(slow_sqlite, to_sqlite):.1f}, for the table alone; {hits:,} hits of events"
    )

    # the table alone, without all that stands beside it in the original's layout
    from firstlight.detectors.etroc.legacy.original_tables import etroc1_data

    events, files = run["events/hits"].to_polars(), run["ingest/files"].to_polars()
    writing = repeated(
        lambda: write_database(place / "only.sqlite", {"etroc1_data": etroc1_data(events, files)}),
        options.runs,
    )
    tell("of this, writing the SQLite table", writing)


def decoders(options, place):
    from firstlight.detectors.etroc.readout.kc705 import decode_kc705
    from firstlight.detectors.etroc.readout.tamalero import decode_tamalero

    kinds = (
        ("TAMALERO", {"kind": "telescope2"}, decode_tamalero, tamalero_by_words, 8),
        ("KC705 binary", {"kind": "kc705", "binary": True}, decode_kc705, binary_frames_by_words, 4),
        ("KC705 text", {"kind": "kc705"}, decode_kc705, text_frames_by_words, 33),
    )
    for name, kind, decode, reference, size in kinds:
        path = simulated(place, name.replace(" ", "_"), n_events=300_000, **kind)
        decoder(name, path.read_bytes(), size, decode, reference, options.runs)


def decoder(name, content, size, decode, reference, runs):
    """Measure the words a second of one decoder, of so many bytes each, on one core."""
    words = len(content) // size
    part = content[: 60_000 * size]
    found, (packets, hits) = decode(part), reference(part)
    toa = int(found.hits["toa"].sum(dtype=np.int64))
    if len(hits) != found.hits["toa"].size or sum(hit["toa"] for hit in hits) != toa:
        print(f"MISS  {name}: the word loop finds {len(hits)} hits, the decoder {found.hits['toa'].size}")
    ratios, rates, busy = [], [], []
    decode(content)
    for _ in range(runs):
        slow = once(lambda: reference(part))[0] * len(content) / len(part)
        wall, cpu, _ = once(lambda: decode(content))
        ratios.append(slow / wall)
        rates.append(words / wall / 1e6)
        busy.append(words / cpu / 1e6)
    print(f"{name}: {words:,} words, {size} bytes each; {packets:,} packets compared with a word loop")
    line("   decoded with checksums", statistics.median(rates), 20, "Mwords/s", at_least=True)
    print(f"      best {max(rates):.1f}, a second of processor time {statistics.median(busy):.1f} Mwords;"
          f" word loop / ours: {statistics.median(ratios):.0f}")  # fmt: skip


def made_of_functions(path, configuration):
    """Do all steps of the chain in memory; return products by name, and the context."""
    from firstlight.data.schema import Span
    from firstlight.detector import get_detector
    from firstlight.detectors.etroc import source
    from firstlight.detectors.etroc.chain import CHAIN
    from firstlight.detectors.etroc.channels import plan
    from firstlight.run.chain import configuration_of
    from firstlight.run.config import build
    from firstlight.run.reading import reduce_chunks
    from firstlight.steps.step import ChunkStep, Context

    source._memory.clear()
    beam = next(each for each in source.SOURCES if each.name == "beam")
    config = build(configuration_of(get_detector("etroc")), configuration)
    description = beam.describe(path)
    channels = plan(config, [description]).channels
    context = Context(channels, config, (path.name,))
    products = {}
    for step in CHAIN:
        parameters = getattr(config, step.name, None) or step.parameters()
        if isinstance(step, ChunkStep):
            chunks = beam.read(Span(str(path), 0, 0, description.n_events), step.needs(parameters), channels)
            partials, _ = reduce_chunks(chunks, [(step, parameters)], context)
            made = step.finish(partials[step.name], parameters, context)
        elif all(name in products for name in step.needs):
            wanted = {name: products[name] for name in (*step.needs, *step.uses) if name in products}
            made = step.run(wanted, parameters, context)
        else:
            continue
        products.update({f"{step.name}/{name}": product for name, product in made.items()})
    return products, context


def chain(options, place):
    from firstlight.detectors.etroc.chain_bootstrap import bootstrap_walk
    from firstlight.detectors.etroc.options import WalkParameters
    from firstlight.detectors.etroc.resolution import measure
    from firstlight.detectors.etroc.steps import boards_of, matrix_of, walk_options
    from firstlight.detectors.etroc.timewalk import correct_walk

    path = simulated(place, "short", kind="telescope", n_events=40_000)
    with path.open() as stream:
        print(f"chain: {sum(1 for _ in stream):,} lines, no figures")
    without = {"resolution": {"bootstrap": 0}}
    folder = place / "run"
    products, context = made_of_functions(path, without)
    once(lambda: processed(path, folder, without), folder)
    runs, bare, rows = [], [], []
    for _ in range(options.runs):
        runs.append(once(lambda: processed(path, folder, without), folder)[:2])
        bare.append(once(lambda: made_of_functions(path, without))[:2])
        wall, _, slow = once(lambda: chain_by_rows(path))
        rows.append(wall)
    wall, cpu = median(runs)
    line("file to resolution, all products in a run directory, no bootstrap", wall, 0.6, "s", cpu=cpu)
    print(
        f"      row loop / ours: {paired(rows, runs):.1f}; it writes nothing, and has standard deviations only"
    )
    tell("the same steps as functions in memory, not held against the limit", median(bare))
    found = products["resolution/boards"].frame.filter(estimator="std", iteration=1)["resolution"].to_list()
    print(f"      standard deviations: {' / '.join(f'{each:.2f}' for each in found)} ps,"
          f" row loop {' / '.join(f'{each:.2f}' for each in slow)} ps")  # fmt: skip
    hits = products["timewalk/hits"].frame
    last = hits.filter(iteration=hits["iteration"].max())
    matrix = matrix_of(last, ("toa_ns", "correction_ns", "tot_ns"), boards_of(context.channels))
    raw = matrix["toa_ns"] - matrix["correction_ns"]
    wall, cpu = repeated(lambda: measure(matrix["toa_ns"], boards=matrix.boards, raw=raw), options.runs)
    line(f"joint likelihood of {matrix.events.size:,} events", wall, 1, "s", cpu=cpu)
    walk = correct_walk(
        raw, matrix["tot_ns"], boards=matrix.boards, events=matrix.events, **walk_options(WalkParameters())
    )
    tell(
        "bootstrap of walk and likelihood, 200 samples",
        repeated(lambda: bootstrap_walk(walk, n=200), 2, warm=False),
    )


_COMMAND = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run([sys.executable, "-m", "firstlight", *sys.argv[1:], "-q"], check=True)
took = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"rss": used.ru_maxrss * 1024 / 1e6, "seconds": took, "processor": used.ru_utime + used.ru_stime}))
"""


def command(folder, *arguments):
    """Return time and largest resident size of a command, in a process that does only this."""
    shutil.rmtree(folder, ignore_errors=True)
    out = subprocess.run(
        [sys.executable, "-c", _COMMAND, *map(str, arguments), "-o", str(folder)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(out.stdout.splitlines()[-1])


def memory(_, place):
    long = simulated(place, "beam", kind="telescope", n_events=340_000)
    short = simulated(place, "short", kind="telescope", n_events=40_000)
    folder = place / "run"
    print("commands: largest resident size, from start to end")
    commands = (
        ("etroc ingest, 1e6 lines, no figures", ("etroc", "ingest", long, "--no-plots")),
        ("etroc ingest, 1e6 lines, with figures", ("etroc", "ingest", long)),
        ("process, 117,000 lines, no figures, 200 samples", ("process", short, "--no-plots")),
        ("process, 1e6 lines, no figures, no bootstrap",
         ("process", long, "--no-plots", "--set", "resolution.bootstrap=0")),
    )  # fmt: skip
    for what, arguments in commands:
        found = [command(folder, *arguments) for _ in range(2)]
        print(f"      {statistics.median(each['seconds'] for each in found):.1f} s,"
              f" processor {statistics.median(each['processor'] for each in found):.1f} s")  # fmt: skip
        line(f"memory: {what}", max(each["rss"] for each in found), 400, "MB")


def figures(_, place):
    short = simulated(place, "short", kind="telescope", n_events=40_000)
    folder = place / "run"
    print("figures of a telescope run, 117,000 lines")
    without = command(folder, "process", short, "--no-plots")
    found = command(folder, "process", short)
    files = [path for path in folder.rglob("*") if path.is_file()]
    drawn = [path for path in files if path.suffix in (".png", ".pdf", ".html", ".js")]
    pages = [path for path in files if path.suffix == ".html"]
    print(f"      process without figures {without['seconds']:.1f} s, with figures and report {found['seconds']:.1f} s,"
          f" {found['rss']:.0f} MB; {len(drawn)} figures and pages, {sum(p.stat().st_size for p in drawn) / 1e6:.1f} MB")  # fmt: skip
    more = found["processor"] - without["processor"]
    line("figures and report", found["seconds"] - without["seconds"], 15, "s", cpu=more)
    line("whole run directory", sum(path.stat().st_size for path in files) / 1e6, 20, "MB")
    line("largest page", max((path.stat().st_size for path in pages), default=0) / 1e6, 5, "MB")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--keep", type=Path, help="folder for the simulated files (0.3 GB), used again if it is there"
    )
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    options = parser.parse_args()
    from firstlight.detectors.etroc.chain import warm_up

    warm_up()
    measured = {
        "text": text_to_tables,
        "decode": decoders,
        "chain": chain,
        "memory": memory,
        "figures": figures,
    }
    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        for name in options.only.split(","):
            if name not in measured:
                parser.error(f"--only {name}: choose from {', '.join(PARTS)}")
            measured[name](options, place)


if __name__ == "__main__":
    main()
