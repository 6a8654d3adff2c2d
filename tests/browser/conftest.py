"""Chromium on the page of a small run with every measure; each visit must be quiet."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import entry
import pytest

from grokscope import Run
from grokscope.analysis.report import write_report
from grokscope.app import training

SMALL = (
    *("experiment=none", "data.modulus=7", "data.encoding=tokens", "net=transformer"),
    *("net.n_tokens=8", "net.d_model=8", "net.n_heads=2", "net.d_mlp=8", "net.d_head=4"),
    *("model.optimizer.lr=1e-2", "threads=1", "trainer.max_epochs=40", "measures=all"),
    *("measures.probe=20", "measures.progress.capacity.n_points=5", "name=small"),
    *("thresholds.train=0.2", "thresholds.test=0.2"),
    "+measures.progress.circuits={_target_:grokscope.callbacks.families.circuits."
    "CircuitProgress,modulus:7,schedule:log 5}",
    "+measures.progress.classes={_target_:grokscope.callbacks.families.classes."
    "ClassProgress,schedule:log 5}",
)
KEEP_CHARTS = """(() => {
  const charts = [];
  let made;
  Object.defineProperty(window, "uPlot", {
    get: () => made,
    set: (real) => {
      made = new Proxy(real, { construct: (target, given) => {
        const chart = new target(...given);
        charts.push(chart);
        return chart;
      } });
    },
  });
  window.chartOf = (key) => charts.findLast(
    (chart) => chart.root.isConnected && chart.root.closest("[data-key]").dataset.key === key);
})();"""  # the page keeps its charts to itself
DRAW_ALL = """() => {
  dispatchEvent(new Event("beforeprint"));
  return new Promise((done) => setTimeout(done));
}"""
COLOURS = """(canvas) => {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  return new Set(new Uint32Array(data.buffer)).size;
}"""


@dataclass
class Visit:
    """An open page, and everything that it did beside showing."""

    page: Any
    own: str
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def quiet(self) -> None:
        """No message, error, dialog, window, or request to anywhere else."""
        assert self.said == []
        assert [url for url in self.asked if not url.startswith((self.own, "blob:"))] == []

    @property
    def keys(self) -> list[str]:
        """Panels, in the page's order."""
        return self.page.locator("[data-key]").evaluate_all("all => all.map(e => e.dataset.key)")

    def panel(self, key: str) -> Any:
        """A panel that has come into view and is drawn."""
        found = self.page.locator(f'[data-key="{key}"]')
        found.scroll_into_view_if_needed()
        found.locator(".plot canvas").first.wait_for()
        return found

    def all_panels(self) -> None:
        """Draw every panel at once, as printing does."""
        self.page.evaluate(DRAW_ALL)

    def chart(self, key: str, expression: str) -> Any:
        """JavaScript's ``u => ...`` of the panel's chart."""
        return self.page.evaluate(f'() => ({expression})(chartOf("{key}"))')

    def scale(self, key: str, name: str = "x") -> tuple[float, float]:
        """What an axis shows."""
        return tuple(self.chart(key, f"u => [u.scales.{name}.min, u.scales.{name}.max]"))

    def colours(self, canvas: Any) -> int:
        """How many there are in a canvas."""
        return canvas.evaluate(COLOURS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One a file: while it runs, nothing else can run an event loop."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if (path := shutil.which("chromium")) is None:
        pytest.skip("needs chromium on the path")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser) -> Iterator[Callable[..., Visit]]:
    """``visit(address, **context)`` opens a page in a context of its own."""
    visits = []

    def open_page(address: str, **options: Any) -> Visit:
        options = {"viewport": {"width": 1280, "height": 900}} | options
        context = browser.new_context(accept_downloads=True, **options)
        context.add_init_script(KEEP_CHARTS)
        context.set_default_timeout(10_000)
        visited = Visit(context.new_page(), address)
        visits.append(visited)
        _listen(context, visited)
        visited.page.goto(address)
        visited.page.wait_for_selector("html[data-ready=true]", state="attached")
        return visited

    yield open_page
    for visited in visits:
        visited.page.context.close()
        visited.quiet()


def _listen(context: Any, visited: Visit) -> None:
    page, said = visited.page, visited.said
    page.on("console", lambda message: said.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("popup", lambda other: said.append(f"window: {other.url}"))
    context.on("request", lambda request: visited.asked.append(request.url))


@pytest.fixture(scope="session")
def measured(tmp_path_factory) -> Path:
    """Folder of a small run with every measure of any net of ours."""
    folder = tmp_path_factory.mktemp("browser")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "save_figures", lambda run: None)
        entry.call("train", f"paths.log_dir={folder}", *SMALL, f"hydra.run.dir={folder}/run")
    return folder / "run"


@pytest.fixture(scope="session")
def run(measured) -> Run:
    return Run.open(measured)


@pytest.fixture(scope="session")
def report(measured, tmp_path_factory) -> str:
    """Address of its page, alone in a folder."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    return write_report(Run.open(measured), path).as_uri()
