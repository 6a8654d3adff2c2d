"""axe-core finds nothing serious, in any theme and on a phone; what it cannot see is below."""

from __future__ import annotations

import itertools
import re

import pytest
from axe_findings import serious

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": PHONE | {"color_scheme": "light"},
}
THEMES = ("light", "dark")
CURVES = ("train", "test", "other", "whole", "p0", "p1", "p2", "p3", "p4")
GRAPHICS = 3.0  # WCAG 2.1, 1.4.11: contrast of what a picture consists of
APART = 8.0  # difference of two curves' colours, CIE 1976, with any colour vision
# Machado, Oliveira, Fernandes 2009, severity 1: what protan, deutan and tritan eyes see.
VISION = {
    "protan": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "deutan": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    "tritan": ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
}
XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
WHITE = (0.9505, 1.0, 1.089)


@pytest.fixture(scope="module")
def axe():
    return pytest.importorskip("axe_playwright_python.sync_playwright").Axe()


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_serious(visit, report, axe, look):
    visited = visit(report, **LOOKS[look])
    visited.page.locator("details").evaluate_all("all => all.forEach(d => { d.open = true; })")
    visited.all_panels()
    found = serious(axe.run(visited.page))
    assert not found, "\n".join(found)


def linear(code):
    """Linear red, green and blue of ``#rrggbb``."""
    assert re.fullmatch(r"#[0-9a-f]{6}", code)
    shares = (int(code[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]


def times(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def luminance(code):
    return times(XYZ, linear(code))[1]


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def lab(rgb):
    ratios = (max(v, 0) / w for v, w in zip(times(XYZ, rgb), WHITE, strict=True))
    x, y, z = (r ** (1 / 3) if r > 0.008856 else 7.787 * r + 16 / 116 for r in ratios)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def difference(a, b, vision=None):
    """CIE 1976 distance of two colours as an eye sees them."""
    seen = (linear(c) if vision is None else times(VISION[vision], linear(c)) for c in (a, b))
    first, second = map(lab, seen)
    return sum((u - v) ** 2 for u, v in zip(first, second, strict=True)) ** 0.5


def colours(visited):
    names = [*CURVES, "panel", "soft", "accent"]
    style = "n => getComputedStyle(document.documentElement).getPropertyValue(`--${n}`).trim()"
    return {name: visited.page.evaluate(style, name) for name in names}


def test_the_difference_of_colours_is_that_of_the_definition():
    assert difference("#000000", "#ffffff") == pytest.approx(100, abs=0.1)
    assert difference("#ff0000", "#00ff00") == pytest.approx(170.6, abs=0.5)
    assert contrast("#ffffff", "#767676") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", THEMES)
def test_curves_stand_out_from_the_background(visit, report, theme):
    found = colours(visit(report, color_scheme=theme))
    ratios = {name: contrast(found[name], found["panel"]) for name in CURVES}
    assert {n: r for n, r in ratios.items() if r < GRAPHICS} == {}
    assert contrast(found["soft"], found["panel"]) > 4.5  # words of axes


@pytest.mark.parametrize("vision", [None, *VISION])
@pytest.mark.parametrize("theme", THEMES)
def test_colours_of_one_picture_are_told_apart_by_every_eye(visit, report, theme, vision):
    found = colours(visit(report, color_scheme=theme))
    parts = list(itertools.combinations(("p0", "p1", "p2", "p3", "p4"), 2))
    pairs = [("train", "test"), ("train", "other"), ("test", "other"), *parts]
    apart = {pair: difference(*(found[name] for name in pair), vision) for pair in pairs}
    assert {pair: d for pair, d in apart.items() if d < APART} == {}


def test_more_parts_than_colours_differ_by_dashes(visit, report):
    visited = visit(report)
    visited.panel("weights").locator("select").select_option(label="norms")
    look = "u => u.series.slice(1).map(s => [s.stroke(u, 1), s.dash ?? []].join(' '))"
    looks = visited.chart("weights", look)
    assert len(looks) == len(set(looks)) > 5


def test_every_control_of_a_panel_is_reached_by_the_tab_key(visit, report):
    visited = visit(report)
    panel = visited.panel("spectrum_sample")
    panel.locator("select").focus()
    where = "() => document.activeElement.textContent || document.activeElement.type"
    reached = []
    for _ in range(11):
        visited.page.keyboard.press("Tab")
        assert visited.page.evaluate("() => document.activeElement.matches(':focus-visible')")
        reached.append(visited.page.evaluate(where))
    assert reached.count("checkbox") == 2
    assert {"reset zoom", "PNG", "CSV", "range"} <= set(reached)
    assert panel.locator(".plot").get_attribute("tabindex") == "0"


def test_every_control_has_a_name(visit, report):
    visited = visit(report)
    visited.all_panels()
    for role in ("checkbox", "combobox", "slider", "button", "link"):
        controls = visited.page.get_by_role(role)
        assert controls.count() > 0
        named = visited.page.get_by_role(role, name=re.compile(r"\w"))
        assert named.count() == controls.count(), role
