"""Run the published set-ups at laptop scale and compare with the published numbers.

python scripts/replicate.py [NAME ...] [--list] [--seeds 0 1 2] [--jobs 2]

Without a name all that take minutes run; docs/replications.md gets a section for each. Runs lie in
logs/replications and are used again; one that was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from importlib import import_module
from pathlib import Path

from grokscope import Run

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "scripts" / "benchmark")]

from replications.claims import NeedsGPU, Replication  # noqa: E402
from timing import table, write_section  # noqa: E402

PAGE = ROOT / "docs" / "replications.md"
RUNS = ROOT / "logs" / "replications"
HEADER = [
    "claim",
    "source",
    "published",
    "ours: median (range over seeds)",
    "agrees if",
    "verdict",
]
VERDICTS = ("reproduced |", "differs: ", "needs a GPU: ")
HEADING = """# Replications

What the papers claim, and what `scripts/replicate.py` found with this code; it writes every
section. Ours is the median over the seeds, and their range. A claim that differs says why, as far
as we know. Tolerances were set before these runs, though some after shorter ones.

<!-- summary -->
<!-- /summary -->
"""


class TrainingError(Exception):
    """A run of a replication ended with an error."""


def known() -> dict[str, Replication | NeedsGPU]:
    """Every replication by its name."""
    files = sorted((ROOT / "scripts" / "replications").glob("[!_]*.py"))
    modules = (import_module(f"replications.{path.stem}") for path in files)
    found = (each for module in modules for each in getattr(module, "REPLICATIONS", ()))
    return {each.name: each for each in found}


def trained(what: Replication, seed: int) -> dict[str, Run]:
    """The finished runs of one seed, by their names."""
    folders = {name: RUNS / what.name / name / f"seed_{seed}" for name in what.runs}
    return {
        name: finished((*filled(overrides, folders), f"seed={seed}"), folders[name])
        for name, overrides in what.runs.items()
    }


def filled(overrides: tuple[str, ...], folders: dict[str, Path]) -> tuple[str, ...]:
    """``{name}`` in an override is the folder of that run."""
    names = {f"{{{name}}}": str(folder) for name, folder in folders.items()}
    return tuple(
        reduce(lambda text, name: text.replace(name, names[name]), names, override)
        for override in overrides
    )


def finished(overrides: tuple[str, ...], folder: Path) -> Run:
    """The finished run in a folder; trained, or brought to its end, if need be.

    Raises:
        TrainingError: With the command.
    """
    if not (folder / "run.json").exists() or Run.open(folder).status != "finished":
        goes_on = any(folder.glob("checkpoints/*.ckpt"))
        where = f"run={folder}" if goes_on else f"hydra.run.dir={folder}"
        command = [sys.executable, str(ROOT / "src" / "train.py"), *overrides, where]
        print(" ".join(command), file=sys.stderr, flush=True)
        if code := subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            raise TrainingError(f"exit code {code}: {' '.join(command)}")
    return Run.open(folder)


def section(what: Replication | NeedsGPU, runs: list[dict[str, Run]]) -> str:
    """Text of one section."""
    if isinstance(what, NeedsGPU):
        row = [what.says, what.source, what.published, "", "", "needs a GPU: see below"]
        return "\n\n".join([table(HEADER, [row]), _console(what.commands)])
    first = {name: Path("logs/replications") / what.name / name / "seed_0" for name in what.runs}
    runs_of_seed_0 = [filled(overrides, first) for overrides in what.runs.values()]
    commands = [f"python src/train.py {' '.join(map(_quoted, o))}" for o in runs_of_seed_0]
    parts = [table(HEADER, [claim.row(runs) for claim in what.claims])]
    return "\n\n".join([*parts, _console(commands)] if commands else parts)


def replicate(
    chosen: list[Replication | NeedsGPU], seeds: list[int] | None, jobs: int, page: Path
) -> list[str]:
    """Train what is missing, so many seeds side by side, and write the sections; what failed."""
    failed = []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {
            what.name: [pool.submit(trained, what, seed) for seed in seeds or what.seeds]
            for what in chosen
            if isinstance(what, Replication)
        }
        for what in chosen:
            try:
                runs = [future.result() for future in waiting.get(what.name, [])]
                write_section(what.name, what.name, section(what, runs), page, HEADING)
                write_section("summary", "Summary", summary(page), page)
            except TrainingError as error:
                failed.append(str(error))
    return failed


def summary(page: Path) -> str:
    """How many claims of each section hold."""
    sections = re.findall(r"<!-- (\w+) -->(.*?)<!-- /\1 -->", page.read_text(), re.DOTALL)
    counts = {name: [text.count(f"| {v}") for v in VERDICTS] for name, text in sections}
    del counts["summary"]
    total = [sum(column) for column in zip(*counts.values(), strict=True)]
    rows = [[name, *map(str, count)] for name, count in (*counts.items(), ("all", total))]
    return table(["set-up", "reproduced", "differs", "needs a GPU"], rows)


def _console(commands: list[str] | tuple[str, ...]) -> str:
    return "\n".join(["```console", *(f"$ {command}" for command in commands), "```"])


def _quoted(override: str) -> str:
    return f"'{override}'" if " " in override else override


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="default: all that take minutes")
    parser.add_argument("--list", action="store_true", help="name them and end")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: each one's own")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    every = known()
    if unknown := [name for name in options.names if name not in every]:
        parser.error(f"names must be of {', '.join(every)}, got {unknown[0]!r}")
    if options.list:
        print("\n".join(map(_line, every.values())))
        return
    names = options.names or [name for name, what in every.items() if _takes_minutes(what)]
    chosen = [every[name] for name in names]
    if options.jobs > 1:  # OpenMP threads of several processes wait for each other
        os.environ["OMP_NUM_THREADS"] = "1"
    if failed := replicate(chosen, options.seeds, options.jobs, options.page):
        sys.exit("\n".join(failed))


def _takes_minutes(what: Replication | NeedsGPU) -> bool:
    return isinstance(what, NeedsGPU) or not what.slow


def _line(what: Replication | NeedsGPU) -> str:
    if isinstance(what, NeedsGPU):
        return f"{what.name:24} needs a GPU"
    return f"{what.name:24} {what.minutes:g} min{', only if named' if what.slow else ''}"


if __name__ == "__main__":
    main()
