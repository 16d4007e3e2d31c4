"""The ETROC is held to the conformance suite, with a telescope run whose events lie in two files."""

from __future__ import annotations

from firstlight.testing import DetectorConformance
from firstlight.testing.equality import frame_difference, product_difference, sorted_rows


def by_name(run, product):
    """Return the rows of a table in a fixed order, with the name of the file for its number and without numbers of events."""
    names = run["ingest/files"].to_polars().select("file", "name").unique()
    frame = run[product].to_polars().join(names, on="file", how="left").drop("file", "event", strict=False)
    return frame.sort(frame.columns, nulls_last=True)


class TestEtroc(DetectorConformance):
    detector_name = "etroc"
    small = {"kind": "telescope", "n_events": 1500, "n_files": 2}
    changes = {"pixels": {"minimum_hits": 30}, "resolution": {"bootstrap": 20}}
    # lines of text: no file says how many there are, and none has an end mark; a line that was cut off is counted as rejected
    truncation_shows = False

    def test_file_order_does_not_matter(self):
        """Pixels are the same in any order of the files; hits too, but for the numbers of files and events."""
        backwards = self.bench.run(self.bench.files[::-1])
        compared = 0
        for name, product in self.bench.reference.items():
            if name.startswith("pixels/"):
                what = product_difference(sorted_rows(product.value), sorted_rows(backwards[name].value))
                assert not what, f"{name} depends on the order of the files: {what}"
                compared += 1
        assert compared == 4
        for name in ("ingest/hits", "events/hits"):
            what = frame_difference(by_name(self.bench.reference, name), by_name(backwards, name))
            assert not what, f"{name} depends on the order of the files: {what}"
        counts = [
            run["events/counts"].to_polars().sort("what", "unit") for run in (self.bench.reference, backwards)
        ]
        assert counts[0].equals(counts[1])
