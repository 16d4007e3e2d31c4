"""Chunks of waveforms made by hand, and runs without pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from firstlight.data.schema import Block, Chunk, Column, Span, Table, TableSchema
from firstlight.detector import get_detector
from firstlight.detectors.digicam.channels import channel_map
from firstlight.detectors.digicam.options import Options
from firstlight.run.chain import Settings, process
from firstlight.run.progress import silent
from firstlight.steps.step import Context

EVENTS = TableSchema(
    "events",
    (
        Column("number", pl.Int64, "number"),
        Column("time", pl.Int64, "time", "ns", nullable=True),
        Column("event_type", pl.Int32, "type"),
    ),
)


def waveforms(n_events: int, seed: int, flash: float = 0.0, n_samples: int = 50) -> np.ndarray:
    """Return noise about 284 with some odd pixels, and a flash at sample 20."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(284, 2, (n_events, 1296, n_samples))
    samples[:, :, 20] += rng.poisson(flash, (n_events, 1296))
    samples[:, 3] += 3000
    samples[:, 700, 4] = 5000
    return np.clip(np.rint(samples), 0, 4095).astype(np.uint16)


def chunk_of(samples, start, number=None, events=None) -> Chunk:
    """Return a chunk of waveforms, events numbered from `start`."""
    parts = {}
    if events is None:
        n = samples.shape[0]
        number = np.arange(start, start + n) if number is None else number
        events = pl.DataFrame({"number": number, "time": np.zeros(n), "event_type": np.full(n, 8)})
        events = events.cast({"number": pl.Int64, "time": pl.Int64, "event_type": pl.Int32})
    parts["events"] = Table(events, EVENTS)
    if samples is not None:
        parts["waveforms"] = Block(samples, ("event", "channel", "sample"), "LSB")
        baselines = np.full(samples.shape[:2], np.nan, dtype=np.float32)
        parts["baselines"] = Block(baselines, ("event", "channel"), "LSB")
    return Chunk(Span("file", 0, start, start + events.height), parts)


def context_of(conditions, options: Options | None = None, reference=284, light=20) -> Context:
    """Return the context of a run of one file."""
    channels = channel_map(reference, light)
    return Context(channels, options or Options(), ("file",), False, (conditions,))


def bare():
    """Return the detector without verdicts, pictures and files of other tools: what makes the numbers."""
    return replace(
        get_detector("digicam"), checks=None, summary=None, figures=None, tables=None, exports=None
    )


def go(files, output, configuration=None, **more):
    settings = Settings(progress=silent(), plots=False)
    return process(bare(), list(files), output, configuration or {}, settings, **more)
