"""A stranger's sweep folder, and a run's settings where they are only compared."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import entry
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from grokscope.app.checkpoints import check_same_settings
from grokscope.app.cli import register_resolvers
from grokscope.app.errors import UserError
from grokscope.app.stored import typed_values
from grokscope.app.sweeps.folder import _earlier
from grokscope.app.sweeps.launching import _planned
from grokscope.app.sweeps.slurm import _own_folder
from grokscope.app.tickets import _check_same_data
from grokscope.store.sweep import Sweep, SweepRun, read_sweep

TINY = ["experiment=none", "data.modulus=7", "net.widths=[14,16,7]", "seed=0", "name=x"]
ADDED = ("run=/etc", "ckpt_path=evil.ckpt", "paths.log_dir=/tmp/evil", "+run=${oc.env:HOME}")


@pytest.fixture
def config() -> DictConfig:
    GlobalHydra.instance().clear()
    register_resolvers()
    with initialize_config_dir(str(entry.ROOT / "configs"), version_base="1.3"):
        return compose("train", overrides=[*TINY, "paths.run_dir=run"])


def test_what_is_done_for_a_run_of_a_sweep_is_what_was_typed(tmp_path):
    stored = SweepRun(0, ("seed=0", *ADDED), "0")
    Sweep(tmp_path, {0: stored}).write()
    task = OmegaConf.create({"hydra": {"overrides": {"task": ["seed=0,1"]}}})
    work: Any = SimpleNamespace(folder=tmp_path, config=task, with_folder=lambda run: run)
    sweep, runs = _planned(work, [["seed=0"], ["seed=1"], ["seed=0"]])
    assert [run.overrides for run in runs] == [("seed=0",), ("seed=1",), ("seed=0",)]
    assert [run.number for run in runs] == [0, 1, 0]
    assert read_sweep(tmp_path).runs == sweep.runs


@pytest.mark.parametrize("command", ["a=[", "${oc.env:HOME}", "\x1b[2J", "=", "a=b c,d"])
def test_a_command_that_cannot_be_read_is_passed_over(tmp_path, command):
    text = json.dumps({"command": [command], "runs": [], "jobs": []})
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "sweep.json").write_text(text)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(entry.ROOT / "configs"), version_base="1.3"):
        assert _earlier(tmp_path, ["seed=0,1"]) is None


def test_jobs_have_a_folder_that_nobody_else_has_written(tmp_path):
    folders = {_own_folder(tmp_path / ".submitit" / "%j") for _ in range(3)}
    assert len(folders) == 3
    for folder in folders:
        assert folder.name == "%j"
        assert folder.parent.parent == tmp_path / ".submitit"
        assert list(folder.parent.iterdir()) == []
    assert _own_folder(tmp_path / "jobs").parent == tmp_path / "jobs"


@pytest.mark.refusal
def test_a_folder_of_jobs_that_leads_elsewhere_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".submitit").symlink_to("elsewhere")
    with pytest.raises(UserError, match=r"submitit_folder must not be a link"):
        _own_folder(tmp_path / ".submitit" / "%j")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.refusal
def test_a_pickled_job_of_hydra_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        entry.call("train", f"--experimental-rerun={tmp_path / 'config.pickle'}")
    said = capsys.readouterr().err
    assert (stop.value.code, said.count("\n")) == (1, 1)
    assert "--experimental-rerun cannot be used: it would execute what a pickle says" in said


@pytest.mark.refusal
@pytest.mark.parametrize(
    "text",
    [
        r'data: {modulus: "\x24{oc.create:{_target_: os.mkdir, path: executed}}"}',
        r'seed: "\x24{seed}"',
        "data: {modulus: {_target_: os.mkdir, path: executed}}",
        "data: [",
    ],
)
def test_where_settings_are_compared_nothing_is_built(tmp_path, monkeypatch, config, text):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(text)
    for compare in (check_same_settings, _check_same_data):
        with pytest.raises(UserError, match=r"config\.yaml|data\.\w+ must (stay|be)"):
            compare(Path(), config)
    assert [path.name for path in Path().iterdir()] == ["config.yaml"]


def typed(measures: dict, **settings) -> dict:
    config = OmegaConf.create({"measures": measures})
    return typed_values(config, "measures", OmegaConf.create(settings))


def test_what_is_typed_may_refer_to_a_run_and_the_run_to_nothing():
    register_resolvers()
    assert typed({"a": "${data.modulus}"}, data={"modulus": 7}) == {"a": 7}
    assert typed({"a": ["${times:2,${seed}}"]}, seed=3) == {"a": [6]}


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("measures", "settings"),
    [
        ({"a": "$${name}"}, {"name": "{oc.env:HOME}"}),
        ({"a": "$${name}"}, {"name": "{oc.create:{_target_: os.mkdir, path: executed}}"}),
        ({"progress": {"x": {"_target_": "${name}"}}}, {"name": "os.mkdir"}),
        ({"progress": {"x": {"_target_": "os.${name}"}}}, {"name": "mkdir"}),
        ({"progress": {"x": {"_partial_": "${seed}"}}}, {"seed": True}),
    ],
)
def test_a_run_adds_no_reference_and_no_class_to_what_is_typed(measures, settings):
    with pytest.raises(UserError, match=r"measures\..* must be (a plain value|written out)"):
        typed(measures, **settings)
