"""The headline numbers and the checks of an ETROC run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from firstlight.detectors.etroc.ingest import is_injection
from firstlight.detectors.etroc.source import HARMLESS, USED
from firstlight.steps.step import Check, Context, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["checks", "summary"]

_NAN = float("nan")
_REJECTED = (1e-3, 0.05)  # fractions of words: warn, bad
_INCOMPLETE = (0.01, 0.2)  # packets without trailer
_PIXELS = 0.02  # fraction of pixels in a bad state that is bad
_EA, _ZERO_CAL = 0.01, 1e-3  # fractions of hits
_ACCEPTED = 0.5  # fraction of events
_TAIL = 0.15
_DISAGREE = 0.1  # relative, of the core width and the effective one
_DRIFT = 5.0  # standard deviations
_POOR = 1e-4  # p-value of an S-curve
_MEAN_CAL = 0.004  # relative distance of mean and most frequent CAL
_FAR = 0.01  # fraction of events


def summary(products: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
    """Return the headline numbers of a run."""
    rows: list[dict[str, Any]] = []
    if "resolution/boards" in products:
        rows += list(_resolutions(products["resolution/boards"].frame))
    elif "resolution/pairs" in products:
        rows += list(_pairs(products["resolution/pairs"].frame))
    elif len(context.channels.groups) > 1:
        reasons = [
            products[f"{step}/problem"].frame["reason"][0]
            for step in ("timewalk", "resolution")
            if f"{step}/problem" in products
        ]
        rows += [
            {"label": "time resolution", "value": f"none: {reason}", "unit": ""} for reason in reasons[:1]
        ]
    if "injection/lines" in products:
        for line in products["injection/lines"].frame.filter("good").iter_rows(named=True):
            value = f"{line['offset']:.1f} ± {line['offset_error']:.1f} + ({line['slope']:.3f} ± {line['slope_error']:.3f}) Q"
            rows.append(
                {"label": f"threshold, board {line['board']}", "value": value, "unit": "DAC, Q in fC"}
            )
        points = products["injection/points"].frame
        rows.append({"label": "points of the scan", "value": points.height, "unit": ""})
    if "ingest/files" in products:
        files = products["ingest/files"].frame.unique("file")
        rows.append({"label": "files", "value": files.height, "unit": ""})
        rows.append({"label": "words", "value": int(files["n_words"].sum()), "unit": ""})
    if "ingest/packets" in products and products["ingest/packets"].frame.height:
        rows.append({"label": "packets", "value": products["ingest/packets"].frame.height, "unit": ""})
    if "ingest/hits" in products:
        rows.append({"label": "hits", "value": products["ingest/hits"].frame.height, "unit": ""})
    if "events/counts" in products:
        rows.append({"label": "events", "value": _count(products, "complete events"), "unit": ""})
    if (
        "pixels/table" in products
        and "resolution/boards" not in products
        and "injection/lines" not in products
    ):
        rows += list(_jitters(products["pixels/table"].frame))
    boards = ", ".join(str(board) for board in context.channels.groups["board"].to_list())
    rows.append({"label": "boards", "value": boards, "unit": ""})
    return rows


def _resolutions(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    last = frame.filter(pl.col("iteration") == pl.col("iteration").max())
    for row in last.filter(pl.col("estimator") == "likelihood").iter_rows(named=True):
        label = f"time resolution, board {row['board']}"
        if row["resolution"] is None:
            yield {"label": label, "value": row["status"], "unit": ""}
            continue
        error = row["resolution_error"] if row["bootstrap_error"] is None else row["bootstrap_error"]
        told = "" if error is None else f" ± {error:.2f}"
        yield {"label": label, "value": f"{row['resolution']:.2f}{told}", "unit": "ps"}


def _pairs(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    last = frame.filter(pl.col("iteration") == pl.col("iteration").max())
    for row in last.iter_rows(named=True):
        label = f"width of board {row['board_1']} - board {row['board_2']}"
        yield {"label": label, "value": f"{row['std']:.2f} ± {row['std_error']:.2f}", "unit": "ps"}


def _jitters(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the jitter of the pixels into which charge is injected: those with most hits, if they are few."""
    lit = frame.filter(pl.col("jitter").is_not_null() & (pl.col("state") != "few hits"))
    if 0 < lit.height <= 4:
        for row in lit.iter_rows(named=True):
            place = "" if row["row"] is None else f", pixel {row['row']}-{row['col']}"
            label = f"jitter{place}"
            if row["state"] == "stuck":
                yield {"label": label, "value": "stuck: all hits have one code", "unit": ""}
            else:
                yield {
                    "label": label,
                    "value": f"{row['jitter']:.2f} ± {row['jitter_error']:.2f}",
                    "unit": "ps",
                }


