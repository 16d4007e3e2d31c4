"""The report: everything in its place, nothing loaded, nothing believed."""

import base64
import html
import re
import shutil
import struct
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import polars as pl
import pytest

from firstlight.data.schema import Block, Column, Table, TableSchema
from firstlight.run.store import Run
from firstlight.view.markup import as_duration, as_number, as_size, as_text, numeric, toml
from firstlight.view.report import write_index, write_report
from firstlight.view.report_results import _kind

HOSTILE = "../raw/<script>alert(1)</script>\"'&\x1b[31m\u202e\udc80.root"


def png(width=8, height=6):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + b"\x40\x80\xc0" * width for _ in range(height))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def check(name, verdict, subject="", value=1.0, details=()):
    rule = f"rule of {name} {subject}"
    return {"name": name, "verdict": verdict, "subject": subject, "value": value, "limit": 2.0, "rule": rule,
            "details": list(details)}  # fmt: skip


def figure(name, section, **more):
    return {"name": name, "title": f"Title {name}", "caption": f"Caption {name}", "section": section,
            "file": f"figures/{name}.png", **more}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    run = Run.create(tmp_path / "run a#1", "camera")
    columns = (
        Column("channel", pl.Int32, "Number of the channel."),
        Column("gain", pl.Float64, 'Mean "gain" <of> it.', "ADC counts"),
    )
    frame = pl.DataFrame(
        {"channel": pl.Series(range(50), dtype=pl.Int32), "gain": [float("nan"), *np.linspace(1, 5, 49)]}
    )
    run.put("gain/channels", Table(frame, TableSchema("channels", columns)), {"key": "abc"})
    run.put("gain/block", Block(np.zeros((2, 3)), ("channel", "sample")), {"key": "abd"})
    (run.folder / "figures").mkdir()
    for name in ("one", "two", "three"):
        (run.folder / "figures" / f"{name}.png").write_bytes(png())
    (run.folder / "exports").mkdir()
    (run.folder / "exports" / "a b#?.csv").write_text("x", encoding="utf-8")
    run.record |= {
        "title": "Camera <one>",
        "maturity": "beta",
        "activity": {
            "command": ["firstlight", "camera", "--cut", "n > 3 & m"],
            "started": "2026-05-04T09:12:03+00:00",
            "ended": "2026-05-04T09:19:41+00:00",
            "host": "desk",
            "agent": {"name": "firstlight", "version": "0.1"},
            "packages": {"numpy": "2.1"},
        },
        "configuration": {"seed": 1, "mask": None, "pedestal": {"window": [0, 50], "odd key": {"a": 1}}},
        "channels": {"name": "map", "version": "3", "n_channels": 50, "layout": "grid"},
        "inputs": [
            {"path": "../raw/good.root", "status": "used", "size": 3_770_000_000, "digest": "sha256:0123456789",
             "n_events": 12345, "conditions": {"run": 7, "lids": "closed"}, "notes": ["late"]},
            {"path": HOSTILE, "status": "refused", "reason": "no tree <Events>", "size": 12,
             "conditions": {"run": 8, "lids": "closed"}},
        ],
        "summary": [{"label": "hits", "value": 12345678}, {"label": "gain", "value": 5.61321, "unit": "ADC/p.e."}],
        "cut_flow": [{"cut": "n > 3", "table": "hits", "rows": 100, "passed_alone": 60, "left": 50,
                      "fraction_left": 0.5}],
        "checks": [check("calm", "ok"), check("rate", "warn", "late"),
                   *(check("dead", "bad", f"plane {i}", i, [f"ch {k}" for k in range(20)]) for i in range(9)),
                   check("thin", "no-statistics", value=None), check("new", "dubious")],
        "figures": [figure("one", "Gains"), figure("two", "Pedestals"), figure("three", "Gains")],
        "tables": [
            {"product": "gain/channels", "title": "Low", "caption": "They are low.", "section": "Pedestals",
             "columns": ["channel", "gain"], "where": "channel < 30", "limit": 10},
        ],
        "steps": {"gain": {"version": 2, "key": "abc", "seconds": 75, "reused": False, "parameters": {"n": 3},
                           "products": ["gain/channels"]}},
        "notes": ["a note & more"],
        "exports": ["exports/a b#?.csv", "exports/gone.csv"],
    }  # fmt: skip
    run.save()
    return Run.open(run.folder)


