"""A sweep as one table: python scripts/slurm/collect.py SWEEP_FOLDER [--output FILE].

Writes sweep.csv into the sweep's folder, or that file: a row for each run with its settings, when
it memorised and generalised, its last losses and accuracies, and its folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grokscope.analysis.sweeps import collect, counts, queued, states, write_csv
from grokscope.analysis.sweeps.collection import NAME
from grokscope.store.sweep import read_sweep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", metavar="SWEEP_FOLDER", type=Path)
    parser.add_argument("--output", metavar="FILE", type=Path, help="instead of sweep.csv there")
    args = parser.parse_args()
    try:
        sweep = read_sweep(args.sweep.absolute())
        found = states(sweep, queued(job.id for job in sweep.jobs))
        path = write_csv(collect(found), args.output or sweep.folder / NAME)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{counts(found)}; {path}")


if __name__ == "__main__":
    main()
