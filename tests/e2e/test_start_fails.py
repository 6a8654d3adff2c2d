"""What fails between the start and the first pass: one line, a status with the reason, no harm."""

from __future__ import annotations

import json
import signal
import sys
import types
from pathlib import Path

import pytest
from lightning import Callback
from lightning.pytorch.loggers.logger import Logger

from grokscope.app import training
from grokscope.data import ModularDataModule

HOOKS = ("setup", "on_fit_start", "on_train_start", "on_train_epoch_start")
SHORT = ("trainer.max_epochs=5", "report=false", "threads=1")


class Fails(Callback):
    """A callback of the user with a mistake in one hook."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self._fail)

    def _fail(self, *args, **settings) -> None:
        raise KeyError("a mistake of mine")


class FailingLogger(Logger):
    """A logger of the user that fails when it is asked for anything but its name."""

    name = "mine"
    version = ""

    def log_hyperparams(self, *args, **settings) -> None:
        raise ConnectionError("no service")

    def log_metrics(self, *args, **settings) -> None:
        raise ConnectionError("no service")


class FailingData(ModularDataModule):
    """Data that cannot be had the second time, when training begins."""

    asked = 0

    def prepare_data(self) -> None:
        FailingData.asked += 1
        if FailingData.asked > 1:
            raise LookupError("no data")
        super().prepare_data()


def info(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def mine(name: str) -> str:
    return f"{__name__}.{name}"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Lets Hydra import the classes above by the name that this file has here."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _module())


def _module():
    module = types.ModuleType(__name__)
    module.__dict__.update(globals())
    return module


def assert_failed(result, *words: str) -> dict:
    """One line, and the same reason in ``run.json``; the traceback is in the log."""
    assert result.code == 1
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1, result.err
    facts = info(result.run)
    assert facts["status"] == "failed"
    for word in words:
        assert word in result.err
        assert word in facts["error"]
    assert "Traceback" not in result.err + result.out
    assert "Traceback" in (result.run / "train.log").read_text()
    return facts


@pytest.mark.parametrize("hook", HOOKS)
def test_a_callback_that_fails_is_named(command, tiny, hook):
    own = f"+callbacks.mine={{_target_:{mine('Fails')},hook:{hook}}}"
    result = command("train", *tiny, *SHORT, own)
    assert_failed(result, "KeyError: 'a mistake of mine'", "test_start_fails.py:")
    assert "HYDRA_FULL_ERROR=1 shows the traceback" in result.err


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("+trainer.limit_train_batches=0.5", ["trainer.limit_train_batches=0.5: "]),
        ("+trainer.val_check_interval=100", ["trainer.val_check_interval=100: ValueError"]),
        (f"+logger.mine={{_target_:{mine('FailingLogger')}}}", ["ConnectionError: no service"]),
    ],
    ids=["batches", "interval", "logger"],
)
def test_a_setting_that_fails_in_training_is_named(command, tiny, setting, words):
    assert_failed(command("train", *tiny, *SHORT, setting), *words)


def test_data_that_fail_are_named(command, tiny):
    FailingData.asked = 0
    result = command("train", *tiny, *SHORT, f"data._target_={mine('FailingData')}")
    assert_failed(result, "LookupError: no data", "test_start_fails.py:")


def test_a_traceback_is_shown_when_it_is_asked_for(command, tiny, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    own = f"+callbacks.mine={{_target_:{mine('Fails')},hook:setup}}"
    result = command("train", *tiny, *SHORT, own)
    assert "Traceback" in result.err
    assert result.err.splitlines()[-1].startswith("error: KeyError")


@pytest.mark.parametrize(
    "settings",
    [
        ["+trainer.limit_train_batches=0.5"],
        [f"+callbacks.mine={{_target_:{mine('Fails')},hook:setup}}"],
        [f"+callbacks.mine={{_target_:{mine('Fails')},hook:on_fit_start}}"],
    ],
    ids=["trainer", "setup", "start"],
)
def test_a_finished_run_stays_finished_when_its_going_on_fails(command, tiny, run, settings):
    kept = [path for path in run.rglob("*") if path.is_file() and ".hydra" not in path.parts]
    before = {path: path.read_bytes() for path in kept if path.name not in ("train.log", ".lock")}
    result = command("train", *tiny, "trainer.max_epochs=4", f"run={run}", *settings)
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert {path: path.read_bytes() for path in before} == before
    again = command("train", *tiny, "trainer.max_epochs=4", f"run={run}")
    assert again.code == 0
    assert info(run)["status"] == "finished"


@pytest.mark.refusal
def test_files_of_hydra_that_cannot_be_written_name_the_folder(command, tiny):
    Path("out").mkdir()
    Path("out/.hydra").write_text("a file")
    result = command("train", *tiny, *SHORT, "hydra.run.dir=out")
    assert result.code == 1
    where = Path("out/.hydra").absolute()
    said = f"error: hydra.run.dir must be a folder to write into, got {where}: File exists.\n"
    assert result.err == said


def test_a_run_that_lightning_ends_early_is_not_finished(command, tiny):
    for setting in ("+trainer.max_steps=2", "+trainer.fast_dev_run=true"):
        result = command("train", *tiny, *SHORT, setting)
        assert result.code == 0
        assert info(result.run)["status"] == "stopped"


@pytest.mark.refusal
def test_a_run_s_own_settings_are_no_configuration(command, run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = command("train", "--config-path", str(run.absolute()), "--config-name", "config")
    assert result.err.startswith("error: --config-path must be a folder of configurations")
    assert result.err.count("\n") == result.code == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_last_seconds_leaves_a_finished_run(
    command, tiny, monkeypatch, number, code
):
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_figures", lambda run: signal.raise_signal(number))
        same = (*tiny, "trainer.max_epochs=2", "hydra.run.dir=run")
        assert command("train", *same, figures=True).code == code
    facts = info(Path("run"))
    assert (facts["status"], facts["error"]) == ("finished", None)
    assert not Path("run/report.html").exists()
    result = command("train", *tiny, "trainer.max_epochs=2", "run=run")
    assert (result.code, result.err) == (0, "")
    assert Path("run/report.html").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_before_the_first_pass_is_a_status(command, tiny, monkeypatch, number):
    monkeypatch.setattr(training, "predict", lambda *parts: signal.raise_signal(number))
    with monkeypatch.context():
        result = command("train", *tiny, *SHORT)
    status = "preempted" if number == signal.SIGUSR2 else "stopped"
    assert info(result.run)["status"] == status
    assert result.code == {signal.SIGTERM: 143, signal.SIGINT: 130}.get(number, 75)
    assert "Traceback" not in result.err


def test_a_finished_run_gets_the_page_that_it_lacks(command, tiny, run):
    same = (*tiny, "trainer.max_epochs=2", f"run={run}")
    (run / "report.html").unlink()
    result = command("train", *same, figures=True)
    assert (result.code, result.err) == (0, "")
    assert "report.html written" in result.out
    assert (run / "report.html").exists()
    assert info(run)["status"] == "finished"
    result = command("train", *same)
    assert "nothing to do; a larger trainer.max_epochs goes on" in result.out
    assert (result.code, result.err) == (0, "")