class Page(HTMLParser):
    """Collects tags, and refuses those that are closed in another order than opened."""

    VOID = frozenset({"meta", "img", "wbr", "br"})

    def __init__(self, path):
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.tags, self.open, self.ids = [], [], []
        self.feed(self.text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, self.getpos()

    def all(self, tag, attribute):
        return [attrs[attribute] for name, attrs in self.tags if name == tag and attribute in attrs]


def headings(page):
    return re.findall(r"<h2 id=[^>]*>(.*?)</h2>", page.text)


def assert_self_contained(page):
    for tag, attrs in page.tags:
        assert tag not in {"link", "iframe", "object", "base", "form"}
        assert not [name for name in attrs if name.startswith("on")]
        if "src" in attrs:
            assert tag == "img"
            assert attrs["src"].startswith("data:image/png;base64,")
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "@import" not in page.text
    assert "url(" not in page.text


def test_sections_in_order(run):
    path = write_report(run)
    assert path == run.folder / "report" / "index.html"
    page = Page(path)
    assert headings(page) == [
        "What needs attention", "Refused files", "Gains", "Pedestals", "All checks", "Cut flow", "Input files",
        "Provenance",
    ]  # fmt: skip
    assert page.text.index("Title three") < page.text.index("Title two")  # both figures of the first section
    for expected in ("Camera &lt;one&gt;", "2026-05-04 09:12 UTC, took 7 min 38 s", "firstlight 0.1 on desk",
                     "12\u202f345\u202f678", "5.613", "ADC/p.e.", "3.77 GB", "a note &amp; more",
                     "map, version 3, 50 channels, grid", "50 %", "1 min 15 s",
                     "The same for all: lids = closed"):  # fmt: skip
        assert expected in page.text, expected
    assert page.text.count("data:image/png;base64,") == 3
    assert base64.b64encode(png()).decode() in page.text


def test_is_self_contained_and_links_exist(run):
    path = write_report(run)
    page = Page(path)
    assert_self_contained(page)
    links = page.all("a", "href")
    files = [link for link in links if not link.startswith("#")]
    assert "../exports/a%20b%23%3F.csv" in files
    assert len(files) >= 7
    for link in files:
        assert (path.parent / unquote(link)).resolve().is_file(), link
    assert {link[1:] for link in links if link.startswith("#")} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert '<code>exports/gone.csv</code> <span class="muted">(missing)</span>' in page.text
    assert all(page.all("img", "alt")[:3])


def test_attention_comes_first_and_is_grouped(run):
    page = Page(write_report(run))
    text = page.text[page.text.index('id="attention"') : page.text.index('id="refused"')]
    assert text.index("dead <span>(9 of 9)") < text.index(">rate<") < text.index(">new<")
    assert "rule of dead plane 5" in text
    assert "rule of dead plane 6" not in text
    assert "and 3 more in the table of checks" in text
    assert "ch 11, … (20 in all)" in text
    assert "1 check had too few data" in text
    assert "calm" not in text
    header = page.text[: page.text.index("<nav")]
    assert 'class="badge bad large"' in header
    assert "9 bad, 2 warnings, 1 no statistics, 1 ok" in header


def test_hostile_text_is_shown_not_obeyed(run):
    run.record["figures"][0] |= {"title": "<img src=x onerror=alert(1)>", "caption": '"><script>1</script>'}
    run.record["checks"][0]["rule"] = "<b>bold</b>"
    run.record["tables"][0]["caption"] = "</div><iframe>"
    run.record["activity"]["command"] += ["--x", '"><script>']
    page = Page(write_report(run))
    assert_self_contained(page)
    assert page.text.count("<script") == 1
    assert "../raw/&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text
    assert "\\udc80" in page.text
    assert [tag for tag, _ in page.tags].count("b") == 0
    assert "Mean &quot;gain&quot; &lt;of&gt; it." in page.text


def test_long_headline_values_can_break_and_remarks_stand_below(run):
    run.record["summary"] = [
        {"label": "gain", "value": 5.6, "unit": "ADC/p.e."},
        {"label": "winner", "value": "TrackE0010000_D20250527/T1333526475", "unit": "score 0.9"},
        {"label": "area", "value": 0.98, "unit": "area under the curve, 16 + 16 <tracks>"},
    ]
    page = Page(write_report(run)).text
    gain, winner, area = page[page.index('<dl class="tiles"') :].split('<div class="card">')[1:4]
    assert gain == '<dt>gain</dt><dd class="n">5.6 <small>ADC/p.e.</small></dd></div>'
    name = "TrackE0010000_<wbr>D20250527/<wbr>T1333526475"
    assert winner == f'<dt>winner</dt><dd class="name">{name}</dd><dd class="remark">score 0.9</dd></div>'
    remark = "area under the curve, 16 + 16 &lt;tracks&gt;"
    assert area.startswith(f'<dt>area</dt><dd class="n">0.98</dd><dd class="remark">{remark}</dd></div>')


SPILLS = """<script>window.addEventListener("load", () => {
  const root = document.documentElement, found = [...document.querySelectorAll(".tiles > div, .tiles dd, header *")].filter(
    (e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && getComputedStyle(e).display !== "inline");
  document.title = `spills ${found.map((e) => e.textContent)} page ${root.scrollWidth - root.clientWidth}`;
})</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1300, 1000, 700])
def test_nothing_reaches_out_of_its_card(run, tmp_path, width):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no browser")
    remarks = [
        "area under the curve, 16 + 16 tracks",
        "± 0.001 (statistical) ± 0.000 (baseline) ± 0.39 (common) e-/DAC",
    ]
    run.record["summary"] = [
        {"label": "x" * 40, "value": "TrackE0010000_D20250527_T1333526475", "unit": "score"}
    ] * 5
    run.record["summary"] += [{"label": "area", "value": 0.98, "unit": remark} for remark in remarks] * 3
    text = re.sub(r"<meta http-equiv[^>]*>", "", write_report(run).read_text(encoding="utf-8"))
    (tmp_path / "page.html").write_text(text + SPILLS, encoding="utf-8")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        f"--window-size={width},900",
        "--dump-dom",
        f"file://{tmp_path}/page.html",
    ]
    page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert "<title>spills  page 0</title>" in page


def test_sentences_in_tables_have_room():
    assert _kind(pl.Series(["short", None, "a sentence that is longer than most names are"])) == "text"
    assert _kind(pl.Series(["a_name_without_blanks_that_is_longer_than_most_names_are"])) == ""
    assert _kind(pl.Series([1.0])) == "n"


def test_table_says_rows_units_and_meaning(run):
    page = Page(write_report(run))
    table = page.text[page.text.index('id="table-gain-channels"') :]
    assert "30 of 50 rows with <code>channel &lt; 30</code>; the first 10 are shown" in table
    assert "<small>ADC counts</small>" in table
    assert table[: table.index("</table>")].count("<tr>") == 11
    assert '<td class="n" data-v="">–</td>' in table  # NaN
    assert '<td class="n" data-v="1">1.000</td>' in table
    assert "What the columns mean" in table


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"product": "gain/gone"}, "unknown product &#x27;gain/gone&#x27;"),
        ({"product": "gain/block"}, "is not a table"),
        ({"where": "channel <"}, "is not a condition"),
        ({"where": "colour = 3"}, "colour"),
        ({"where": "channel + 1"}, "trouble"),
        ({"columns": ["channel", "colour"]}, "There is no column colour."),
        ({"where": "channel > 99"}, "0 of 50 rows"),
    ],
)
def test_trouble_with_a_table_stays_at_its_place(run, change, expected):
    run.record["tables"][0] |= change
    page = Page(write_report(run))
    assert expected in page.text[page.text.index('id="table-') : page.text.index('id="checks"')]
    assert "Provenance" in headings(page)


def test_damaged_product_file(run):
    run["gain/channels"].path.write_bytes(b"PAR1 nothing PAR1")
    text = write_report(run).read_text(encoding="utf-8")
    assert 'class="trouble bad"' in text[text.index('id="table-') : text.index('id="checks"')]


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("figures/gone.png", None, "is missing"),
        ("../secret.png", png(), "is missing"),
        ("figures/text.png", b"<svg onload=alert(1)>", "is not a PNG"),
        ("figures/empty.png", png(0, 0), "is empty"),
        ("", None, "is missing"),
    ],
)
def test_pictures_that_cannot_be_shown(run, file, content, expected):
    if content is not None:
        (run.folder / file).write_bytes(content)
    run.record["figures"] = [figure("odd", "Gains", file=file)]
    text = write_report(run).read_text(encoding="utf-8")
    assert expected in text
    assert "data:image/png;base64," not in text


def test_wide_and_lonely_pictures_have_a_row_for_themselves(run):
    for index, width in enumerate((8, 8, 8, 20, 8)):
        (run.folder / "figures" / f"f{index}.png").write_bytes(png(width))
    run.record["figures"] = [figure(f"f{index}", "Gains") for index in range(5)]
    text = write_report(run).read_text(encoding="utf-8")
    assert re.findall(r'<figure class="card (\w*)"', text) == ["", "", "solo", "wide", "solo"]


def test_every_key_may_be_absent(run, tmp_path):
    bare = Run.create(tmp_path / "bare", "camera")
    bare.save()
    page = Page(write_report(Run.open(bare.folder)))
    assert headings(page) == ["What needs attention", "Provenance"]
    assert "not checked" in page.text
    whole = dict(run.record)
    for key in set(whole) - {"detector", "products"}:
        run.record = {name: value for name, value in whole.items() if name != key}
        Page(write_report(run))
    for odd in (None, [], {}, "text", 3, [3], [{}], {"x": 3}):
        odd_record = {key: odd for key in whole if key not in ("detector", "products")}
        run.record = {**odd_record, "detector": "camera", "products": whole["products"]}
        Page(write_report(run))


def test_nothing_needs_attention(run):
    run.record["checks"] = [check("calm", "ok"), check("thin", "no-statistics")]
    text = write_report(run).read_text(encoding="utf-8")
    assert "Nothing: 1 of 2 checks came out ok." in text
    run.record["checks"] = [check("thin", "no-statistics")]
    assert "Nothing could be judged." in write_report(run).read_text(encoding="utf-8")


def test_many_pictures_and_tables(run):
    content = png() + bytes(100_000)
    run.record["figures"] = [figure(f"f{index}", f"S{index // 10}") for index in range(60)]
    for entry in run.record["figures"]:
        (run.folder / entry["file"]).write_bytes(content)
    run.record["tables"] = run.record["tables"] * 5
    path = write_report(run)
    assert path.stat().st_size > 60 * 130_000


def test_index(run, tmp_path):
    write_report(run)
    other = Run.create(tmp_path / "deep" / "er", "timing")
    other.save()
    page = Page(write_index(tmp_path / "pages", [run, other], "All <runs>"))
    assert_self_contained(page)
    assert "script-src 'none'" in html.unescape(page.text)
    links = page.all("a", "href")
    assert links == ["../run%20a%231/report/index.html"]
    assert (tmp_path / "pages" / unquote(links[0])).resolve() == run.folder / "report" / "index.html"
    assert "All &lt;runs&gt;" in page.text
    assert "no report" in page.text
    assert "no picture" in page.text
    assert "1 file refused" in page.text


def test_numbers():
    assert [as_number(value) for value in (None, True, float("nan"), -3, 1234, 12345, 0.5, 1234.5678, -0.0)] == [
        "–", "yes", "–", "−3", "1234", "12\u202f345", "0.5", "1235", "0",
    ]  # fmt: skip
    assert as_number(1.23e-7) == "1.230×10<sup>−7</sup>"
    assert as_number(float("-inf")) == "−∞"
    assert numeric(float("inf")) == ("∞", "Infinity")
    assert numeric("text") == ("text", "")
    assert [as_size(value) for value in (None, 0, 999, 999_999, 3.77e9, 1e15)] == [
        "–", "0 B", "999 B", "1 MB", "3.77 GB", "1 PB",
    ]  # fmt: skip
    assert [as_duration(value) for value in (None, 0, 0.001, 12.345, 59.99, 75, 3720)] == [
        "–", "0 s", "< 0.01 s", "12.3 s", "60 s", "1 min 15 s", "1 h 02 min",
    ]  # fmt: skip
    assert as_text("a\0b<") == "a␀b&lt;"


def test_configuration_can_be_copied_out():
    import tomllib

    content = {
        "seed": 1,
        "a b": {"x": [1, 2], "deep": {"text": 'say "é"'}, "rows": [{"k": True}]},
        "empty": {},
    }
    assert tomllib.loads(toml({**content, "gone": None})) == content


CHROMIUM = shutil.which("chromium")


def dump_dom(path, profile):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
               "--disable-background-networking", f"--user-data-dir={profile}", "--dump-dom", path.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode()


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_script_runs_in_a_browser(run, tmp_path):
    path = write_report(run)
    dom = dump_dom(path, tmp_path / "profile")
    assert re.search(r'<html[^>]*class="js"[^>]*data-ready="yes"', dom)  # and the policy of the page lets it
    assert dom.count('<th scope="col"') == dom.count('<button type="button"><span>') + 1  # all but the bar

    # the same page, with somebody who clicks
    text = path.read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    text = text.replace(
        "<style>",
        "<script>onerror = (m) => { document.documentElement.dataset.error = m; };</script><style>",
        1,
    )
    clicks = """<script>
      const table = document.getElementById("check-table");
      const values = () => [...table.tBodies[0].rows].map((row) => row.cells[3].textContent).join(" ");
      const button = table.tHead.rows[0].cells[3].querySelector("button");
      button.click(); const up = values(); button.click(); const down = values();
      document.querySelector('.filters button[value="warn"]').click();
      const shown = [...table.tBodies[0].rows].filter((row) => !row.hidden).length;
      document.querySelectorAll(".picture")[1].click();
      const title = document.querySelector("dialog[open] strong").textContent;
      document.querySelectorAll("dialog button")[1].click();
      const next = document.querySelector("dialog[open] strong").textContent;
      document.body.append(Object.assign(document.createElement("output"),
        { textContent: [up, down, shown, title, next].join("|") }));
    </script></body>"""
    clicked = Path(tmp_path / "clicked.html")
    clicked.write_text(text.replace("</body>", clicks), encoding="utf-8")
    dom = dump_dom(clicked, tmp_path / "profile")
    assert "data-error" not in dom
    up, down, shown, title, following = re.search(r"<output>(.*)</output>", dom).group(1).split("|")
    assert up == "0 1 1 1 1 2 3 4 5 6 7 8 –"
    assert down == "8 7 6 5 4 3 2 1 1 1 1 0 –"
    assert shown == "2"
    assert (title, following) == ("Title three", "Title two")


def test_a_figure_that_cannot_be_drawn_does_not_take_away_the_others(tmp_path, caplog):
    from matplotlib.figure import Figure as Canvas

    from firstlight.run.progress import silent
    from firstlight.view.figure import Figure
    from firstlight.view.save import save_figures

    def broken():
        raise ValueError("no axes today")

    figures = [
        Figure("broken", "Broken", "It breaks.", "Part", broken),
        Figure("whole", "Whole", "It is drawn.", "Part", lambda: Canvas(figsize=(2, 2))),
    ]
    records = save_figures(figures, tmp_path, ("png",), silent())
    assert records[0]["problem"] == "could not be drawn: ValueError: no axes today"
    assert records[0]["file"] == ""
    assert (tmp_path / records[1]["file"]).is_file()
    assert "broken could not be drawn" in caplog.text
