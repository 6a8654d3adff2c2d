"""Write the parts of README.md that come from results: verdicts, ratios, pictures.

python scripts/readme.py [--run FOLDER]

Verdicts are counted in docs/replications.md, ratios read from docs/benchmarks.md. With a run its
pictures are drawn anew too: curves and spectra by matplotlib, the page by a headless Chromium.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from pathlib import Path

from grokscope import Run
from grokscope.analysis.figures import save_panels
from grokscope.analysis.panels import panels
from grokscope.analysis.report import write_report

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
EXPERIMENTS = (
    *("nanda", "doshi", "modulo_addition", "levi", "omnigrok", "power", "thilak", "liu", "wang"),
    *("humayun", "minegishi", "mallinar", "kumar", "gromov", "golechha"),
)
HEADLINES = {  # what is said, and where its number stands
    "for the Gram matrix of the p = 113 transformer's per-sample gradients `torch.func` takes {} "
    "times as long": r"\| ([\d.]+) times ours \(>= 25: holds\); memory",
    "and for the same {} times the memory": r"memory ([\d.]+) times ours",
    "a published loop that looks at both losses at every epoch takes {} times as long": (
        r"published / ours = ([\d.]+)"
    ),
    "the usual code for manifold capacity takes {} times as long": (
        r"with removal, P 47, M 200, N 512 \| 173 \| [^|]+\| ([\d.]+) \|"
    ),
    "CKA of all pairs of 240 representations, pair by pair, {} times": (
        r"pair by pair, estimated from 60 pairs \| [\d.]+ \| ([\d.]+) \|"
    ),
    "every measure at once adds {} % to a run of `nanda`": (
        r"`experiment=nanda measures=all`: ([\d.]+) %"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", help="a finished run whose pictures the README shows")
    run = parser.parse_args().run
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for name, content in (("verdicts", verdicts()), ("headlines", headlines())):
        text = replaced(text, name, content)
    path.write_text(text, encoding="utf-8")
    if run:
        draw(Run.open(run))


def replaced(text: str, name: str, content: str) -> str:
    """The text with another content between a section's marks."""
    marks = f"<!-- {name} -->", f"<!-- /{name} -->"
    begin, end = (text.index(mark) for mark in marks)
    return f"{text[: begin + len(marks[0])]}\n{content}\n{text[end:]}"


def verdicts() -> str:
    """Claims by experiment family, counted over its set-ups."""
    page = (ROOT / "docs" / "replications.md").read_text(encoding="utf-8")
    summary = page.partition("<!-- summary -->")[2].partition("<!-- /summary -->")[0]
    counts = {name: [0, 0, 0] for name in EXPERIMENTS}
    for line in re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \|$", summary, re.MULTILINE):
        setup, *numbers = line
        family = max((n for n in EXPERIMENTS if setup.startswith(n)), key=len, default=None)
        if family is not None:
            counts[family] = [a + int(b) for a, b in zip(counts[family], numbers, strict=True)]
    rows = [f"| `{name}` | {' | '.join(map(str, n))} |" for name, n in counts.items() if any(n)]
    head = (
        "| experiments of | claims reproduced | differ | need a GPU |\n| --- | --- | --- | --- |"
    )
    return "\n".join([head, *rows])


def headlines() -> str:
    """A list of ratios, each found in the benchmarks."""
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    found = []
    for words, pattern in HEADLINES.items():
        match = re.search(pattern, page)
        if match is None:
            raise SystemExit(f"docs/benchmarks.md has no {pattern!r}: run its benchmark first.")
        found.append(f"- {words.format(match[1])}")
    return "\n".join(found)


def draw(run: Run) -> None:
    """Curves, a spectrum and the page of a run, as small PNG files."""
    IMAGES.mkdir(exist_ok=True)
    wanted = [p for p in panels(run) if p.key in ("accuracy", "spectrum_weight")]
    with tempfile.TemporaryDirectory() as folder:
        save_panels(wanted, folder, ["png"], times=run.grokking_as_configured())
        for panel in wanted:
            shrink(Path(folder) / f"{panel.key}.png", IMAGES / f"{panel.key}.png")
        page = write_report(run, Path(folder) / "report.html")
        shot = Path(folder) / "report.png"
        photograph(page, shot)
        shrink(shot, IMAGES / "report.png")


def photograph(page: Path, shot: Path) -> None:
    """The first screens of a page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport={"width": 1300, "height": 1090})
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-ready=true]")
        tab.locator("#section-gradient-outer-products").scroll_into_view_if_needed()
        tab.wait_for_timeout(500)
        tab.evaluate("document.querySelector('#section-training').scrollIntoView()")
        tab.wait_for_timeout(500)
        tab.screenshot(path=shot)
        browser.close()


def shrink(source: Path, target: Path) -> None:
    """A diagram of at most 1,000 pixels across in 256 colours."""
    from PIL import Image

    image = Image.open(source).convert("RGB")
    image.thumbnail((1000, 2000))
    image.quantize(256).save(target, optimize=True)


if __name__ == "__main__":
    main()
