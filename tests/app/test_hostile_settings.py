"""Settings of a stranger that try to run code or to write a file: each is refused in one line."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import entry
import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from grokscope.app import run_settings as module
from grokscope.app import targets
from grokscope.app.cli import register_resolvers
from grokscope.app.errors import UserError
from grokscope.app.run_settings import run_settings
from grokscope.app.targets import present_targets

CONFIGS = entry.ROOT / "configs"
MARKER = "executed"
TINY = ["experiment=none", "data.modulus=7", "net.widths=[14,16,7]", "seed=0", "name=x"]
LOAD = "{_target_: numpy.load, file: payload.npy, allow_pickle: true}"
CREATE = "{oc.create:" + LOAD + "}"

LOOKED_UP = {
    "the issue's": rf'data: "\x24{CREATE}"',
    "u": rf'data: "\u0024{CREATE}"',
    "U": rf'data: "\U00000024{CREATE}"',
    "the brace too": r'data: "\x24\x7b' + CREATE[1:] + '"',
    "as it is": f'data: "${CREATE}"',
    "single quotes": f"data: '${CREATE}'",
    "no quotes": "name: ${oc.env:HOME}",
    "over two lines": f'data: "$\\\n  {CREATE}"',
    "literal block": f"data: |\n  ${CREATE}\n",
    "folded block": f"data: >-\n  ${CREATE}\n",
    "in a list": rf'net: [1, ["\x24{CREATE}"]]',
    "deep": rf'measures: {{progress: {{x: "\x24{CREATE}"}}}}',
    "a key": r'data: {"\x24{oc.env:HOME}": 1}',
    "a key with a question mark": 'data:\n  ? "\\x24{name}"\n  : 1',
    "an anchor": rf'zzz: &a "\x24{CREATE}"' + "\ndata: *a",
    "merged": r'zzz: &a {_target_: "\x24{name}"}' + "\ndata: {<<: *a}",
    "merged from a list": rf'zzz: [&a {{b: "\x24{CREATE}"}}]' + "\ndata: {<<: [*a, *a]}",
    "a target": r'net: {_target_: "\x24{name}"}',
    "a part of a text": r'name: "x\x24{seed}y"',
    "escaped": r'name: "\\\x24{oc.env:HOME}"',
    "nested": r'name: "\x24{oc.decode:\x24{oc.env:HOME}}"',
    "no end": r'name: "\x24{"',
    "relative": r'net: {seed: "\x24{..seed}"}',
    "decoded": r'data: "\x24{oc.decode:\"{_target_: os.system}\"}"',
    "our resolver": r'data: "\x24{times:2,3}"',
    "of folders": r'name: "\x24{run_folder:executed,x,null}"',
    "of hydra": r'name: "\x24{hydra:runtime.output_dir}"',
    "where nobody looks": r'zzz: {a: [{b: "\x24{c}"}]}',
    "missing": 'data: "???"',
    "a tag": f"data: !!python/object/apply:os.mkdir [{MARKER}]",
    "a tag of a path": "data: !!python/object/apply:pathlib.Path [a]",
    "a pickled tag": "data: !!binary gASVAAAA",
}

MKDIR = "{name: executed, path: executed, args: [executed]}"
FOREIGN = (
    *("os.mkdir", "os.system", "posix.mkdir", "subprocess.run", "builtins.eval", "builtins.exec"),
    *("hydra.utils.instantiate", "hydra.utils.call", "hydra.utils.get_method"),
    *("functools.partial", "importlib.import_module", "numpy.load", "torch.load", "pickle.load"),
    *("cloudpickle.loads", "yaml.unsafe_load", "shutil.rmtree", "logging.os.mkdir"),
    *("omegaconf.OmegaConf.create", "omegaconf.OmegaConf.save", "pathlib.Path.mkdir"),
    *("grokscope.app.cli.run", "grokscope.app.training.train", "grokscope.app.folders.claim"),
    *("grokscope.data.download.download", "grokscope.store.info.update_info"),
    *("grokscope.nets.mlp.torch.load", "grokscope.nets.mlp.MLP", "grokscope.nets.transformer"),
    *("grokscope.app.hooks.Validate", "hydra_plugins.grokscope_launchers.LocalLauncher"),
    *("grokscope.nets.doshi_std", "grokscope.data.ModularDataModule", "lightning.Trainer"),
    *('" grokscope.nets.MLP"', '"grokscope.nets.MLP\\n"', "Grokscope.nets.MLP"),
    *("grokscope.nets.mlp", "grokscope..nets.MLP", '"grokscope.nets.MLP\\u200b"', "[os.mkdir]"),
    *("{a: os.mkdir}", "null", "1", '""', "__main__.x", "grokscope.nets.MLP.__init__"),
)
CALL = "{_target_: os.mkdir, path: executed}"
ELSEWHERE = {
    "the whole": "_target_: os.mkdir\npath: executed",
    "in widths": "net: {_target_: grokscope.nets.MLP, widths: [%s]}",
    "in init_std": "net: {_target_: grokscope.nets.MLP, widths: [14, 7], init_std: %s}",
    "in seed": "data: {_target_: grokscope.data.ModularDataModule, seed: %s}",
    "loss": "model: {_target_: grokscope.models.GrokkingModule, loss: %s}",
    "accuracy": "model: {_target_: grokscope.models.GrokkingModule, accuracy: %s}",
    "optimizer": "model: {_target_: grokscope.models.GrokkingModule, optimizer: %s}",
    "scheduler": "model: {_target_: grokscope.models.GrokkingModule, scheduler: %s}",
    "after_step": "model: {_target_: grokscope.models.GrokkingModule, after_step: %s}",
    "settings of parameters": (
        "model: {_target_: grokscope.models.GrokkingModule, parameter_settings: {x: {lr: %s}}}"
    ),
    "learning rate": (
        "model: {_target_: grokscope.models.GrokkingModule, optimizer: "
        "{_target_: torch.optim.SGD, _partial_: true, lr: %s}}"
    ),
    "a measure": "measures: {progress: {x: %s}}",
    "its schedule": (
        "measures: {progress: {x: "
        "{_target_: grokscope.callbacks.families.norm.NetNorm, schedule: {a: %s}}}}"
    ),
    "kinds": "measures: {kinds: [%s]}",
    "a callback": "callbacks: {x: %s}",
    "a callback's measure": (
        "callbacks: {gop: {_target_: grokscope.callbacks.GOPCallback, progress: {x: %s}}}"
    ),
    "a logger": "logger: {x: %s}",
    "the trainer": "trainer: %s",
    "its plugins": "trainer: {_target_: lightning.Trainer, plugins: [%s]}",
    "a schedule": "schedule: {metrics: %s}",
    "thresholds": "thresholds: %s",
    "the ticket": "ticket: %s",
    "hydra's launcher": "hydra: {launcher: %s}",
    "its own callbacks": "hydra: {callbacks: {x: {_target_: grokscope.app.hooks.Validate}}}",
    "a key of nobody": "zzz: [[%s]]",
    "an anchor": "zzz: &a %s\nnet: *a",
    "merged": "zzz: &a %s\nnet: {<<: *a}",
    "a list": "data: [%s]",
    "seed": "seed: %s",
}

MLP = "net: {_target_: grokscope.nets.MLP, widths: [14, 16, 7], %s}"
DATA = "data: {_target_: grokscope.data.ModularDataModule, %s}"
ADAM = (
    "model: {_target_: grokscope.models.GrokkingModule, optimizer: {_target_: torch.optim.AdamW, "
    "%s}}"
)
RESERVED = {
    "args": MLP % "_args_: [executed]",
    "args of an optimizer": ADAM % "_partial_: true, _args_: [[1]]",
    "recursive": MLP % "_recursive_: false",
    "convert": MLP % "_convert_: object",
    "none": MLP % "_convert_: none",
    "partial net": MLP % "_partial_: true",
    "partial data": DATA % "_partial_: true",
    "partial loss": (
        "model: {_target_: grokscope.models.GrokkingModule, loss: "
        "{_target_: grokscope.models.losses.SquaredError, _partial_: true}}"
    ),
    "text": ADAM % '_partial_: "true"',
    "no": ADAM % "_partial_: false",
    "another": MLP % "_call_: os.mkdir",
    "outside of a call": "schedule: {_convert_: all, metrics: every 1}",
    "outside of one in data": "data: {_partial_: true, a: 1}",
    "outside in a list": "measures: {kinds: [{_args_: [1]}]}",
}
ARGUMENTS = {
    "unknown": MLP % "hook: executed",
    "of nobody": MLP % '"a.b": 1',
    "text for a list": "net: {_target_: grokscope.nets.MLP, widths: executed}",
    "a list for a number": DATA % "modulus: [7]",
    "text for a number": DATA % 'modulus: "7"',
    "truth for a number": DATA % "modulus: true",
    "a number for truth": MLP % "bias: 1",
    "a mapping for a number": DATA % "seed: {a: 1}",
    "the later argument": ADAM % "_partial_: true, params: [1]",
    "text for a rate": ADAM % "_partial_: true, lr: executed",
    "three betas": ADAM % "_partial_: true, betas: [0.1, 0.2, 0.3]",
    "a net for the model": "model: {_target_: grokscope.models.GrokkingModule, net: {a: 1}}",
    "the trainer's": "trainer: {_target_: lightning.Trainer, hook: executed}",
    "its precision": "trainer: {_target_: lightning.Trainer, precision: executed}",
    "like a path": DATA % "operation: /etc/passwd",
    "like a path upwards": DATA % "split: ../executed",
    "like a path at home": MLP % "activation: '~root'",
    "like another path": DATA % 'split: "..\\\\executed"',
    "a key that is a number": "schedule: {1: every 1}",
    "a key that is none": "zzz: {~: 1}",
    "a key that is true": "data: {yes: 1}",
    "no seed": "seed: ~",
    "a seed of text": "seed: executed",
    "a negative seed": "seed: -1",
    "a large seed": "seed: 4294967296",
    "threads": "threads: 1000000",
    "no threads": "threads: 0",
    "text for threads": "threads: executed",
}


def payloads() -> dict[str, str]:
    found = {f"looked up: {name}": text for name, text in LOOKED_UP.items()}
    found |= {f"names {name}": f"net: {{_target_: {name}, path: executed}}" for name in FOREIGN}
    found |= {f"elsewhere: {n}": t.replace("%s", CALL) for n, t in ELSEWHERE.items()}
    found |= {f"reserved: {name}": text for name, text in RESERVED.items()}
    return found | {f"argument: {name}": text for name, text in ARGUMENTS.items()}


PAYLOADS = payloads()


class Mkdir:
    def __reduce__(self) -> Any:
        return os.mkdir, (MARKER,)


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    """``config.yaml`` of a run."""
    GlobalHydra.instance().clear()
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", overrides=[*TINY, "paths.run_dir=run"])
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return plain


@pytest.fixture(scope="module")
def allowed():
    return present_targets()


@pytest.fixture
def run(tmp_path, monkeypatch, settings, allowed) -> Path:
    """A run in the working folder, with a pickle beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    monkeypatch.setattr(module, "present_targets", lambda: allowed)
    np.save("payload.npy", np.array([Mkdir()]), allow_pickle=True)
    folder = Path("run")
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    write(folder, settings)
    return folder


