"""Every YAML in every group composes and builds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from grokscope.app.build import build
from grokscope.app.cli import register_resolvers
from grokscope.app.errors import UserError
from grokscope.app.run_settings import run_settings
from grokscope.app.targets import present_targets

CONFIGS = Path(__file__).parents[2] / "configs"
GROUPS = sorted(p for p in CONFIGS.iterdir() if p.is_dir() and p.name != "hydra")
CHOICES = [(g.name, p.stem) for g in GROUPS for p in sorted(g.glob("*.yaml"))]
PARTNERS = {  # a part that fits only with others
    ("data", "modular_tokens"): ["net=transformer"],
    ("net", "transformer"): ["data=modular_tokens"],
    ("data", "linear_teacher"): ["net=linear", "model=linear_estimator"],
    ("net", "linear"): ["data=linear_teacher", "model=linear_estimator"],
    ("model", "linear_estimator"): ["data=linear_teacher", "net=linear"],
    ("data", "two_layer_teacher"): ["net=two_layer", "model=two_layer_estimator"],
    ("net", "two_layer"): ["data=two_layer_teacher", "model=two_layer_estimator"],
    ("model", "two_layer_estimator"): ["data=two_layer_teacher", "net=two_layer"],
    ("data", "polynomial"): ["net.widths=[44,20,11]"],
    ("data", "mnist"): ["net=mnist_mlp"],
    ("data", "emnist"): ["net=mnist_mlp"],
    ("net", "ntk_mlp"): ["data=mnist"],
    ("ticket", "subnetwork"): ["ticket.method=random", "ticket.reset=own"],
    ("experiment", "minegishi_ticket"): ["ticket.method=random", "ticket.reset=own"],
    ("data", "unordered_pairs"): ["net=summed_embedding_mlp", "model=classification"],
    ("net", "summed_embedding_mlp"): ["data=unordered_pairs", "model=classification"],
    ("net", "bare_transformer"): ["data=unordered_pairs", "model=classification"],
    ("data", "quadratic_teacher"): ["net=committee"],
    ("net", "committee"): ["data=quadratic_teacher"],
    ("net", "centred_committee"): ["data=quadratic_teacher"],
    ("net", "linearised_committee"): ["data=quadratic_teacher"],
    ("model", "eigenvector"): ["data=quadratic_teacher", "net=committee"],
    ("net", "kernel_machine"): ["model=recursive_features", "measures=none"],
    ("model", "recursive_features"): ["net=kernel_machine", "measures=none"],
    ("data", "cifar10"): ["net=resnet18"],
    ("net", "resnet18"): ["data=cifar10"],
    ("net", "mnist_mlp"): ["data=mnist"],
    ("data", "equations"): ["net=decoder", "model=answers"],
    ("net", "decoder"): ["data=equations", "model=answers"],
    ("model", "answers"): ["data=equations", "net=decoder"],
    ("data", "teacher_student"): ["net=mnist_mlp"],
    ("data", "toy_groups"): ["net=embedding_decoder", "model=templates"],
    ("net", "embedding_decoder"): ["data=toy_groups", "model=templates"],
    ("model", "templates"): ["data=toy_groups", "net=embedding_decoder"],
    ("model", "penalised_templates"): ["data=toy_groups", "net=embedding_decoder"],
    ("data", "imdb"): ["net=lstm", "model=binary"],
    ("net", "lstm"): ["data=imdb", "model=binary"],
    ("model", "binary"): ["data=imdb", "net=lstm"],
    ("data", "qm9"): ["net=molecule"],
    ("net", "molecule"): ["data=qm9"],
    ("data", "composition"): ["net=gpt2", "model=next_token"],
    ("data", "comparison"): ["net=gpt2", "model=next_token"],
    ("net", "gpt2"): ["data=composition", "model=next_token"],
    ("model", "next_token"): ["data=composition", "net=gpt2"],
}
WHERE = {"optimizer": "optimizer@model.optimizer"}


@pytest.fixture(scope="module", autouse=True)
def _targets():
    """Read once: a command reads them once."""
    found = present_targets()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("grokscope.app.run_settings.present_targets", lambda: found)
        yield


@pytest.fixture(autouse=True)
def _hydra():
    GlobalHydra.instance().clear()
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield


def composed(*overrides: str) -> DictConfig:
    config = compose("train", overrides=[*overrides, "paths.run_dir=run", "name=test"])
    OmegaConf.resolve(config)
    return config


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=lambda value: value)
def test_every_choice_composes_and_builds(group: str, choice: str, tmp_path: Path) -> None:
    pytest.importorskip({"tensorboard": "tensorboard"}.get(choice, "torch"))
    overrides = PARTNERS.get((group, choice), [])
    if group not in ("experiment", "debug"):
        overrides = ["experiment=none", *overrides]
    parts = composed(f"{WHERE.get(group, group)}={choice}", *overrides)
    assert_stored_settings_may_be_built(parts, tmp_path)
    try:
        built = build(parts)
    except UserError as error:
        missing = {"gpu": "gpu backend", "mps": "MPS"}.get(choice)
        if missing and missing in str(error):
            pytest.skip(f"this machine has no such device: {error}")
        raise
    assert built.trainer.max_epochs == parts.trainer.max_epochs


def assert_stored_settings_may_be_built(config: DictConfig, folder: Path) -> None:
    """``config.yaml`` is held against names and types of the constructors."""
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config), encoding="utf-8")
    found = run_settings(folder)
    for key in ("data", "net", "model", "measures", "schedule"):
        assert found[key] == config[key]


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_file_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    head = [line for line in text.splitlines() if not line.startswith("# @package")]
    constructor = any(
        line.startswith(("_target_", "csv:", "tensorboard:", "gop:")) for line in head
    )
    assert (
        head[0].startswith("#")
        or constructor
        or path.parent.name in {"paths", "trainer", "logger"}
    )


NUMBER_KEYS = ("d_", "n_", "lr", "modulus", "train_fraction", "max_epochs", "scale", "l2", "ratio")


@pytest.mark.parametrize(
    "path", sorted((CONFIGS / "experiment").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_number_of_an_experiment_cites_its_source(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.stem == "none":
        return
    cited = "arXiv" in text or "[code]" in text or "- " in text.partition("defaults:")[2]
    assert cited, "no source named"
    if "our choice" in text.partition("defaults:")[0]:
        return
    for line in text.splitlines():
        key = line.strip().partition(":")[0]
        if (
            line.startswith("  ")
            and key.startswith(NUMBER_KEYS)
            and not line.strip().endswith(":")
        ):
            assert "#" in line, f"{path.name}: {line.strip()!r} cites nothing"
