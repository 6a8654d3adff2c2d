"""A run whose every name is markup, a formula or worse shows as text."""

from __future__ import annotations

import csv
import io
import json
import threading
from pathlib import Path
from urllib.request import url2pathname

import numpy as np
import pytest
import yaml

from grokscope import Run
from grokscope.analysis.panels import panels
from grokscope.analysis.report import write_report
from grokscope.analysis.report.live import LiveServer
from grokscope.callbacks.rows import CLOCK, global_table, layer_table, root_table
from grokscope.store import RunWriter
from grokscope.store.info import update_info
from grokscope.store.layout import Column, Table
from grokscope.store.run_writer import LAYERS, METRICS

WORDS = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script><!--",
    "a\0b",
    "right \u202e left",
    "x" * 10_000,
    "{{7*7}} ${7*7} {style}",
    "constructor",
    "__proto__",
    "=HYPERLINK(1)",
    "javascript:alert(3)",
    "\u2028new\nline\r\t",
    "&lt;b&gt;&amp;",
)
GROUPS = (
    "<script>alert(1)<",
    "\"'><img src=x onerror=alert(1)>",
    "constructor",
    "__proto__",
    "toString",
    "{{7*7}} ${7*7} {style}",
    "right \u202e left",
    "x" * 200,
    "loss",
    "a b",
    '"] *',
    "@SUM(1)",
)
WIDTH, ROWS = 3, 4


def tables():
    columns = dict(CLOCK) | {name: Column() for name in GROUPS}
    columns |= {f"row {name}": Column((2,)) for name in GROUPS}
    columns |= {"square": Column((2, 2)), "by layer": Column((len(WORDS),))}
    return {
        METRICS: [
            (root_table(tuple(f"top {name}" for name in GROUPS), WIDTH), ROWS),
            (global_table("batch", WIDTH), ROWS),
            *((Table(name, columns, {"layers": list(WORDS)}), ROWS) for name in GROUPS),
        ],
        LAYERS: [(layer_table("batch", WORDS, WIDTH), ROWS)],
    }


def write_rows(folder):
    writer = RunWriter(folder, made := tables())
    for epoch in range(ROWS):
        for file, found in made.items():
            for table, _ in found:
                clock = {name: epoch for name in (*CLOCK, "global_step")}
                row = {n: np.full(c.shape, 1.0 + epoch) for n, c in table.columns.items()}
                row |= {name: value for name, value in clock.items() if name in row}
                writer.append(file, table.path, row)
    writer.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Folder of the run."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    write_rows(folder)
    overrides = [f"{word}={word}" for word in WORDS]
    machine = {name: dict.fromkeys(WORDS, name) for name in ("versions", "git", "host")}
    name = "".join(WORDS[:5])
    update_info(folder, name=name, status=WORDS[0], overrides=overrides, **machine)
    config = {word: {word: [word]} for word in WORDS} | {"trainer": {"max_epochs": WORDS[0]}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def written(hostile, tmp_path_factory):
    """Address of its page."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    return write_report(Run.open(hostile), path).as_uri()


@pytest.fixture
def served(hostile):
    """Address of its live page."""
    with LiveServer(Run.open(hostile)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


@pytest.fixture(params=["written", "served"])
def address(request):
    return request.getfixturevalue(request.param)


ELEMENTS = """() => {
  const known = new Set([
    "HTML", "HEAD", "META", "TITLE", "STYLE", "BODY", "HEADER", "H1", "H2", "H3", "P", "NAV", "A",
    "BUTTON", "SPAN", "MAIN", "DIV", "DETAILS", "SUMMARY", "TABLE", "TBODY", "TR", "TH", "TD",
    "SECTION", "LABEL", "INPUT", "SELECT", "OPTION", "CANVAS", "OUTPUT", "FOOTER", "SCRIPT",
    "NOSCRIPT",
  ]);
  const all = [...document.querySelectorAll("*")];
  return {
    foreign: all.map((e) => e.tagName).filter((name) => !known.has(name)),
    scripts: all.filter((e) => e.tagName === "SCRIPT").length,
    handlers: all.filter((e) => [...e.attributes].some((a) => a.name.startsWith("on"))).length,
  };
}"""


def test_nothing_of_it_becomes_an_element(visit, address):
    visited = visit(address)
    visited.all_panels()
    found = visited.page.evaluate(ELEMENTS)
    assert found == {"foreign": [], "scripts": 2, "handlers": 0}


def test_every_panel_is_there_and_draws(visit, address, hostile):
    visited = visit(address)
    visited.all_panels()
    assert len(set(visited.keys)) == len(visited.keys) == len(panels(Run.open(hostile)))
    plots = visited.page.locator(".plot")
    drawn = plots.evaluate_all("all => all.map(e => e.querySelectorAll('canvas').length)")
    assert min(drawn) > 0
    for plot in plots.locator("canvas").all()[::5]:
        assert visited.colours(plot) > 2


def test_it_stands_there_as_text(visit, address):
    page = visit(address).page
    shown = page.locator("body").evaluate("body => body.textContent")
    for word in WORDS:
        text = "".join(c if c.isprintable() else "\ufffd" for c in word)
        assert text[:1999] in shown
    assert "49" not in page.locator("h1").inner_text()
    assert page.locator("h1").inner_text().startswith(WORDS[0] + WORDS[1])
    assert page.title().startswith(WORDS[0])


def test_no_invisible_character_reaches_the_page(written):
    html = Path(url2pathname(written.removeprefix("file://"))).read_text(encoding="utf-8")
    data = json.loads(html.partition('id="data">')[2].partition("</script>")[0])
    texts = [data["title"], *(t for facts in data["facts"] for row in facts["rows"] for t in row)]
    texts += [c["name"] for panel in data["panels"] for c in panel["choices"]]
    assert len(texts) > 100
    assert [text for text in texts if not text.isprintable()] == []


@pytest.mark.parametrize("width", [1280, 390])
def test_long_words_do_not_widen_the_page(visit, written, width):
    page = visit(written, viewport={"width": width, "height": 800}).page
    page.locator("details").evaluate_all("all => all.forEach(d => { d.open = true; })")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_csv_files_hold_no_formula(visit, written):
    visited = visit(written)
    panel = visited.panel("gop_batch")
    with visited.page.expect_download() as caught:
        panel.get_by_role("button", name="CSV").click()
    text = caught.value.path().read_text(encoding="utf-8")
    names = {row["series"] for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert "'=HYPERLINK(1)" in names
    assert not [name for name in names if name.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert {WORDS[0], WORDS[1]} <= names


def test_every_panel_can_be_saved_under_a_file_s_name(visit, written):
    visited = visit(written)
    visited.all_panels()
    for key in [key for key in visited.keys if "script" in key or "\u202e" in key]:
        panel = visited.page.locator("[data-key]").nth(visited.keys.index(key))
        with visited.page.expect_download() as caught:
            panel.get_by_role("button", name="CSV").click()
        assert caught.value.suggested_filename.isprintable()
        assert not set('<>"/\\') & set(caught.value.suggested_filename)
