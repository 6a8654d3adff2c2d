"""What every measure together adds to a run of the published length.

python scripts/benchmark/overhead.py [--quick]

A short run gives the seconds a row of each measure and the seconds an epoch; the default schedules
give how many rows a run of the published length has. Both are put together.
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
CIRCUITS = "{_target_:grokscope.callbacks.families.circuits.CircuitProgress,modulus:113,"
EXPERIMENTS = {
    "nanda": [f"+measures.progress.circuits={CIRCUITS}schedule:log 10}}"],
    "omnigrok": ["data.train_images=t10k"],
}
CHOICE = ["measures=all"]
NOTE = (
    "Seconds a row are the mean over a few rows of a run of 200 epochs; the first of `capacity` "
    "and `hessian` has no earlier solution to start from, and counts too much here."
)
EVERY_ROW = {"gradients": "batch", "rows": "batch"}  # parts of each row of the batch kind


@dataclass(frozen=True)
class Cost:
    """Of one measure: seconds a row, and rows in a run of the published length."""

    name: str
    seconds: float
    rows: int

    @property
    def total(self) -> float:
        return self.seconds * self.rows


def schedules(config: DictConfig) -> dict[str, str]:
    """Measure -> its schedule by default."""
    kinds = {name: str(config.schedule[name]) for name in ("metrics", *config.measures.kinds)}
    progress = config.measures.progress
    return kinds | {str(name): str(progress[name].schedule) for name in progress}


def short_run(experiment: str, names: list[str], progress: list[str], epochs: int) -> Run:
    """Train a little, each measure a few times."""
    sparse = f"every {epochs // 4}"
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


def costs(experiment: str, epochs: int) -> tuple[list[Cost], float]:
    """Each measure, and seconds of the run of the published length without them."""
    config = compose("train", [f"experiment={experiment}", *CHOICE, *EXPERIMENTS[experiment]])
    length, when = int(config.trainer.max_epochs), schedules(config)
    run = short_run(experiment, list(when), list(config.measures.progress), epochs)
    taken: dict[str, float] = run.info["seconds_by_measure"]
    found = []
    for name, seconds in taken.items():
        text = when[EVERY_ROW.get(name, name)]
        rows = len(parse_schedule(name, text).epochs(length))
        found.append(Cost(name, seconds / rows_of(run, name), rows))
    bare = (float(run.info["wall_seconds"]) - sum(taken.values())) / epochs
    return sorted(found, key=lambda cost: -cost.total), bare * length


def report(experiment: str, epochs: int) -> tuple[str, list[list[str]]]:
    """Verdict and rows of the table."""
    found, bare = costs(experiment, epochs)
    rows = [
        [f"`{c.name}`", f"{1e3 * c.seconds:.3g}", f"{c.rows:,}", f"{100 * c.total / bare:.2f} %"]
        for c in found
    ]
    share = 100 * sum(c.total for c in found) / bare
    words = f"`experiment={experiment} measures=all`: {share:.1f} % of {bare:,.0f} s"
    return f"{words} (percent {verdict(share, LIMIT)}).", rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer epochs, nothing written")
    quick = parser.parse_args().quick
    register_resolvers()
    parts: list[Any] = []
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for experiment in EXPERIMENTS:
            words, rows = report(experiment, 20 if quick else 200)
            header = ["part", "ms a row", "rows at published length", "adds"]
            parts += [words, table(header, rows)]
    text = "\n\n".join([*parts, NOTE])
    if quick:
        print(text)
    else:
        write_section("overhead", "Every measure at once, at the published length", text)


if __name__ == "__main__":
    main()