def _count(products: Mapping[str, Any], what: str) -> int:
    frame = products["events/counts"].frame
    return int(frame.filter((pl.col("what") == what) & (pl.col("unit") == "events"))["count"].sum())


def checks(products: Mapping[str, Any], context: Context) -> list[Check]:  # noqa: ARG001
    """Return the judgements on a run."""
    found: list[Check] = []
    for part in (
        _words,
        _packets,
        _hits,
        _pixels,
        _events,
        _calibration,
        _mean_of_codes,
        _cuts,
        _problems,
        _resolution,
        _scan,
    ):
        found += part(products)
    return found


def _grade(value: float, limits: tuple[float, float]) -> Verdict:
    return "bad" if value > limits[1] else "warn" if value > limits[0] else "ok"


def _words(products: Mapping[str, Any]) -> Iterator[Check]:
    if "ingest/counters" not in products:
        return
    frame = products["ingest/counters"].frame
    total = int(frame.filter(unit="words")["count"].sum())
    files = products["ingest/files"].frame.unique("file")
    told = int(files["n_words"].sum())
    verdict: Verdict = "ok" if total == told else "bad"
    rule = f"{total:,} words of {told:,} are accounted for"
    yield Check("words accounted for", verdict, float(total), float(told), rule)
    empty = files.filter(pl.col("n_words") == 0)["name"].to_list()
    injection = is_injection(products["ingest/files"].frame)
    if empty and not injection:
        rule = f"{len(empty)} of {files.height} files are empty: runs without data"
        yield Check("empty files", "warn", float(len(empty)), 0.0, rule, details=tuple(empty[:20]))
    rejected = frame.filter(~pl.col("word").is_in([*USED, *HARMLESS]))
    count = int(rejected["count"].sum())
    everything = int(frame["count"].sum())
    share = count / everything if everything else 0.0
    reasons = rejected.group_by("word").agg(pl.col("count").sum()).sort("count", descending=True)
    details = tuple(f"{word}: {number:,}" for word, number in reasons.iter_rows())
    rule = f"{count:,} of {everything:,} words ({share:.2%}) were not used" + (
        f", most often {details[0]}" if details else ""
    )
    verdict = "no-statistics" if not total else _grade(share, _REJECTED)
    yield Check("words not used", verdict, share, _REJECTED[0], rule, details=details[:20])


def _packets(products: Mapping[str, Any]) -> Iterator[Check]:
    if "ingest/packets" not in products or not products["ingest/packets"].frame.height:
        return
    frame = products["ingest/packets"].frame
    complete = frame.filter("complete")
    wrong = int((~complete["crc_ok"].fill_null(value=True)).sum())
    verdict: Verdict = "ok" if not wrong else _grade(wrong / frame.height, (0.0, 0.01))
    rule = f"{wrong:,} of {complete.height:,} complete packets have a wrong checksum"
    yield Check("checksums", verdict, float(wrong), 0.0, rule)
    differs = int((complete["hits_told"] != complete["hits_found"] % 256).sum())
    verdict = "ok" if not differs else _grade(differs / frame.height, (0.0, 0.01))
    rule = f"{differs:,} of {complete.height:,} packets have another number of hits than their trailer tells"
    yield Check("hit counts", verdict, float(differs), 0.0, rule)
    lost = frame.height - complete.height
    verdict = _grade(lost / frame.height, _INCOMPLETE)
    rule = f"{lost:,} of {frame.height:,} packets have no trailer"
    yield Check("incomplete packets", verdict, lost / frame.height, _INCOMPLETE[0], rule)
    patterns = frame.filter(pl.col("type") == 1).height
    if patterns:
        rule = f"{patterns:,} of {frame.height:,} packets are test patterns: their codes are no times"
        yield Check("test patterns", "warn", float(patterns), 0.0, rule)
    states = complete.filter(pl.col("status") != 0).group_by("status").len().sort("status")
    odd = int(states["len"].sum())
    verdict = _grade(odd / frame.height, (0.0, 0.1))
    details = tuple(f"status {status}: {count:,} packets" for status, count in states.iter_rows())
    rule = f"{odd:,} of {complete.height:,} packets have status bits that are set"
    yield Check("status bits", verdict, float(odd), 0.0, rule, details=details)


