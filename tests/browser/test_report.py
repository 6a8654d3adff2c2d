"""The page of a run in Chromium: panels draw, controls work, numbers are the run's."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from PIL import Image

from grokscope.analysis.panels import Lines, panels
from grokscope.analysis.panels.captions import METRICS
from grokscope.analysis.report.document import verdict
from grokscope.analysis.summary import summary_rows

FIRST = 0.5  # where a log axis shows epoch 0
SPECTRUM = "spectrum_sample"
EIGENVALUES = "gop/sample/eigenvalues_top_k"

TRY_ALL = """async () => {
  const found = [];
  for (const panel of document.querySelectorAll("[data-key]")) {
    const note = async (what) => {
      await new Promise((done) => setTimeout(done));
      const canvas = panel.querySelector(".plot canvas"), { width, height } = canvas;
      const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
      const colours = new Set();
      new Uint32Array(data.buffer).some((pixel) => colours.add(pixel).size > 4);
      found.push([`${panel.dataset.key}: ${what}`, colours.size]);
    };
    for (const option of panel.querySelectorAll("option")) {
      option.parentElement.value = option.value;
      option.parentElement.dispatchEvent(new Event("change"));
      await note(option.textContent);
    }
    const boxes = [...panel.querySelectorAll("input[type=checkbox]")];
    for (const box of [...boxes, ...boxes]) {
      box.click();
      await note(box.parentElement.textContent);
    }
  }
  return found;
}"""

TOO_WIDE = """() => [...document.querySelectorAll("body *")]
  .filter((e) => e.getBoundingClientRect().right > 391 && !e.closest(".scroll"))
  .map((e) => e.outerHTML.slice(0, 120))"""
MISSING = """() => [...document.querySelectorAll("[data-key]")]
  .filter((e) => !e.querySelector(".plot canvas")).length"""


def same(found, expected):
    """Equal but for float32; what JavaScript calls null is missing."""
    found = np.array([np.nan if x is None else x for x in found])
    np.testing.assert_array_equal(found.astype(np.float32), np.asarray(expected, np.float32))


def positive(values):
    return np.where(values > 0, values, np.nan)


def at(panel, share_x, share_y=0.5):
    """Page coordinates within the area where curves are."""
    box = panel.locator(".u-over").bounding_box()
    return box["x"] + share_x * box["width"], box["y"] + share_y * box["height"]


def drag(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def downloaded(page, button):
    with page.expect_download() as caught:
        button.click()
    return caught.value


def table(download):
    text = download.path().read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def test_every_panel_of_the_run_draws_when_it_comes_into_view(visit, report, run):
    visited = visit(report, offline=True)
    assert visited.keys == [panel.key for panel in panels(run)]
    drawn = visited.page.locator(".plot canvas").count()
    for key in visited.keys:
        visited.panel(key)
    canvases = visited.page.locator(".plot canvas").all()
    assert len(visited.keys) <= len(canvases) > drawn
    assert [c for c in canvases if visited.colours(c) < 3] == []
    assert visited.asked == [report]


def test_the_page_says_what_the_summary_says(visit, report, run):
    page = visit(report).page
    assert page.title() == page.locator("h1").inner_text() == "small: finished"
    summary = page.locator("details").first
    for name, value in summary_rows(run):
        row = summary.locator("tr").filter(
            has=page.get_by_role("rowheader", name=name, exact=True)
        )
        assert " ".join(row.locator("td").inner_text().split()) == " ".join(value.split())
    typed = page.locator("details").nth(1).inner_text()
    for override in run.info["overrides"]:
        assert override.partition("=")[2] in typed
    expected = verdict(run, run.grokking_as_configured())
    assert page.locator("#verdict").inner_text() == expected


def test_all_settings_can_be_unfolded(visit, report):
    page = visit(report).page
    details = page.locator("details").last
    assert not details.locator("table").is_visible()
    details.locator("summary").press("Enter")
    assert details.get_by_text("trainer.max_epochs").is_visible()


def test_the_slider_shows_the_spectrum_of_its_epoch(visit, report, run):
    visited = visit(report)
    panel = visited.panel(SPECTRUM)
    epochs, values = run.metrics["gop/sample/epoch"], run.metrics[EIGENVALUES]
    slider, output = panel.locator("input[type=range]"), panel.locator("output")
    width = len(visited.chart(SPECTRUM, "u => u.data[0]"))
    for place in (0, 3, len(epochs) - 1):
        slider.fill(str(place))
        assert output.inner_text() == f"epoch {epochs[place]}"
        shown = visited.chart(SPECTRUM, "u => u.data[3]")
        same(shown, positive(values[place, :width]))
    same(visited.chart(SPECTRUM, "u => u.data[1]"), positive(values[0, :width]))
    same(visited.chart(SPECTRUM, "u => u.data[2]"), positive(values[-1, :width]))


def test_the_slider_is_worked_by_keyboard(visit, report, run):
    visited = visit(report)
    panel = visited.panel(SPECTRUM)
    epochs = run.metrics["gop/sample/epoch"]
    slider = panel.locator("input[type=range]")
    for key, place in (("Home", 0), ("ArrowRight", 1), ("End", len(epochs) - 1)):
        slider.press(key)
        assert panel.locator("output").inner_text() == f"epoch {epochs[place]}"
    assert slider.get_attribute("aria-valuetext") == f"epoch {epochs[-1]}"


def test_a_matrix_shows_the_slider_s_epoch(visit, report, run):
    visited = visit(report)
    panel = visited.panel("classes_matrices")
    confusion = run.metrics["classes/confusion"]
    before = panel.locator(".plot canvas").screenshot()
    panel.locator("input[type=range]").fill("0")
    assert (confusion[0] != confusion[-1]).any()
    assert panel.locator(".plot canvas").screenshot() != before


def test_another_metric_changes_axis_and_curves(visit, report, run):
    visited = visit(report)
    panel = visited.panel("gop_batch")
    assert visited.chart("gop_batch", "u => u.axes[1].label") == METRICS["trace"][0]
    panel.locator("select").select_option(label="effective rank")
    assert visited.chart("gop_batch", "u => u.axes[1].label") == METRICS["effective_rank"][0]
    assert not panel.get_by_label("log values").is_checked()
    shown = visited.chart("gop_batch", "u => u.data[1].filter(v => v != null)")
    same(shown, run.metrics["gop/batch/effective_rank"])


def test_check_boxes_change_the_scales(visit, report, run):
    visited = visit(report)
    panel = visited.panel("loss")
    distribution = "u => [u.scales.x.distr, u.scales.y.distr]"
    assert visited.chart("loss", distribution) == [3, 3]
    same(visited.chart("loss", "u => u.data[0]"), np.maximum(run.metrics["epoch"], FIRST))
    panel.get_by_label("log epochs").uncheck()
    assert visited.chart("loss", distribution) == [1, 3]
    same(visited.chart("loss", "u => u.data[0]"), run.metrics["epoch"])
    panel.get_by_label("log values").uncheck()
    assert visited.chart("loss", distribution) == [1, 1]


def test_every_panel_takes_every_choice_and_every_scale(visit, report):
    visited = visit(report)
    visited.all_panels()
    drawings = visited.page.evaluate(TRY_ALL)
    assert len(drawings) > 4 * len(visited.keys)
    assert [words for words, colours in drawings if colours < 3] == []


def test_dragging_zooms_and_the_button_shows_all_again(visit, report):
    visited = visit(report)
    panel = visited.panel("loss")
    whole = visited.scale("loss")
    drag(visited.page, at(panel, 0.3), at(panel, 0.6))
    low, high = visited.scale("loss")
    expected = [whole[0] * (whole[1] / whole[0]) ** share for share in (0.3, 0.6)]
    assert [low, high] == pytest.approx(expected, rel=0.05)
    panel.get_by_role("button", name="reset zoom").click()
    assert visited.scale("loss") == whole
    drag(visited.page, at(panel, 0.3), at(panel, 0.6))
    visited.page.mouse.dblclick(*at(panel, 0.5))
    assert visited.scale("loss") == whole


def test_a_zoom_to_epoch_0_goes_on_to_a_log_axis(visit, report):
    visited = visit(report)
    panel = visited.panel("loss")
    panel.get_by_label("log epochs").uncheck()
    drag(visited.page, at(panel, 0.5), at(panel, -0.1))
    panel.get_by_label("log epochs").check()
    low, high = visited.scale("loss")
    assert low == pytest.approx(FIRST, rel=0.5)
    assert 10 < high < 30
    assert visited.colours(panel.locator("canvas").first) > 2


def test_the_focused_plot_zooms_by_keyboard(visit, report):
    visited = visit(report)
    panel = visited.panel("loss")
    plot, whole = panel.locator(".plot"), visited.scale("loss")
    plot.press("+")
    low, high = visited.scale("loss")
    assert whole[0] < low < high < whole[1]
    plot.press("-")
    assert visited.scale("loss") == pytest.approx(whole)
    plot.press("+")
    plot.press("Home")
    assert visited.scale("loss") == whole


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("key", ["+", "-"])
def test_zooming_without_end_keeps_the_page_alive(visit, report, key, log):
    visited = visit(report)
    panel = visited.panel("loss")
    panel.get_by_label("log epochs").set_checked(log)
    for _ in range(60):
        panel.locator(".plot").press(key, timeout=5_000)
    low, high = visited.scale("loss")
    assert 0 < high - low < np.inf
    panel.locator(".plot").press("Home")
    assert visited.scale("loss") == (FIRST if log else 0, 40)


def test_a_zoom_by_keyboard_stays_when_the_scale_changes(visit, report):
    visited = visit(report)
    panel = visited.panel("loss")
    panel.locator(".plot").press("+")
    zoomed = visited.scale("loss")
    panel.get_by_label("log values").uncheck()
    assert visited.scale("loss") == pytest.approx(zoomed)


def hover_values(panel):
    """Name -> text of the legend."""
    rows = panel.locator(".u-legend .u-series").all()
    return {r.locator("th").inner_text(): r.locator("td").inner_text() for r in rows}


@pytest.mark.parametrize("epoch", [1, 7, 30])
def test_hovering_shows_the_run_s_own_values(visit, report, run, epoch):
    visited = visit(report)
    panel = visited.panel("loss")
    left = visited.chart("loss", f"u => u.valToPos({epoch}, 'x')")
    box = panel.locator(".u-over").bounding_box()
    visited.page.mouse.move(box["x"] + left, box["y"] + 50)
    shown = hover_values(panel)
    assert shown["epoch"] == str(epoch)
    row = run.metrics["epoch"].tolist().index(epoch)
    for split in ("train", "test"):
        value = run.metrics[f"{split}_loss"][row]
        assert float(shown[split]) == pytest.approx(value, rel=6e-4)  # four digits
        place = {"train": 1, "test": 2}[split]
        exact = visited.chart("loss", f"u => u.data[{place}][u.legend.idxs[{place}]]")
        assert np.float32(exact) == np.float32(value)


def test_arrows_move_the_cursor_of_the_focused_plot(visit, report):
    visited = visit(report)
    panel = visited.panel("loss")
    panel.locator(".plot").press("ArrowRight")
    first = float(hover_values(panel)["epoch"])
    for _ in range(40):
        panel.locator(".plot").press("ArrowRight")
    assert float(hover_values(panel)["epoch"]) > first


def test_hovering_over_a_heat_map_names_cell_and_value(visit, report, run):
    visited = visit(report)
    panel = visited.panel(SPECTRUM)
    canvas = panel.locator(".plot canvas").first
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] - 20, "y": box["height"] - 60})  # lower right
    words, _, value = panel.locator(".hover.text").inner_text().partition(": ")
    epochs, values = run.metrics["gop/sample/epoch"], run.metrics[EIGENVALUES]
    assert words == f"epoch {epochs[-1]}, rank 1"
    assert float(value) == pytest.approx(values[-1, 0], rel=6e-4)
    visited.page.mouse.move(0, 0)
    assert panel.locator(".hover.text").inner_text() == ""


def visible(visited, key="loss"):
    return visited.chart(key, "u => u.series.slice(1).map(s => s.show)")


@pytest.mark.parametrize("way", ["click", "Enter", " "])
def test_the_legend_hides_a_curve(visit, report, way):
    visited = visit(report)
    name = visited.panel("loss").locator(".u-legend th").nth(2)
    for expected in ([True, False], [True, True]):
        if way == "click":
            name.click()
        else:
            name.press(way)
        assert visible(visited) == expected


def test_a_hidden_curve_stays_hidden_when_scale_or_theme_change(visit, report):
    visited = visit(report)
    panel = visited.panel("loss")
    panel.locator(".u-legend th").nth(2).click()
    panel.get_by_label("log epochs").uncheck()
    assert visible(visited) == [True, False]
    visited.page.locator("nav button").click()
    assert visible(visited) == [True, False]


def test_csv_of_curves_holds_the_run_s_values(visit, report, run):
    visited = visit(report)
    panel = visited.panel("loss")
    download = downloaded(visited.page, panel.get_by_role("button", name="CSV"))
    assert download.suggested_filename == "loss.csv"
    rows = table(download)
    for split in ("train", "test"):
        own = [row for row in rows if row["series"] == split]
        assert [int(row["epoch"]) for row in own] == run.metrics["epoch"].tolist()
        same([float(row["value"]) for row in own], run.metrics[f"{split}_loss"])


def test_csv_of_spectrum_and_matrix_hold_the_run_s_values(visit, report, run):
    visited = visit(report)
    button = visited.panel(SPECTRUM).get_by_role("button", name="CSV")
    rows = table(downloaded(visited.page, button))
    values = run.metrics[EIGENVALUES]
    found = np.array([float(row["value"]) for row in rows]).reshape(len(values), -1)
    same(found, values[:, : found.shape[1]])
    button = visited.panel("classes_matrices").get_by_role("button", name="CSV")
    rows = table(downloaded(visited.page, button))
    confusion = run.metrics["classes/confusion"]
    same([float(row["value"]) for row in rows], confusion.ravel())
    assert {row["row"] for row in rows} == set(map(str, range(confusion.shape[1])))


def test_csv_holds_the_choice_that_is_shown(visit, report, run):
    visited = visit(report)
    panel = visited.panel("gop_batch")
    panel.locator("select").select_option(label="stable rank")
    rows = table(downloaded(visited.page, panel.get_by_role("button", name="CSV")))
    whole = [float(row["value"]) for row in rows if row["series"] == "whole"]
    same(whole, run.metrics["gop/batch/stable_rank"])


@pytest.mark.parametrize("key", ["gop_batch", SPECTRUM, "classes_matrices"])
def test_png_is_a_picture_with_title_and_plot(visit, report, key):
    visited = visit(report)
    panel = visited.panel(key)
    download = downloaded(visited.page, panel.get_by_role("button", name="PNG"))
    assert download.suggested_filename == f"{key}.png"
    picture = Image.open(download.path())
    assert picture.format == "PNG"
    width, height = picture.size
    assert width > 300 < height
    title = picture.crop((0, 0, width, 28)).convert("RGB")
    assert len(title.getcolors(100_000)) > 5  # letters, smoothed
    assert len(picture.convert("RGB").getcolors(1_000_000)) > 20


def background(page):
    return page.evaluate("() => getComputedStyle(document.body).backgroundColor")


def test_dark_mode_follows_the_system_and_the_button(visit, report):
    page = visit(report, color_scheme="dark").page
    root, button = page.locator("html"), page.locator("nav button")
    dark = background(page)
    assert root.get_attribute("data-theme") == "dark"
    button.click()
    assert button.inner_text() == "theme: light"
    assert root.get_attribute("data-theme") == "light"
    assert background(page) != dark
    button.click()
    assert button.inner_text() == "theme: dark"
    assert background(page) == dark
    button.click()
    page.emulate_media(color_scheme="light")
    page.locator("html[data-theme=light]").wait_for()


def test_plots_are_drawn_in_the_theme_s_colours(visit, report):
    visited = visit(report)
    visited.panel("loss")
    stroke = "u => u.series[1].stroke(u, 1)"
    light = visited.chart("loss", stroke)
    visited.page.emulate_media(color_scheme="dark")
    visited.page.locator("html[data-theme=dark]").wait_for()
    assert visited.chart("loss", stroke) != light


def test_a_phone_needs_no_horizontal_scrolling(visit, report):
    visited = visit(report, viewport={"width": 390, "height": 844}, has_touch=True)
    visited.page.locator("details").evaluate_all("all => all.forEach(d => { d.open = true; })")
    visited.all_panels()
    width = visited.page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= 390, visited.page.evaluate(TOO_WIDE)


def test_a_narrower_window_draws_narrower_plots(visit, report):
    visited = visit(report)
    panel = visited.panel("loss")
    visited.page.set_viewport_size({"width": 500, "height": 800})
    visited.page.wait_for_function("() => chartOf('loss').width < 480")
    assert panel.locator("canvas").first.bounding_box()["width"] < 480


def test_printing_draws_every_panel(visit, report):
    visited = visit(report)
    assert visited.page.evaluate(MISSING) > 0
    printed = visited.page.pdf(print_background=True)
    assert printed.startswith(b"%PDF-")
    assert visited.page.evaluate(MISSING) == 0


def test_headings_link_to_their_sections(visit, report, run):
    page = visit(report).page
    sections = list(dict.fromkeys(panel.section for panel in panels(run)))
    assert page.locator("nav a").all_inner_texts() == sections
    for name in sections:
        page.locator("nav a", has_text=name).click()
        assert page.get_by_role("heading", name=name, exact=True).is_visible()


def test_captions_stand_below_their_panels(visit, report, run):
    visited = visit(report)
    for panel in panels(run):
        assert isinstance(panel.choices[0], Lines) or panel.caption
        caption = visited.page.locator(f'[data-key="{panel.key}"] .caption')
        assert caption.inner_text() == panel.caption
