"""Many tiny runs as Slurm jobs of their own, and packed into few.

python scripts/benchmark/packing.py [--runs 50] [--packs 2]

It needs Slurm's packages (Debian: slurmctld slurmd slurm-client munge) and starts a Slurm of one
node of its own; on a cluster the time that jobs wait in the queue comes on top. Some minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from timing import table, write_section

from grokscope import runs

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "tests" / "slurm" / "slurm-local"
RUN = (
    *("experiment=quickstart", "data.modulus=13", "trainer.max_epochs=100", "threads=1"),
    "report=false",
)


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """A Slurm with as many processors as this machine has."""
    folder.parent.chmod(0o755)  # for munge's socket
    cores = len(os.sched_getaffinity(0))
    own = {"SLURM_LOCAL_DIR": str(folder), "SLURM_LOCAL_CPUS": str(cores)}
    environment = os.environ | own | {"SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run([LOCAL, "start"], env=environment, check=True)
    try:
        yield environment
    finally:
        subprocess.run([LOCAL, "stop"], env=environment, check=True)


def seconds(folder: Path, count: int, environment: dict[str, str], *overrides: str) -> float:
    """From the command to its end; all runs must be finished then."""
    command = [sys.executable, str(ROOT / "src" / "train.py"), "--multirun", *RUN]
    command += ["hydra/launcher=slurm_test", f"hydra.sweep.dir={folder}"]
    command += [f"seed=range({count})", *overrides]
    begun = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    taken = time.perf_counter() - begun
    finished = sum(run.status == "finished" for run in runs(folder))
    assert finished == count, f"{finished} of {count} runs finished"
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--packs", type=int, default=2)
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    per_job = -(-args.runs // args.packs)
    side_by_side = (f"hydra.launcher.runs_per_job={args.runs}", "hydra.launcher.cpus_per_task=2")
    ways = {
        f"{args.runs} jobs of one run": (),
        f"{args.packs} jobs of {per_job} runs": (f"hydra.launcher.runs_per_job={per_job}",),
        f"1 job of {args.runs} runs, 2 at once": (*side_by_side, "hydra.launcher.runs_at_once=2"),
    }
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as place,
        slurm(Path(place) / "slurm") as environment,
    ):
        taken = {
            name: seconds(Path(place) / str(i), args.runs, environment, *overrides)
            for i, (name, overrides) in enumerate(ways.items())
        }
    single = next(iter(taken.values()))
    rows = [[name, f"{s:.0f}", f"{single / s:.1f}"] for name, s in taken.items()]
    text = (
        f"{args.runs} runs of {' '.join(RUN)}, from the command to its end, once each, on a Slurm "
        f"of one node with {cores} processors, whose queue is empty. A job of one run spends most "
        "of its time on starting Python and loading torch.\n\n"
        + table(["Slurm jobs", "s", "times faster"], rows)
    )
    write_section("packing", "Tiny runs packed into Slurm jobs", text)
    print(text)


if __name__ == "__main__":
    main()