def _hits(products: Mapping[str, Any]) -> Iterator[Check]:
    if "pixels/table" not in products:
        return
    frame = products["pixels/table"].frame
    total = int(frame["hits"].sum())
    if not total:
        yield Check("hits", "warn", 0.0, 1.0, "no hit in the whole run")
        return
    bad = int(frame["bad_ea"].sum())
    verdict: Verdict = "warn" if bad > _EA * total else "ok"
    rule = f"{bad:,} of {total:,} hits have error bits (EA other than 0); they are not used for timing"
    yield Check("error bits", verdict, bad / total, _EA, rule)
    zero = int(frame["zero_cal"].sum())
    verdict = "warn" if zero > _ZERO_CAL * total else "ok"
    yield Check(
        "calibration code 0", verdict, zero / total, _ZERO_CAL, f"{zero:,} of {total:,} hits have CAL 0"
    )


def _pixels(products: Mapping[str, Any]) -> Iterator[Check]:
    if "pixels/table" not in products:
        return
    frame = products["pixels/table"].frame
    judged = frame.filter(~pl.col("state").is_in(["few hits", "no hits"]))
    for state in ("stuck", "dead", "hot", "noisy calibration"):
        own = frame.filter(pl.col("state") == state)
        share = own.height / max(judged.height, 1)
        verdict: Verdict = (
            "no-statistics"
            if not judged.height
            else "bad"
            if share > _PIXELS
            else "warn"
            if own.height
            else "ok"
        )
        details = tuple(
            f"board {row['board']}, pixel {row['row']}-{row['col']}" for row in own.iter_rows(named=True)
        )
        words = {
            "stuck": "of {all} pixels with hits are stuck: all their hits have one TOA code",
            "dead": "pixels without hits among neighbours with hits are dead",
            "hot": "of {all} pixels with hits have far more of them than their neighbours",
            "noisy calibration": "of {all} pixels with hits have a noisy calibration code",
        }
        rule = f"{own.height} {words[state].format(all=judged.height)}"
        yield Check(f"{state} pixels", verdict, float(own.height), 0.0, rule, details=details[:20])


def _hits_of_boards(products: Mapping[str, Any]) -> list[tuple[int, int]]:
    if "pixels/table" not in products:
        return []
    frame = products["pixels/table"].frame
    found: list[tuple[int, int]] = (
        frame.group_by("board", maintain_order=True).agg(pl.col("hits").sum()).rows()
    )
    return found


def _events(products: Mapping[str, Any]) -> Iterator[Check]:
    if "events/counts" not in products:
        return
    complete, incomplete = _count(products, "complete events"), _count(products, "incomplete events")
    total = complete + incomplete
    if not total:
        hits = products["ingest/hits"].frame.height if "ingest/hits" in products else 0
        verdict: Verdict = "bad" if hits else "no-statistics"
        yield Check("events", verdict, 0.0, 1.0, f"no event was built of {hits:,} hits")
        return
    dead = [str(board) for board, hits in _hits_of_boards(products) if not hits]
    if dead:
        rule = f"board {' and board '.join(dead)} has no hit; events are built of the others"
        yield Check("boards without hits", "bad", float(len(dead)), 0.0, rule)
    share = complete / total
    rule = f"{complete:,} of {total:,} events have all boards"
    yield Check("events", "ok" if share > _ACCEPTED else "warn", share, _ACCEPTED, rule)


