"""Size of the page of a long run, and how soon a browser shows it.

python scripts/benchmark/report.py [--run FOLDER] [--quick]

Without a run it trains one of the published length with every measure: minutes. The browser is
Debian's chromium, headless, with an empty cache; each opening is of a new window. The run is
copied, and a spike of one epoch is planted into its losses and into a measure: both must reach
the page. Then the same run a hundred times, as a sweep.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from timing import table, verdict, write_section

from grokscope import Run
from grokscope.analysis.report import write_comparison, write_report

ROOT = Path(__file__).parents[2]
EPOCHS = 40_000
MEGABYTES, SECONDS = 3.0, 1.5  # limits
OPENINGS = 5
RUNS, SEEDS = 100, 5  # of a sweep
SPIKE = 1e6
PLANTED = {"test loss": "test_loss", "trace of the batch GOP": "gop/batch/trace"}
READY = "document.documentElement.dataset.ready === 'true'"
DRAW = """() => {
  dispatchEvent(new Event("beforeprint"));
  return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
SPIKES = """(spike) => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const array = ([type, text]) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return Array.from(new (type === "i" ? Int32Array : Float32Array)(bytes.buffer));
  };
  const found = [];
  for (const panel of page.panels) for (const choice of panel.choices) {
    for (const series of choice.series ?? []) {
      const at = array(page.arrays[series.values]).indexOf(spike);
      if (at >= 0) found.push([panel.key, series.name, array(page.arrays[series.epochs])[at]]);
    }
  }
  return found;
}"""


@dataclass(frozen=True)
class Opening:
    """Seconds from asking for the page."""

    ready: float
    drawn: float


def train(folder: Path, epochs: int) -> None:
    command = [sys.executable, str(ROOT / "src/train.py"), "experiment=quickstart", "measures=all"]
    command += [f"trainer.max_epochs={epochs}", f"hydra.run.dir={folder}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def plant(folder: Path) -> dict[str, int]:
    """Replace one value of two series; their epochs."""
    places = {}
    with h5py.File(folder / "metrics.h5", "r+") as file:
        for seed, (name, column) in enumerate(PLANTED.items()):
            group = column.rpartition("/")[0]
            epochs = file[f"{group}/epoch" if group else "epoch"][:]
            row = int(np.random.default_rng(seed).integers(len(epochs) // 3, len(epochs) - 1))
            file[column][row] = SPIKE
            places[name] = int(epochs[row])
    return places


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("needs chromium on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(browser: Any, page_path: Path) -> Opening:
    """Until the page says that it is ready, and until every panel is drawn."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    begun = time.perf_counter()
    page.goto(page_path.as_uri(), wait_until="commit")
    page.wait_for_function(READY, polling=10)
    ready = time.perf_counter() - begun
    page.evaluate(DRAW)
    drawn = time.perf_counter() - begun
    context.close()
    return Opening(ready, drawn)


def spikes(browser: Any, page_path: Path) -> list[tuple[str, str, int]]:
    """Panel, curve and epoch of every planted value that the page holds."""
    page = browser.new_page()
    page.goto(page_path.as_uri())
    found = [(str(k), str(n), int(e)) for k, n, e in page.evaluate(SPIKES, SPIKE)]
    page.close()
    return found


def survive(planted: dict[str, int], found: list[tuple[str, str, int]]) -> str:
    """Whether each planted value is where it was planted, in words."""
    wanted = {
        ("loss", "test", planted["test loss"]),
        ("gop_batch", "whole", planted["trace of the batch GOP"]),
    }
    return "survive" if wanted <= set(found) else f"LOST: {sorted(wanted - set(found))}"


def measure(folder: Path) -> tuple[str, list[list[str]]]:
    """Words and rows of the table."""
    run, planted = Run.open(folder), plant(folder)
    begun = time.perf_counter()
    page = write_report(run)
    written = time.perf_counter() - begun
    with chromium() as browser:
        open_page(browser, page)  # warm up
        openings = [open_page(browser, page) for _ in range(OPENINGS)]
        kept = survive(planted, spikes(browser, page))
    megabytes = page.stat().st_size / 1e6
    ready = statistics.median(opening.ready for opening in openings)
    drawn = statistics.median(opening.drawn for opening in openings)
    epochs, count = int(run.metrics["epoch"][-1]), _panels(page)
    rows = [
        ["size", f"{megabytes:.2f} MB", verdict(megabytes, MEGABYTES)],
        ["ready", f"{ready:.2f} s", verdict(ready, SECONDS)],
        ["all panels drawn", f"{drawn:.2f} s", ""],
        ["written", f"{written:.2f} s", ""],
    ]
    words = (
        f"`report.html` of `experiment=quickstart measures=all` with {epochs:,} epochs: "
        f"{count} panels; medians of {OPENINGS} openings in headless Chromium. Two values that "
        f"were planted at single epochs ({_places(planted)}) {kept}."
    )
    return words, rows


def sweep(folder: Path, root: Path) -> list[Run]:
    """The run as often as a large sweep has runs: its files linked, settings of their own."""
    found = []
    for number in range(RUNS):
        place = root / str(number)
        place.mkdir(parents=True)
        for name in ("metrics.h5", "gop_layers.h5", "run.json"):
            os.link(folder / name, place / name)
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        config["seed"] = number % SEEDS
        config["model"]["optimizer"]["lr"] = 1e-3 * (1 + number // SEEDS)
        (place / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        found.append(Run.open(place))
    return found


def compare(folder: Path, root: Path) -> list[list[str]]:
    """Rows of the table for the page of a sweep."""
    runs = sweep(folder, root)
    begun = time.perf_counter()
    page = write_comparison(runs, root / "comparison.html")
    written = time.perf_counter() - begun
    with chromium() as browser:
        open_page(browser, page)
        openings = [open_page(browser, page) for _ in range(OPENINGS)]
    ready, drawn = (statistics.median(getattr(o, n) for o in openings) for n in ("ready", "drawn"))
    name = f"{RUNS} such runs, {RUNS // SEEDS} groups"
    return [
        [f"{name}: size", f"{page.stat().st_size / 1e6:.2f} MB", ""],
        [f"{name}: ready", f"{ready:.2f} s", ""],
        [f"{name}: all panels drawn", f"{drawn:.2f} s", ""],
        [f"{name}: written", f"{written:.1f} s", ""],
    ]


def _panels(page: Path) -> int:
    data = page.read_text(encoding="utf-8").partition('id="data">')[2].partition("</script>")[0]
    return len(json.loads(data)["panels"])


def _places(planted: dict[str, int]) -> str:
    return ", ".join(f"{name} at epoch {epoch:,}" for name, epoch in planted.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="a finished run; it is copied")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, nothing written")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        if given.run is None:
            train(folder, 400 if given.quick else EPOCHS)
        else:
            shutil.copytree(given.run, folder)
        words, rows = measure(folder)
        rows += compare(folder, Path(scratch) / "sweep")
    text = f"{words}\n\n{table(['', 'median', 'limit'], rows)}"
    if given.quick:
        print(text)
    else:
        write_section("report", "The page of a long run", text)


if __name__ == "__main__":
    main()
