"""What every measure together adds to a run of the published length.

python scripts/benchmark/overhead.py [--quick]

Two short runs give the seconds a row of each measure and the seconds an epoch; the default
schedules give how many rows a run of the published length has. Both are put together.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from timing import table, verdict, write_section

from grokscope import Run
from grokscope.app.cli import register_resolvers
from grokscope.callbacks.schedule import parse_schedule

ROOT = Path(__file__).parents[2]
LIMIT = 15.0  # percent
SPACING = 50  # epochs between rows of a measure
LENGTHS = 2, 8  # of the two runs, in spacings
CIRCUITS = "{_target_:grokscope.callbacks.families.circuits.CircuitProgress,modulus:113,"
EXPERIMENTS = {
    "nanda": [f"+measures.progress.circuits={CIRCUITS}schedule:log 10}}"],
    "omnigrok": ["data.train_images=t10k"],
}
CHOICE = ["measures=all"]
NOTE = (
    "Two short runs of different length give the seconds of a further row, and of a further epoch "
    "without any measure; the rows of the shorter one count as they were."
)
EVERY_ROW = {"gradients": "batch", "rows": "batch"}  # parts of each row of the batch kind


@dataclass(frozen=True)
class Cost:
    """Of one measure: seconds of a further row, rows and seconds at the published length."""

    name: str
    seconds: float
    rows: int
    total: float


def schedules(config: DictConfig) -> dict[str, str]:
    """Measure -> its schedule by default."""
    kinds = {name: str(config.schedule[name]) for name in ("metrics", *config.measures.kinds)}
    progress = config.measures.progress
    return kinds | {str(name): str(progress[name].schedule) for name in progress}


def short_run(
    experiment: str, names: list[str], progress: list[str], epochs: int, sparse: str
) -> Run:
    """Train a little, each measure a few times."""
    keys = [
        f"schedule.{n}" if n not in progress else f"measures.progress.{n}.schedule" for n in names
    ]
    dense = {"schedule.metrics", "schedule.batch", "schedule.trajectory"}
    settings = [f"{key}={'every 1' if key in dense else sparse}" for key in keys]
    folder = tempfile.mkdtemp()
    command = [sys.executable, str(ROOT / "src/train.py"), f"experiment={experiment}", *CHOICE]
    command += [*EXPERIMENTS[experiment], *settings, f"trainer.max_epochs={epochs}"]
    command += [f"hydra.run.dir={folder}", "schedule.factor=at 0", "schedule.checkpoint=at 0"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Run.open(folder)


def rows_of(run: Run, name: str) -> int:
    """Rows that a measure has in a run."""
    kind = EVERY_ROW.get(name, name)
    group = next(
        (f"{p}epoch" for p in (f"gop/{kind}/", f"{kind}/") if f"{p}epoch" in run.metrics), "epoch"
    )
    return len(run.metrics[group])


def costs(experiment: str, spacing: int) -> tuple[list[Cost], float]:
    """Each measure, and seconds of the run of the published length without them."""
    config = compose("train", [f"experiment={experiment}", *CHOICE, *EXPERIMENTS[experiment]])
    length, when = int(config.trainer.max_epochs), schedules(config)
    names = list(when), list(config.measures.progress)
    short, long = (short_run(experiment, *names, n * spacing, f"every {spacing}") for n in LENGTHS)
    found = []
    for name in long.info["seconds_by_measure"]:
        text = when[EVERY_ROW.get(name, name)]
        rows = len(parse_schedule(name, text).epochs(length))
        found.append(cost(name, short, long, rows))
    seconds = [float(r.info["wall_seconds"]) - _measuring(r) for r in (short, long)]
    bare = (seconds[1] - seconds[0]) / (spacing * (LENGTHS[1] - LENGTHS[0]))
    return sorted(found, key=lambda cost: -cost.total), bare * length


def cost(name: str, short: Run, long: Run, rows: int) -> Cost:
    """Of a measure that has so many rows."""
    seconds, counts = (
        [f(run) for run in (short, long)]
        for f in (lambda run: run.info["seconds_by_measure"][name], lambda run: rows_of(run, name))
    )
    further = (seconds[1] - seconds[0]) / (counts[1] - counts[0])
    return Cost(name, further, rows, seconds[0] + further * (rows - counts[0]))


def _measuring(run: Run) -> float:
    return float(sum(run.info["seconds_by_measure"].values()))


def report(experiment: str, spacing: int) -> tuple[str, list[list[str]]]:
    """Verdict and rows of the table."""
    found, bare = costs(experiment, spacing)
    rows = [
        [f"`{c.name}`", f"{1e3 * c.seconds:.3g}", f"{c.rows:,}", f"{100 * c.total / bare:.2f} %"]
        for c in found
    ]
    share = 100 * sum(c.total for c in found) / bare
    losses = 100 * sum(c.total for c in found if c.name == "metrics") / bare
    words = (
        f"`experiment={experiment} measures=all`: {share:.1f} % of {bare:,.0f} s (percent "
        f"{verdict(share, LIMIT)}); {losses:.1f} of it are losses and accuracies, which a run "
        "with `measures=none` has too."
    )
    return words, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer epochs, nothing written")
    quick = parser.parse_args().quick
    register_resolvers()
    parts: list[Any] = []
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for experiment in EXPERIMENTS:
            words, rows = report(experiment, 5 if quick else SPACING)
            header = ["part", "ms a row", "rows at published length", "adds"]
            parts += [words, table(header, rows)]
    text = "\n\n".join([*parts, NOTE])
    if quick:
        print(text)
    else:
        write_section("overhead", "Every measure at once, at the published length", text)


if __name__ == "__main__":
    main()