def _calibration(products: Mapping[str, Any]) -> Iterator[Check]:
    if "times/calibration" not in products:
        return
    frame = products["times/calibration"].frame.filter(
        pl.col("cal_error").is_not_null() & (pl.col("cal_error") > 0)
    )
    for (board,), part in frame.group_by("board", maintain_order=True):
        if part["slice"].n_unique() < 2:
            rule = "the run has one slice: a drift cannot be seen"
            yield Check("drift of the calibration", "no-statistics", _NAN, _DRIFT, rule, f"board {board}")
            continue
        largest, where = 0.0, ""
        for (channel,), own in part.group_by("channel", maintain_order=True):
            if own.height < 2:
                continue
            mean = (own["cal"] / own["cal_error"] ** 2).sum() / (1 / own["cal_error"] ** 2).sum()
            off = ((own["cal"] - mean) / own["cal_error"]).abs().max()
            if off is not None and float(off) > largest:
                largest, where = float(off), f"channel {channel}"
        verdict: Verdict = "warn" if largest > _DRIFT else "ok"
        rule = f"calibration codes of the slices of the run differ by at most {largest:.1f} standard deviations from their mean"
        yield Check(
            "drift of the calibration",
            verdict,
            largest,
            _DRIFT,
            rule,
            f"board {board}",
            (where,) if where else (),
        )


def _mean_of_codes(products: Mapping[str, Any]) -> Iterator[Check]:
    """Judge a mean of all codes of a board, as the original has it: a few far ones move it, and all times with it."""
    if "times/calibration" not in products or "pixels/table" not in products:
        return
    pixels = products["pixels/table"].frame.drop_nulls("cal_mode")
    for row in products["times/calibration"].frame.filter(pl.col("channel") < 0).iter_rows(named=True):
        own = pixels.filter(pl.col("board") == row["board"]).sort("hits", descending=True)
        if row["cal"] is None or own.height != 1:
            continue
        apart = abs(row["cal"] / own["cal_mode"][0] - 1)
        rule = f"calibration code {row['cal']:.2f}, the most frequent one is {own['cal_mode'][0]:.0f}"
        if apart > _MEAN_CAL:
            rule += ": far codes move the mean, and all times with it; cut on them, or use times.cal=robust"
        yield Check(
            "mean calibration code",
            "warn" if apart > _MEAN_CAL else "ok",
            apart,
            _MEAN_CAL,
            rule,
            f"board {row['board']}",
        )


def _cuts(products: Mapping[str, Any]) -> Iterator[Check]:
    flows = [products[name].frame.height for name in ("cut/flow", "cut_times/flow") if name in products]
    if "resolution/boards" in products and not any(rows > 1 for rows in flows):
        yield Check(
            "cuts", "warn", 0.0, 1.0, "no cut was applied: noise hits and far codes are in the resolution"
        )
    for step, name in (("cut", "cuts on codes"), ("cut_times", "cuts on times")):
        if f"{step}/flow" not in products:
            continue
        frame = products[f"{step}/flow"].frame
        after = int(frame["events_after"][-1])
        # an event without any hit passes no cut, and says nothing of the cuts
        whole = products["events/hits"].frame["event"].n_unique() if "events/hits" in products else None
        before = int(frame["events_before"][0]) if whole is None else whole
        if not before:
            continue
        share = after / before
        verdict: Verdict = "bad" if after == 0 else "warn" if share < _ACCEPTED else "ok"
        yield Check(name, verdict, share, _ACCEPTED, f"{after:,} of {before:,} events with hits pass")


def _problems(products: Mapping[str, Any]) -> Iterator[Check]:
    verdicts: dict[str, tuple[str, Verdict]] = {
        "timewalk": ("time walk", "no-statistics"),
        "resolution": ("time resolution", "no-statistics"),
        "injection": ("charge injection", "bad"),
    }
    boards = len(_hits_of_boards(products))
    for step, (name, verdict) in verdicts.items():
        if f"{step}/problem" in products:
            # one chip has no resolution; a telescope without one has lost its purpose
            if boards > 2 and verdict == "no-statistics":
                verdict = "warn"
            reason = products[f"{step}/problem"].frame["reason"][0]
            yield Check(name, verdict, _NAN, _NAN, reason)


