"""Tables that go into docs/reliability.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "benchmark"))

from timing import table, verdict, write_section  # noqa: E402

__all__ = ["PAGE", "arguments", "report", "table", "verdict"]
PAGE = ROOT / "docs" / "reliability.md"
HEADING = """# Reliability

What the store promises ([running.md](running.md), [files.md](files.md)), tried with real
processes. Each section is written by a script of `scripts/reliability/`, which `pytest` runs in
a small form.
"""


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every script here takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small, for a test")
    parser.add_argument("--page", type=Path, help="default: docs/reliability.md, none if quick")
    parser.add_argument("--dir", type=Path, help="where the runs go while it works")
    return parser


def report(options: argparse.Namespace, name: str, title: str, text: str) -> None:
    """Print a section, and write it to its page; a quick one goes nowhere unless asked."""
    page = options.page or (None if options.quick else PAGE)
    if page is None:
        print(text)
        return
    write_section(name, title, text, page, HEADING)