def write(folder: Path, settings: dict[str, Any], text: str = "") -> None:
    """The settings, with what the text has in place of their keys."""
    new = {line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()}
    old = yaml.safe_dump({k: v for k, v in settings.items() if k not in new})
    (folder / "config.yaml").write_text(f"{old}\n{text}\n", encoding="utf-8")


def test_there_are_many():
    assert len(PAYLOADS) > 100
    assert len(set(PAYLOADS.values())) == len(PAYLOADS)


def test_the_pickle_would_be_executed(run):
    with pytest.raises(AttributeError):  # of what it makes
        np.load("payload.npy", allow_pickle=True).item().x  # noqa: B018
    assert Path(MARKER).exists()


def test_settings_of_ours_are_taken(run, settings):
    found: Any = OmegaConf.to_container(run_settings(run), resolve=True)
    assert found["net"] == settings["net"]
    assert found["model"] == settings["model"]
    assert "paths" not in found


@pytest.mark.refusal
@pytest.mark.parametrize("name", PAYLOADS)
def test_it_is_refused_in_one_line(run, settings, name):
    write(run, settings, PAYLOADS[name])
    with pytest.raises(UserError) as caught:
        run_settings(run)
    assert "config.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert sorted(p.name for p in Path().iterdir()) == ["payload.npy", "run"]


