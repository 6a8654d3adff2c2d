"""``python src/report.py``: pages and figures of runs."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

from omegaconf import DictConfig, ListConfig

from grokscope.analysis.comparison import Snapshot, run_groups
from grokscope.analysis.figures import save_panels
from grokscope.analysis.report import COMPARISON, write_comparison, write_report
from grokscope.analysis.report.comparison import comparison_panels
from grokscope.analysis.report.live import LiveServer
from grokscope.analysis.run import Run, printable, runs
from grokscope.app.errors import UserError
from grokscope.app.folders import FIGURES
from grokscope.store.nofollow import subfolder
from grokscope.validation import require_bool, require_choice, require_int

FORMATS = ("pdf", "png")
MANY = 20  # runs: more take some time


def report(config: DictConfig) -> None:
    """Write a page, or serve it."""
    if (config.run is None) == (config.runs is None):
        raise UserError(
            "one of run and runs must be given: python src/report.py run=logs/runs/..., or "
            "runs='logs/multiruns/...'."
        )
    try:
        if require_bool("live", config.live):
            _serve(_run(config), str(config.host), require_int("port", config.port, minimum=0))
        elif config.runs is not None:
            _compare(config)
        else:
            _report_one(config)
    except (ValueError, OSError) as error:
        output = config.output if isinstance(error, OSError) else None
        where = "" if output is None else f"output={output}: "
        raise UserError(printable(f"{where}{error}")) from error


def _report_one(config: DictConfig) -> None:
    """Page, figures and films of one run."""
    run, formats = _run(config), _formats(config)
    films = require_bool("animations", config.animations)
    _say(write_report(run, _output(config)))
    if formats or films:
        from grokscope.app.drawing import save_films, save_paper_figures

        saved = save_paper_figures(run, formats) if formats else []
        saved += save_films(run) if films else []
        _say(f"{len(saved)} files in {run.path / FIGURES}")


def _formats(config: DictConfig) -> list[str]:
    """What ``figures`` asks for."""
    given = config.figures if isinstance(config.figures, ListConfig) else [config.figures]
    return [require_choice("figures", each, FORMATS) for each in given if each is not None]


def _run(config: DictConfig) -> Run:
    if config.run is None:
        raise UserError("run must be a run folder where live=true, got none.")
    return Run.open(str(config.run))


def _output(config: DictConfig) -> Path | None:
    """Where the page goes; None is the run's folder."""
    if config.output is None:
        return None
    if not isinstance(config.output, str):
        raise UserError(f"output must be the name of a file, got {config.output!r}.")
    path = Path(config.output)
    if not path.parent.is_dir():
        raise UserError(f"output must lie in a folder that exists, got {path}.")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return path
    if not stat.S_ISREG(mode):  # a rename would put the page in the place of a device
        raise UserError(f"output must be a file, got {path}: it is {_what(mode)}.")
    return path


def _what(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _serve(run: Run, host: str, port: int) -> None:
    """Until Ctrl-C or SIGTERM; the run comes first on the processor."""
    with suppress(OSError, AttributeError):
        os.nice(5)
    try:
        server = LiveServer(run, host, port)
    except OverflowError:
        raise UserError(f"port must be an integer from 0 to 65535, got {port}.") from None
    except OSError as error:
        raise UserError(
            f"host={host} port={port} cannot be served: {error.strerror}; port=0 takes a free one."
        ) from None
    signal.signal(signal.SIGTERM, _interrupt)
    _say(f"{run.path} at {server.url} (Ctrl-C ends it)")
    with server, suppress(KeyboardInterrupt):
        server.serve_forever(poll_interval=0.2)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _compare(config: DictConfig) -> None:
    """Page and figures of several runs, in the first folder unless ``output`` says where."""
    formats = _formats(config)
    given = config.runs if isinstance(config.runs, ListConfig) else [config.runs]
    folders = [Path(str(each)) for each in given]
    if not folders:
        raise UserError("runs must be a folder with runs, or a list of folders, got none.")
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise UserError(f"runs must be folders, got {missing[0]}: there is none.")
    every = {run.path.resolve(): run for folder in folders for run in runs(folder)}
    if len(every) > MANY:
        _tell(f"reading {len(every)} runs ...")
    found = list(_readable(every.values()))
    if not found:
        raise UserError(f"runs must hold at least one run, got none in {folders[0]}.")
    _say(write_comparison(found, _output(config) or folders[0] / COMPARISON))
    if formats:
        shown = comparison_panels(run_groups(found))
        saved = save_panels(shown, subfolder(folders[0], FIGURES, create=True), formats)
        _say(f"{len(saved)} files in {folders[0] / FIGURES}")


def _say(text: object) -> None:
    """Print what has a path in it, whose folders may be named by a stranger."""
    print(printable(str(text)), flush=True)


def _readable(found: Iterable[Run]) -> Iterator[Snapshot]:
    """All but the runs whose files are damaged, which are named: one of them ends no sweep."""
    for run in found:
        try:
            snapshot = Snapshot.of(run)
            for _ in (snapshot.info, snapshot.config, snapshot.grokking_as_configured()):
                pass
        except (ValueError, OSError) as error:
            _tell(f"left out: {printable(str(error))}")
        else:
            yield snapshot


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
