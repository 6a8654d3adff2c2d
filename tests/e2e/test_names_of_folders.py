"""Names of folders come from strangers, too: Hydra must look nothing up in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

SHORT = ("trainer.max_epochs=2", "report=false", "measures=none", "logger=none", "threads=1")
EVIL = ("${now:victim}", "${oc.env:HOME}", "a/${now:../../victim}", "x${seed}")


def victim() -> dict[str, str]:
    """What must stay as it is."""
    Path("victim").mkdir(exist_ok=True)
    Path("victim/config.yaml").write_text("mine")
    return everything(Path("victim"))


def everything(folder: Path) -> dict[str, str]:
    return {str(p): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_refused(done, *words: str) -> None:
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    for word in words:
        assert word in done.err


@pytest.mark.refusal
@pytest.mark.parametrize("name", [*EVIL, "~/x", "~root/x", "???", "a\nb", "a\x1b[2J"])
def test_a_folder_in_a_sweep_s_list_is_taken_as_it_is_written(command, tiny, name):
    sweep = ("--multirun", *tiny, *SHORT, "hydra.sweep.dir=sweep", "seed=0,1")
    assert command("train", *sweep).code == 0
    listed = json.loads(Path("sweep/sweep.json").read_text())
    listed["runs"][0]["folder"] = name
    Path("sweep/sweep.json").write_text(json.dumps(listed))
    kept, before = victim(), {path.name for path in Path().iterdir()}
    assert_refused(
        command("train", *sweep, "resume=true"), "sweep.json is not the list of a sweep's runs"
    )
    assert everything(Path("victim")) == kept
    assert {path.name for path in Path().iterdir()} == before


@pytest.mark.refusal
@pytest.mark.parametrize("name", ["${now:victim}", "${oc.env:HOME}"])
@pytest.mark.parametrize("typed", ["resume=true", "run=last"])
def test_a_run_s_folder_is_taken_as_it_is_named(command, tiny, name, typed):
    settings = (*tiny, *SHORT, "name=x", "schedule.checkpoint=every 1")
    first = command("train", *settings)
    first.run.rename(first.run.with_name(name))
    found = Path("logs/runs/x", name, "run.json")
    info = json.loads(found.read_text())
    found.write_text(json.dumps(info | {"status": "running"}))
    kept, before = victim(), {path.name for path in Path().iterdir()}
    more = (
        [s.replace("max_epochs=2", "max_epochs=4") for s in settings]
        if "run" in typed
        else settings
    )
    done = command("train", *more, typed)
    assert_refused(done, "hydra.run.dir must be a path without '${'")
    assert everything(Path("victim")) == kept
    assert {path.name for path in Path().iterdir()} == before


def test_other_commands_take_such_a_folder(command, run):
    shutil.move(run, "${now:victim}")
    assert command("report", r"run='\${now:victim}'").err == ""
    assert not Path("victim").exists()
