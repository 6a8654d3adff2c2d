"""How far a sweep is: python scripts/slurm/status.py SWEEP_FOLDER [--watch SECONDS].

A sweep is a folder with sweep.json, such as logs/multiruns/nanda/2026-01-01_12-00-00. Nothing is
changed there, and it works without Slurm too. Ctrl-C ends --watch.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from grokscope.analysis.sweeps import forecast_text, queued, state_table, states, status_text
from grokscope.store.sweep import read_sweep

WIDTH = 160  # of a table in a file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", metavar="SWEEP_FOLDER", type=Path)
    parser.add_argument("--watch", metavar="SECONDS", type=seconds, help="show it again and again")
    args = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    try:
        show(console, args.sweep)
        with suppress(KeyboardInterrupt):
            while args.watch:
                time.sleep(args.watch)
                console.clear()
                show(console, args.sweep)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def seconds(text: str) -> float:
    if not 0 < (number := float(text)) <= 86400:
        raise argparse.ArgumentTypeError(f"must be in (0, 86400], got {text}")
    return number


def show(console: Console, folder: Path) -> None:
    sweep = read_sweep(folder)
    found = states(sweep, queued(job.id for job in sweep.jobs))
    table = state_table(folder.name, found, ("reason / time left", status_text))
    console.print(table)
    console.print(forecast_text(found), markup=False, highlight=False)


if __name__ == "__main__":
    main()
