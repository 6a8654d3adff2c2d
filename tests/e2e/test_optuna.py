"""Sweeps whose values Optuna chooses."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import entry
import numpy as np
import pytest
import yaml
from hydra.core.config_store import ConfigStore

from grokscope import Run
from grokscope.app import resuming, training
from grokscope.app.errors import UserError
from grokscope.app.resuming import last_value
from grokscope.store.sweep import read_sweep

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # optuna 2 was written for an older SQLAlchemy
    optuna = pytest.importorskip("optuna", reason="needs grokscope[optuna]")

STUDY = "study"
LR, DECAY = "model.optimizer.lr", "model.optimizer.weight_decay"
STARTUP = ("hydra.sweeper.sampler.n_startup_trials=2",)
OPTIONS = ("sweep=optuna", "measures=none", "report=false", "trainer.max_epochs=3")


@pytest.fixture
def study(command, tiny):
    """``study(3, "seed=1")`` is a sweep of three trials of tiny runs, in the folder ``study``."""
    settings = [s for s in tiny if not s.startswith(LR)]

    def call(trials: int, *more: str, folder: str = STUDY):
        where = f"hydra.sweep.dir={folder}"
        number = f"hydra.sweeper.n_trials={trials}"
        return command("train", "--multirun", *settings, *OPTIONS, where, number, *more)

    return call


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny) -> Path:
    """An uninterrupted study of five trials, of which TPE chooses the last three; made once."""
    folder = tmp_path_factory.mktemp("optuna") / "whole"
    settings = [s for s in tiny if not s.startswith(LR)]
    more = (f"hydra.sweep.dir={folder}", "hydra.sweeper.n_trials=5", *STARTUP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "save_figures", lambda run: None)
        entry.call("train", "--multirun", *settings, *OPTIONS, *more)
    return folder


def results(folder: Path) -> dict:
    return yaml.safe_load((folder / "optimization_results.yaml").read_text())


def values(folder: Path, objective: str = "test_loss") -> dict[frozenset[str], float]:
    """The last value of each run, by the settings that Optuna chose for it."""
    sweep = read_sweep(folder)
    return {
        chosen(run.overrides): float(Run.open(sweep.path(run)).metrics[objective][-1])
        for run in sweep.runs.values()
    }


def chosen(overrides: tuple[str, ...]) -> frozenset[str]:
    return frozenset(o for o in overrides if o.startswith((LR, DECAY)))


def begun(folder: Path) -> dict[str, int]:
    """When each run wrote its settings."""
    return {p.parent.name: p.stat().st_mtime_ns for p in folder.glob("*/config.yaml")}


def test_the_best_of_all_trials_is_written_into_the_sweep_and_said(study):
    done = study(3)
    assert done.code == 0
    folder = done.folder / STUDY
    found, by_settings = results(folder), values(folder)
    assert len(by_settings) == 3
    assert found["best_value"] == min(by_settings.values())
    best = frozenset(f"{name}={value!r}" for name, value in found["best_params"].items())
    assert by_settings[best] == found["best_value"]
    assert f"Best value: {found['best_value']}" in done.out
    assert [p for p in done.files if p.endswith("optimization_results.yaml")] == [
        f"{STUDY}/optimization_results.yaml"
    ]
    assert done.err == ""


@pytest.mark.parametrize("name", ["alembic.runtime", "optuna.storages._rdb", "optuna.study.study"])
def test_the_parts_of_optuna_do_not_say_that_they_are_set_up(whole, name):
    assert not logging.getLogger(name).isEnabledFor(logging.INFO)
    assert logging.getLogger(name).isEnabledFor(logging.WARNING)


def test_the_folder_is_the_one_that_the_sweep_has_claimed(command, tiny):
    done = command("train", "--multirun", *tiny, *OPTIONS, "hydra.sweeper.n_trials=1")
    (found,) = done.folder.rglob("optimization_results.yaml")
    assert found.parent.parents[1].name == "multiruns"
    assert (found.parent / "sweep.json").exists()
    assert (found.parent / "0" / "run.json").exists()


def test_the_words_of_a_run_are_its_own(whole):
    logs = [path.read_text() for path in whole.glob("*/train.log")]
    assert len(logs) == 5
    assert not any("Best" in log for log in logs)


def test_a_run_has_the_very_numbers_that_were_sampled(whole):
    for run in read_sweep(whole).runs.values():
        config = Run.open(whole / run.folder).config["model"]["optimizer"]
        typed = dict(o.split("=") for o in run.overrides)
        assert config["lr"] == float(typed[LR])
        assert config["weight_decay"] == float(typed[DECAY])
        assert 1e-4 <= config["lr"] <= 1e-1
        assert 1e-3 <= config["weight_decay"] <= 10


def test_a_typed_value_or_interval_replaces_that_of_the_configuration(study):
    folder = study(3, f"{DECAY}=0.5", f"{LR}=interval(0.2,0.3)", "seed=choice(1,2)").folder / STUDY
    for run in read_sweep(folder).runs.values():
        config = Run.open(folder / run.folder).config
        assert 0.2 <= config["model"]["optimizer"]["lr"] <= 0.3
        assert config["model"]["optimizer"]["weight_decay"] == 0.5
        assert config["seed"] in (1, 2)
    assert set(results(folder)["best_params"]) == {LR, "seed"}


@pytest.mark.slow
def test_runs_of_processes_give_the_values_of_runs_one_after_the_other(study):
    alone = study(2, "hydra.sweeper.n_jobs=2", folder="alone").folder
    beside = study(2, "hydra.launcher.runs_at_once=2", folder="beside").folder
    assert values(beside / "beside") == values(alone / "alone")
    assert results(beside / "beside") == results(alone / "alone")


@pytest.mark.parametrize("objective", ["generalised", "train_loss"])
def test_what_is_minimised_is_the_objective(study, objective):
    more = (f"objective={objective}", f"{LR}=interval(0.01,0.02)", "trainer.max_epochs=2")
    folder = study(2, *more).folder / STUDY
    if objective == "train_loss":
        assert results(folder)["best_value"] == min(values(folder, objective).values())
    else:
        assert results(folder)["best_value"] == 2.0, "of runs that never got there: max_epochs"


def test_the_objective_is_the_last_number_and_not_a_gap_after_it(monkeypatch, tmp_path):
    metrics = {"test_loss": np.array([3.0, 2.0, np.nan])}
    monkeypatch.setattr(resuming.Run, "open", lambda folder: SimpleNamespace(metrics=metrics))
    assert last_value(tmp_path, "test_loss") == 2.0


@pytest.mark.refusal
@pytest.mark.parametrize("values", [np.ones((3, 2)), np.full(3, np.nan), np.empty(0)])
def test_an_objective_without_one_number_a_row_is_refused(monkeypatch, tmp_path, values):
    metrics = {"epoch": np.arange(3), "layers": values}
    monkeypatch.setattr(resuming.Run, "open", lambda folder: SimpleNamespace(metrics=metrics))
    with pytest.raises(UserError, match=r"objective must be one of memorised.* got 'layers'"):
        last_value(tmp_path, "layers")


def test_a_plain_sweep_needs_no_objective(command, tiny):
    done = command("train", "--multirun", *tiny, *OPTIONS[1:], "callbacks=none", "seed=0,1")
    assert (done.code, done.err) == (0, "")


# --- resume=true


def test_only_missing_trials_are_done_and_the_study_is_the_uninterrupted_one(study, whole):
    folder = study(3, *STARTUP).folder / STUDY
    before = begun(folder)
    shutil.rmtree(folder / "1")
    assert study(5, *STARTUP, "resume=true").code == 0
    after = begun(folder)
    assert sorted(after) == ["0", "1", "2", "3", "4"]
    assert {name for name in before if after[name] == before[name]} == {"0", "2"}
    assert values(folder) == values(whole)
    assert results(folder) == results(whole)


def test_a_trial_that_was_stopped_is_done_and_the_others_are_answered(study, whole, tmp_path):
    folder = Path(shutil.copytree(whole, tmp_path / STUDY))
    info = json.loads((folder / "3" / "run.json").read_text())
    (folder / "3" / "run.json").write_text(json.dumps(info | {"status": "stopped"}))
    shutil.rmtree(folder / "3" / "checkpoints")
    before = begun(folder)
    done = study(5, *STARTUP, "resume=true")
    assert {name for name in before if begun(folder)[name] == before[name]} == set("0124")
    assert values(folder) == values(whole)
    assert results(folder) == results(whole)
    assert done.out.count("begins") == 1


def test_a_study_that_is_done_is_answered_from_its_folder(study, whole, tmp_path):
    folder = Path(shutil.copytree(whole, tmp_path / STUDY))
    (folder / "optimization_results.yaml").unlink()
    before = begun(folder)
    done = study(5, *STARTUP, "resume=true")
    assert begun(folder) == before
    assert results(folder) == results(whole)
    assert "run 0:" not in done.out


def test_resume_finds_the_study_where_no_folder_was_typed(command, tiny):
    words = ("train", "--multirun", *tiny, *OPTIONS)
    command(*words, "hydra.sweeper.n_trials=1")
    done = command(*words, "hydra.sweeper.n_trials=2", "resume=true")
    assert len(list(done.folder.rglob("optimization_results.yaml"))) == 1
    assert len(list(done.folder.rglob("run.json"))) == 2


# --- what goes wrong

BAD = ("seed=choice(1,-1)", "hydra.sweeper.n_jobs=3")  # of the first three trials


def states(folder: Path) -> dict[str, int]:
    found = [Run.open(p.parent).status for p in folder.glob("*/run.json")]
    return {status: found.count(status) for status in set(found)}


@pytest.mark.refusal
def test_a_trial_that_fails_ends_the_study_when_the_others_are_done(study):
    done = study(8, *BAD)
    found = states(done.folder / STUDY)
    assert done.code == 1
    assert sum(found.values()) == 3
    assert found["finished"] > 0
    assert done.err.count("\n") == 1
    assert f"{found['failed']} of 3 runs {'is' if found['failed'] == 1 else 'are'} not" in done.err
    assert "seed must be an integer >= 0" in " ".join(done.err.split())
    assert "Failed" not in done.out
    assert "Traceback" not in done.out


def test_a_study_that_may_fail_goes_on(study):
    done = study(4, *BAD, "hydra.sweeper.max_failure_rate=1")
    found = states(done.folder / STUDY)
    assert done.code == 0
    assert found["finished"] + found["failed"] == 4
    assert done.out.count("Failed experiment:") == found["failed"]
    finished = [p.parent for p in (done.folder / STUDY).glob("*/metrics.h5")]
    losses = [float(Run.open(p).metrics["test_loss"][-1]) for p in finished]
    assert len(losses) == found["finished"]
    assert results(done.folder / STUDY)["best_value"] == min(losses)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["objective=generalized"], ["objective must be one of memorised", "'generalized'"]),
        (["callbacks=none"], ["objective=test_loss", "has none"]),
        (["sede=interval(0,1)"], ["sede is not a setting", "did you mean seed"]),
        (["+hydra.launcher.wait=false"], ["hydra.launcher.wait must be true"]),
    ],
)
def test_what_gives_no_value_is_one_line_after_one_trial_at_most(study, more, words):
    done = study(3, *more)
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert all(word in done.err for word in words), done.err
    assert len(list((done.folder / STUDY).glob("*/run.json"))) <= 1


@pytest.mark.refusal
def test_without_the_extra_the_error_says_which_to_install(study, monkeypatch):
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["sweeper"], "optuna.yaml")
    done = study(1)
    assert done.code == 1
    assert done.err == (
        "error: hydra/sweeper/optuna must be installed: pip install 'grokscope[optuna]'.\n"
    )
    assert done.files == set()


# --- optuna's own storage


def test_a_study_can_be_kept_for_the_tools_of_optuna(study):
    done = study(2, "hydra.sweeper.storage=sqlite:///study.db", "hydra.sweeper.study_name=tiny")
    assert done.code == 0
    kept = optuna.load_study(study_name="tiny", storage=f"sqlite:///{done.folder}/study.db")
    assert kept.best_value == results(done.folder / STUDY)["best_value"]
    assert sorted(t.value for t in kept.trials) == sorted(values(done.folder / STUDY).values())
    assert done.err == ""