def _resolution(products: Mapping[str, Any]) -> Iterator[Check]:
    if "resolution/boards" not in products:
        return
    frame = products["resolution/boards"].frame
    last = frame.filter(pl.col("iteration") == pl.col("iteration").max())
    by = {(row["board"], row["estimator"]): row for row in last.iter_rows(named=True)}
    likelihood, std = (
        last.filter(pl.col("estimator") == name)["events"].max() or 0 for name in ("likelihood", "std")
    )
    far = int(std) - int(likelihood)
    share = far / max(int(std), 1)
    rule = f"{far:,} of {std:,} events have boards far apart (hits of other particles); the likelihood leaves them out"
    yield Check("far events", "warn" if share > _FAR else "ok", share, _FAR, rule)
    for board in last["board"].unique().sort().to_list():
        for estimator in ("likelihood", "std"):
            row = by[board, estimator]
            if row["good"]:
                continue
            told = (
                f", its square is {row['square']:.0f} ps²"
                if row["status"] == "no solution" and row["square"] is not None
                else ""
            )
            rule = f"{row['status']}{told} (estimator {estimator})"
            verdict: Verdict = "no-statistics" if row["status"] == "few events" else "bad"
            yield Check(
                "resolution",
                verdict,
                _NAN if row["square"] is None else row["square"],
                0.0,
                rule,
                f"board {board}",
            )
        yield from _tails(by[board, "likelihood"], by[board, "effective"], board)


def _tails(core: Mapping[str, Any], effective: Mapping[str, Any], board: int) -> Iterator[Check]:
    if core["tail_fraction"] is not None:
        verdict: Verdict = "warn" if core["tail_fraction"] > _TAIL else "ok"
        scale = "" if core["tail_scale"] is None else f", {core['tail_scale']:.1f} times as wide"
        rule = f"{core['tail_fraction']:.1%} of the hits are in the tail{scale}"
        yield Check("tail", verdict, core["tail_fraction"], _TAIL, rule, f"board {board}")
    if core["good"] and effective["good"] and core["resolution"]:
        apart = abs(effective["resolution"] / core["resolution"] - 1)
        tail = (core["tail_fraction"] or 0.0) * 2
        verdict = "warn" if apart > _DISAGREE + tail else "ok"
        rule = f"core width {core['resolution']:.1f} ps, effective width {effective['resolution']:.1f} ps"
        yield Check("shape", verdict, apart, _DISAGREE + tail, rule, f"board {board}")


def _scan(products: Mapping[str, Any]) -> Iterator[Check]:
    if "injection/curves" not in products:
        return
    curves = products["injection/curves"].frame
    for (board,), part in curves.group_by("board", maintain_order=True):
        usable = part.filter(pl.col("dac50").is_not_null() & pl.col("dac50_error").is_not_null())
        verdict: Verdict = "ok" if usable.height == part.height else "warn" if usable.height else "bad"
        details = tuple(
            f"{row['charge']:g} fC: {row['status']}"
            for row in part.iter_rows(named=True)
            if row["status"] != "ok"
        )
        rule = f"{usable.height} of {part.height} S-curves tell a threshold"
        yield Check(
            "S-curves",
            verdict,
            float(usable.height),
            float(part.height),
            rule,
            f"board {board}",
            details[:20],
        )
        poor = usable.filter(pl.col("p_value") < _POOR)
        verdict = "warn" if poor.height else "ok"
        rule = f"{poor.height} of {usable.height} S-curves are poor fits"
        yield Check("S-curve fits", verdict, float(poor.height), 0.0, rule, f"board {board}")
    for line in products["injection/lines"].frame.iter_rows(named=True):
        verdict = "ok" if line["good"] else "warn"
        rule = f"threshold against charge: {line['status']}"
        if line["good"] and line["chi2"] is not None:
            rule = f"threshold against charge is a line with chi² {line['chi2']:.1f} for {line['ndf']} degrees of freedom"
            verdict = "warn" if line["ndf"] > 0 and line["chi2"] > 10 * line["ndf"] else "ok"
        yield Check(
            "line",
            verdict,
            _NAN if line["chi2"] is None else line["chi2"],
            _NAN,
            rule,
            f"board {line['board']}",
        )
