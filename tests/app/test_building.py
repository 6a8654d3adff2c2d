"""What a stranger's settings ask to be built: within bounds, and one line where it cannot be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import entry
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import nn

from grokscope.app.build import build_model
from grokscope.app.building import building
from grokscope.app.cli import register_resolvers
from grokscope.app.errors import UserError

TINY = ["experiment=none", "data.modulus=7", "net.widths=[14,16,7]", "seed=0", "name=x"]
LOOPS = {"fit_loop": {"epoch_progress": {"current": {"processed": 0}}}}


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """Settings and first checkpoint of a run that has not trained."""
    GlobalHydra.instance().clear()
    register_resolvers()
    with initialize_config_dir(str(entry.ROOT / "configs"), version_base="1.3"):
        config = compose("train", overrides=[*TINY, "paths.run_dir=run"])
    OmegaConf.resolve(config)
    folder = tmp_path_factory.mktemp("begun")
    (folder / "checkpoints").mkdir()
    content = {"epoch": 0, "global_step": 0, "loops": LOOPS, "optimizer_states": []}
    state = build_model(config)[1].state_dict()
    for name in ("last", "epoch_0"):
        torch.save({"state_dict": state, **content}, folder / "checkpoints" / f"{name}.ckpt")
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config), encoding="utf-8")
    return folder


@pytest.fixture
def run(begun, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(begun / "checkpoints")
    (tmp_path / "run" / "config.yaml").write_bytes((begun / "config.yaml").read_bytes())
    return Path("run")


def changed(folder: Path, key: str, value: Any) -> None:
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    *names, last = key.split(".")
    node = settings
    for name in names:
        node = node[name]
    node[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))


def test_a_run_is_evaluated(run, capsys):
    entry.call("eval", f"run={run}")
    assert "after 0 epochs" in capsys.readouterr().out


@pytest.mark.refusal
@pytest.mark.parametrize("command", ["eval", "measure"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("net.widths", [14, 10**12, 7]),
        ("net.widths", [14, 10**30, 7]),
        ("net.widths", []),
        ("net.widths", [14, *[2] * 100_000, 7]),
        ("data.modulus", 20_000),
        ("data.modulus", 11),
        ("data.modulus", 5),
        ("data.modulus", -1),
        ("data.batch_size", 0),
        ("data.train_fraction", float("nan")),
        ("data", {}),
        ("data", None),
        ("net", "grokscope.nets.MLP"),
        ("model", []),
        ("model.extra_splits", ["none"]),
        ("model.after_step", {"_target_": "grokscope.models.FixedNorm", "alpha": -1}),
        ("model.loss", {"_target_": "grokscope.models.sequence_losses.TargetCrossEntropy"}),
        ("ticket", {"run": "/etc", "nothing": 1}),
        ("ticket", "run"),
    ],
)
def test_settings_that_cannot_be_built_are_one_line(run, capsys, command, key, value):
    changed(run, key, value)
    with pytest.raises(SystemExit) as stop:
        entry.call(command, f"run={run}")
    said = capsys.readouterr()
    assert (stop.value.code, said.out) == (1, "")
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert not (run / "measured" / "default").exists()


@pytest.mark.parametrize("size", [10**11, 10**16])
def test_more_than_the_free_memory_is_one_line_and_the_limit_goes_again(size):
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with (
        pytest.raises(UserError, match=r"can be built here, got x: .*memory"),
        building(Path("x")),
    ):
        torch.empty(size)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with building(Path("x")):
        assert torch.ones(10**6).sum() == 10**6


@pytest.mark.parametrize("make", [nn.ModuleList, lambda parts: nn.Sequential(*parts)])
def test_a_net_of_very_many_parts_is_one_line_at_once(make):
    begun = time.perf_counter()
    with pytest.raises(UserError, match="more than 20,000 modules"), building(Path("x")):
        make(nn.Linear(2, 2) for _ in range(100_000))
    assert time.perf_counter() - begun < 10
    assert len(nn.ModuleList(nn.Identity() for _ in range(20_001))) == 20_001