STRONGEST = (
    *("looked up: the issue's", "looked up: merged", "looked up: decoded"),
    *("names os.mkdir", "names functools.partial", "elsewhere: in widths"),
    *("elsewhere: a measure", "reserved: args", "argument: like a path upwards"),
)


@pytest.mark.refusal
@pytest.mark.parametrize("command", ["eval run=run", "measure run=run measures=none"])
@pytest.mark.parametrize("name", STRONGEST)
def test_commands_refuse_it(run, settings, capsys, name, command):
    write(run, settings, PAYLOADS[name])
    for file in ("last", "epoch_0"):
        (run / "checkpoints" / f"{file}.ckpt").touch()
    with pytest.raises(SystemExit) as stop:
        entry.call(*command.split())
    said = capsys.readouterr()
    assert (stop.value.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert not Path(MARKER).exists()


@pytest.mark.refusal
@pytest.mark.parametrize("text", ["$\\\n{x}", "ünï $ {x}", "{x}", "$x", "$$", "$(id)", "`id`"])
def test_other_text_is_text(run, settings, text):
    write(run, settings | {"name": text})
    assert run_settings(run).name == text


@pytest.mark.parametrize(
    ("name", "key"),
    [("MNISTDataModule", "data_dir"), ("EMNISTDataModule", "mnist_dir")],
)
def test_paths_are_those_of_the_present_command(run, settings, name, key):
    os.mkfifo("pipe")
    data = {"_target_": f"grokscope.data.{name}", key: "pipe", "n_train": 5}
    write(run, settings | {"data": data, "ticket": {"run": "pipe", "control": "l1"}})
    assert run_settings(run).data[key] == "data"
    assert run_settings(run).ticket == {"control": "l1"}
    ours = OmegaConf.create({"paths": {"data_dir": "here"}})
    assert run_settings(run, ours).data[key] == "here"


def test_a_path_that_is_none_stays_none(run, settings):
    data = {"_target_": "grokscope.data.EMNISTDataModule", "data_dir": "x", "mnist_dir": None}
    write(run, settings | {"data": data})
    assert run_settings(run).data.mnist_dir is None


OWN = """
class Own:
    def __init__(self, root, n=1, operation="add", **others): ...
"""


@pytest.fixture
def own(run, monkeypatch, settings) -> Path:
    """A class of the user's, and his configuration folder."""
    Path("own_classes.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(Path().absolute()))
    monkeypatch.delitem(sys.modules, "own_classes", raising=False)
    monkeypatch.setattr(targets, "OURS", Path("configs"))
    monkeypatch.setattr(module, "present_targets", present_targets)
    shutil.copytree(CONFIGS, "configs")
    return Path("configs")


def data(folder: Path, settings: dict[str, Any], **arguments: Any) -> Any:
    write(folder, settings | {"data": {"_target_": "own_classes.Own", **arguments}})
    return run_settings(folder).data


def test_a_user_s_own_class_has_its_paths_from_his_folder(own, run, settings):
    (own / "data" / "own.yaml").write_text(
        "_target_: own_classes.Own\nroot: ${paths.data_dir}/own\noperation: a/b\n"
    )
    found = data(run, settings, root="/etc", n=2, operation="a/b", more=[1])
    assert found == {
        "_target_": "own_classes.Own",
        "root": "data/own",
        "n": 2,
        "operation": "a/b",
        "more": [1],
    }
    with pytest.raises(UserError, match=r"data\.operation must not look like a path, got 'c/d'"):
        data(run, settings, root="x", operation="c/d")
    with pytest.raises(UserError, match=r"data\.more_files must stand in the configuration file"):
        data(run, settings, root="x", more_files="a")


@pytest.mark.refusal
def test_a_class_of_nobody_s_folder_is_refused(own, run, settings):
    with pytest.raises(UserError, match=r"data\._target_ must name one of our own classes"):
        data(run, settings, root="x")
