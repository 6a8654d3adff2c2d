"""Manifold capacity: cold calls, series of nets, and the quadratic program beside cvxopt's.

python scripts/benchmark/capacity.py [--quick]

All of it runs on one core, in the environment of the other libraries, which is made at the first
call (peers/environment.py).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from peers import environment

TITLE = "Mean-field manifold capacity beside its reference code, on one core"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, prints only, for a test")
    parser.add_argument("--environment", type=Path, default=environment.FOLDER, metavar="FOLDER")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy is loaded, which is later
    environment.enter(options.environment)
    measure_and_write(options.quick)


def measure_and_write(quick: bool) -> None:
    from capacity_timings import report
    from timing import write_section  # only now: we are in the other libraries' environment

    text = report(quick)
    if quick:
        print(f"{TITLE} (tiny: the limits mean nothing)\n\n{text}\n")
    else:
        write_section("capacity", TITLE, text)


if __name__ == "__main__":
    main()
