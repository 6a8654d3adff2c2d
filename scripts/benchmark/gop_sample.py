"""The exact `sample` GOP beside training steps, torch.func and other libraries.

python scripts/benchmark/gop_sample.py [--quick] [--only transformer,mlp,growth,gpt2]

All of it runs in one environment of its own, which holds the other libraries and is made at the
first call (peers/environment.py).
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

from peers import environment

TITLES = {
    "transformer": "The `sample` gradient outer product of the p = 113 transformer",
    "mlp": "The `sample` gradient outer product beside other libraries",
    "growth": "Growth of the `sample` gradient outer product's time",
    "gpt2": "The `sample` gradient outer product of a net of GPT-2's shape",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, prints only, for a test")
    parser.add_argument("--only", default=",".join(TITLES), help="parts, separated by commas")
    parser.add_argument("--environment", type=Path, default=environment.FOLDER, metavar="FOLDER")
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(TITLES):
        parser.error(f"--only must name some of {', '.join(TITLES)}; got {', '.join(unknown)}.")
    environment.enter(options.environment)
    measure_and_write(parts, options.quick)


def measure_and_write(parts: list[str], quick: bool) -> None:
    from peers import timings
    from timing import write_section  # only now: we are in the other libraries' environment

    from grokscope.models.memory import keep_freed_memory

    warnings.filterwarnings("ignore")
    keep_freed_memory()
    for part in parts:
        text = getattr(timings, part)(quick)
        if quick:
            print(f"{TITLES[part]} (tiny: the limits mean nothing)\n\n{text}\n")
        else:
            write_section(f"gop_sample {part}", TITLES[part], text)


if __name__ == "__main__":
    main()
