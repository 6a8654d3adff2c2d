"""Where a name may stand in a stranger's settings: as the present configurations build it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig

from grokscope.app import targets
from grokscope.app.targets import GROUPS, OURS, PROGRESS, place_of, present_targets


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty configuration folder in use."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    monkeypatch.setattr(targets, "OURS", tmp_path)
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (("net",), "grokscope.nets.MLP"),
        (("net", "init_std"), "grokscope.nets.doshi_std"),
        (("model", "optimizer"), "torch.optim.AdamW"),
        (("model", "scheduler"), "grokscope.models.schedulers.linear_warmup"),
        (PROGRESS, "grokscope.callbacks.families.norm.NetNorm"),
        (PROGRESS, "grokscope.callbacks.families.manifolds.GlueProgress"),
        (("trainer",), "lightning.Trainer"),
    ],
)
def test_what_our_configurations_build_is_allowed_where_they_build_it(place, name):
    assert present_targets().allows(place, name)
    assert not present_targets().allows(("storage",), name)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (("data",), "grokscope.app.hooks.Validate"),
        (("data",), "hydra_plugins.grokscope_launchers.LocalLauncher"),
        (("model", "loss"), "grokscope.models.losses.ArgmaxAccuracy"),
        (("net",), "grokscope.nets.doshi_std"),
        (("data",), "grokscope.nets.MLP"),
        (PROGRESS, "grokscope.callbacks.families.norm.ProgressMeasure"),
        (PROGRESS, "grokscope.callbacks.families.norm.torch"),
        (PROGRESS, "grokscope.callbacks.families.none.NetNorm"),
        (("net",), "grokscope.nets.MLP "),
    ],
)
def test_nothing_is_allowed_elsewhere(place, name):
    assert not present_targets().allows(place, name)


def test_partial_calls_are_those_of_optimizer_and_scheduler():
    inner = {place for place in present_targets().partial if place != ("optimizer",)}
    assert inner == {("model", "optimizer"), ("model", "scheduler")}


def test_every_group_of_ours_with_a_call_is_known():
    with_calls = {
        path.relative_to(OURS).parts[0]
        for path in OURS.rglob("*/*.yaml")
        if "_target_" in path.read_text(encoding="utf-8")
    }
    assert with_calls - {"hydra"} <= set(GROUPS)


def test_comments_and_hydra_s_own_groups_do_not_count(folder):
    write(folder, "data/x.yaml", "# _target_: os.system\na: {_target_: a.B}\n")
    write(folder, "hydra/launcher/x.yaml", "_target_: os.system\n")
    write(folder, "train.yaml", "defaults: [{override hydra/launcher: x}]\n")
    assert present_targets().calls.keys() == {("data", "a")}


def test_a_group_that_a_defaults_list_names_counts_at_its_place(folder):
    write(folder, "coder/x.yaml", "_target_: own.Coder\n")
    write(folder, "extra/x.yaml", "_target_: own.Extra\n")
    write(
        folder,
        "experiment/a.yaml",
        "# @package _global_\ndefaults:\n  - override /net: y\n  - /coder@net.coder: x\n",
    )
    found = present_targets()
    assert found.allows(("net", "coder"), "own.Coder")
    assert ("extra",) not in found.calls


def test_a_run_below_the_folder_grants_nothing(folder):
    text = "# @package _global_\nnet: {_target_: os.system}\n"
    for place in ("logs/runs/x", "data/run", "x"):
        write(folder, f"{place}/config.yaml", text)
        write(folder, f"{place}/.hydra/config.yaml", text)
    assert present_targets().calls == {}


def test_a_file_that_cannot_be_read_is_left_out(folder):
    write(folder, "data/x.yaml", "a: [")
    write(folder, "data/y.yaml", "- 1")
    write(folder, "data/z.yaml", "_target_: [os.system]")
    assert present_targets().calls == {}


def test_the_folders_are_those_of_the_present_command(tmp_path, monkeypatch):
    names = ("main", "command-line", "hydra.searchpath in command-line", "hydra", "schema")
    sources = []
    for name in names:
        place = tmp_path / name.partition(" ")[0]
        write(place, "net/x.yaml", f"_target_: a.{name.partition(' ')[0].replace('-', '_')}\n")
        sources.append(SimpleNamespace(provider=name, schema="file", path=str(place)))
    sources.append(SimpleNamespace(provider="main", schema="pkg", path="grokscope.none"))
    config = SimpleNamespace(runtime=SimpleNamespace(config_sources=sources))
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: config)
    allowed = present_targets().calls["net",]
    assert set(allowed) == {"a.main", "a.command_line", "a.hydra.searchpath"}


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        (("net", "init_std", 0), ("net", "init_std")),
        (("measures", "progress", "x"), PROGRESS),
        (("callbacks", "gop", "progress", "x"), PROGRESS),
        (("callbacks", "gop"), ("callbacks", "*")),
        (("logger", "csv"), ("logger", "*")),
        ((0, 1), ()),
    ],
)
def test_a_place_is_a_key_without_chosen_names(keys, place):
    assert place_of(keys) == place
