"""The page of several runs: groups, tables that sort, a phase diagram; hostile names are text."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml
from axe_findings import serious

from grokscope import Run
from grokscope.analysis.report import write_comparison
from grokscope.callbacks.rows import LOSSES, root_table
from grokscope.store import RunWriter
from grokscope.store.info import update_info
from grokscope.store.run_writer import METRICS

EPOCHS = 200
RATES, DECAYS, SEEDS = (0.001, 0.01), (0.1, 1.0), (0, 1, 2)
HOSTILE = "<img src=x onerror=alert(1)>\u202e</script>{{7*7}}" + "x" * 10_000


def write(folder: Path, rate: float, decay: float, seed: int) -> Run:
    """A run that generalises the later, the lower its rate and decay."""
    late = 20 / (rate * 1000) ** 0.3 / decay**0.5 + 3 * seed
    writer = RunWriter(folder, {METRICS: [(root_table((), 0), EPOCHS)]})
    for epoch in range(EPOCHS):
        share = 1 / (1 + np.exp(late - epoch))
        row = {"train_loss": 1 / (1 + epoch), "test_loss": 1.5 - share}
        row |= {"train_acc": float(epoch > 5), "test_acc": share}
        assert set(row) == set(LOSSES)
        writer.append(METRICS, "", row | {"epoch": epoch, "global_step": epoch})
    writer.finalise()
    optimizer = {"note": f"{decay}, {rate}{HOSTILE}", "lr": rate, "weight_decay": decay}
    config = {"name": HOSTILE, "seed": seed, "model": {"optimizer": optimizer}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    update_info(folder, status="finished", name=HOSTILE, seed=seed)
    return Run.open(folder)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("sweep")
    cells = enumerate(product(RATES, DECAYS, SEEDS))
    runs = [write(folder / str(i), *cell) for i, cell in cells]
    return write_comparison(runs, folder / "comparison.html").as_uri()


def column(visited, key: str, number: int) -> list[str]:
    cells = visited.page.locator(f'[data-key="{key}"] tbody tr td:nth-child({number + 1})')
    return cells.all_text_contents()


def heads(visited, key: str) -> list[str]:
    return visited.page.locator(f'[data-key="{key}"] thead th').all_text_contents()


def test_runs_that_differ_in_the_seed_are_one_curve_with_a_band(visit, comparison):
    visited = visit(comparison)
    visited.panel("overlay")
    names = visited.chart("overlay", "u => u.series.slice(1).map(s => s.label)")
    own = [name for name in names if not name.endswith((", low", ", high"))]
    assert len(own) == len(RATES) * len(DECAYS)
    assert len(names) == 3 * len(own)
    assert visited.chart("overlay", "u => u.bands.length") == len(own)
    rows = visited.page.locator('[data-key="overlay"] .u-legend .u-series')
    assert rows.evaluate_all("all => all.filter(r => r.offsetParent).length") == 1 + len(own)


def test_hiding_a_curve_hides_its_band(visit, comparison):
    visited = visit(comparison)
    panel = visited.panel("overlay")
    panel.locator(".u-legend .u-series th").nth(1).click()
    shown = visited.chart("overlay", "u => u.series.map(s => s.show)")
    assert shown[1:4] == [False, False, False]
    assert all(shown[4:])


def test_a_table_sorts_by_number_and_back(visit, comparison):
    visited = visit(comparison)
    place = heads(visited, "runs").index("generalised")
    head = visited.page.locator('[data-key="runs"] thead th').nth(place)
    for order, reverse in (("ascending", False), ("descending", True)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        numbers = [int(text.replace(",", "")) for text in column(visited, "runs", place)]
        assert numbers == sorted(numbers, reverse=reverse)
        assert len(set(numbers)) > 5


def test_a_table_sorts_by_keyboard(visit, comparison):
    visited = visit(comparison)
    visited.page.locator('[data-key="runs"] thead button').first.focus()
    visited.page.keyboard.press("Enter")
    names = column(visited, "runs", 0)
    assert names == sorted(names)  # 0.1 before 1, and 0.001 before 0.01
    visited.page.keyboard.press("Enter")
    assert column(visited, "runs", 0) == sorted(names, reverse=True)


def test_runs_meet_at_their_generalisation(visit, comparison):
    visited = visit(comparison)
    visited.panel("aligned")
    low, high = visited.scale("aligned")
    assert low < 1 < high < EPOCHS
    values = visited.chart(
        "aligned", "u => u.series.map((s, i) => u.data[i][u.data[0].findIndex(t => t >= 1)])"
    )
    assert min(v for v in values[1::3] if v is not None) > 0.9


def test_the_phase_diagram_has_a_cell_for_each_pair(visit, comparison):
    visited = visit(comparison)
    panel = visited.panel("phases")
    assert "Letters" in panel.locator(".key").text_content()
    box = panel.locator("canvas").first.bounding_box()
    visited.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.3 * box["height"])
    said = panel.locator(".hover.text").text_content()
    assert "weight_decay 0.1" in said
    assert "lr 0.01" in said


def test_hostile_names_are_text_on_a_phone_too(visit, comparison):
    visited = visit(comparison, viewport={"width": 390, "height": 844})
    visited.all_panels()
    assert visited.page.locator("main img").count() == 0
    assert visited.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert "{{7*7}}" in visited.page.content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, comparison, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    visited = visit(comparison, color_scheme=scheme)
    visited.all_panels()
    found = serious(axe.run(visited.page))
    assert not found, "\n".join(found)
