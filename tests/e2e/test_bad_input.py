"""Every mistake is one line on stderr and exit code 1; nothing is written, nothing is trained."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.refusal
FILES = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte"
GRAMMAR = "'every N', 'log POINTS_PER_DECADE', 'at E1 E2 ...'"

MISSPELT = [
    ("data.train_fracton=0.4", "data.train_fracton is not a setting", "data.train_fraction?"),
    ("trainer.max_epoch=5", "trainer.max_epoch is", "did you mean trainer.max_epochs?"),
    ("model.optimizer.lrr=1", "model.optimizer.lrr", "did you mean model.optimizer.lr?"),
    ("sede=3", "sede is not a setting", "did you mean seed"),
    ("+seed2=1", "seed2 is not a setting", "did you mean seed"),
    ("++sede=1", "sede is not a setting", "did you mean seed"),
    ("+schedule.foo=1", "schedule.foo is not a setting"),
    ("+data.foo=1", "data.foo is not a setting of ModularDataModule"),
    (
        "experiment=thilak_small|optimizer@model.optimizer=sgd",
        "model.optimizer.betas is not a setting of SGD; to leave out what it has not: "
        "'~model.optimizer.betas'",
    ),
    ("+trainer.max_epoch=5", "trainer.max_epoch is not", "did you mean trainer.max_epochs?"),
    ("paths.run_dir=out", "paths.run_dir must be left out, got out: type hydra.run.dir"),
    ("hydra.run.dirr=1", "hydra.run.dirr", "did you mean hydra.run.dir"),
    ("exprmnt=nanda", "exprmnt is not a setting", "did you mean experiment?"),
    ("optimizer=sgd", "optimizer is not", "did you mean optimizer@model.optimizer?"),
    ("experiment=nandaa", "experiment must be one of", "'nandaa'", "did you mean nanda or"),
    ("trainer=gpuu", "trainer must be one of cpu, ddp, gpu, mps", "did you mean gpu?"),
    ("logger=wandbb", "logger must be one of csv, none", "'wandbb'", "did you mean wandb"),
    ("data=modular_adition", "data must be one of", "did you mean modular_addition"),
    ("optimizer@model.optimizer=sgdd", "optimizer@model.optimizer must be", "mean sgd?"),
    ("data=null", "a group must be the name of one of its choices", "data=null"),
    ("+experiment=nanda", "experiment has a value already", "without +"),
    ("+data.modulus=7", "data.modulus has a value already: write data.modulus=... once"),
    ("+seed=1", "seed has a value already", "without +"),
    ("+trainer=cpu", "trainer has a value already", "without +"),
    ("+optimizer@model.optimizer=sgd", "optimizer@model.optimizer has a value already"),
    ("~nothing", "nothing is not a setting"),
    ("~data.modulu", "data.modulu is not a setting", "did you mean data.modulus"),
    ("~seed=5", "seed is 0 and not 5: ~seed leaves it out"),
    ("~logger", "logger must be there", "logger=none"),
    ("~trainer.max_epochs", "trainer.max_epochs must be an integer", "got None"),
    (
        "optimizer@model.optimizer=sgd|+model.optimizer.betas=[0.9,0.98]",
        "model.optimizer.betas is not a setting of SGD; to leave out what it has not",
    ),
]
SHAPE = [
    ("seed", "'seed' cannot be read: write key=value"),
    ("data.modulus=[1", "'data.modulus=[1' cannot be read", "lists as [1,2]"),
    ("seed=0,1", "seed=0,1 holds several values", "--multirun"),
    ("--multirunn", "unrecognized arguments: --multirunn", "--help"),
    ("--multirun --cfg job", "only one of --multirun and --cfg"),
    ("seed=${foo}", "'foo' not found"),
    ("paths.log_dir=out/lr=0.1", "cannot be read", "quote what has blanks, commas or '='"),
]
NUMBERS = [
    ("data.modulus=1", "data.modulus must be an integer >= 2", "got 1."),
    ("data.modulus=abc", "data.modulus must be an integer", "got 'abc'"),
    ("data.modulus=2.5", "data.modulus must be an integer", "got 2.5"),
    ("data.train_fraction=0", "data.train_fraction must be a number > 0 and < 1", "got 0."),
    ("data.train_fraction=1.5", "data.train_fraction must be", "got 1.5"),
    ("data.train_fraction=nan", "data.train_fraction must be", "got nan"),
    ("data.batch_size=0", "data.batch_size must be an integer >= 1", "got 0."),
    ("experiment=mallinar_small|data.batch_size=9", "data.batch_size must be null", "got 9"),
    ("data.batch_size=99999", "data.batch_size must be at most the", "or null", "got 99999"),
    ("model.optimizer.lr=-1", "model.optimizer.lr must be a number > 0", "got -1"),
    ("model.optimizer.lr=0", "model.optimizer.lr must be a number > 0", "got 0."),
    ("model.optimizer.weight_decay=-1", "model.optimizer.weight_decay must be", ">= 0", "got -1"),
    ("model.optimizer.betas=[0.9,2]", "model.optimizer.betas[1] must be", "< 1", "got 2"),
    ("measures.kinds=[bogus]", "measures.kinds must be one of batch, weight", "got 'bogus'"),
    ("measures.kinds=batch", "measures.kinds must be a list", "got 'batch'"),
    ("measures.top_k=0", "measures.top_k must be an integer >= 1", "got 0."),
    ("measures.rank_threshold=2", "measures.rank_threshold must be", "< 1", "got 2"),
    ("thresholds.train=2", "thresholds.train must be", "<= 1", "got 2"),
    ("trainer.max_epochs=0", "trainer.max_epochs must be an integer >= 1", "got 0."),
    ("trainer.max_epochs=-3", "trainer.max_epochs must be an integer >= 1", "got -3"),
    ("trainer.max_epochs=ten", "trainer.max_epochs must be an integer >= 1", "got 'ten'"),
    ("trainer.precision=12", "trainer.precision must be one of 32-true", "got 12"),
    ("trainer.devices=0", "trainer.devices=0"),
    ("+trainer.gradient_clip_val=1", "trainer.gradient_clip_val must not be set", "got 1"),
    ("seed=-1", "seed must be an integer >= 0", "got -1"),
    ("threads=0", "threads must be an integer >= 1", "got 0."),
    ("name=../up", "name must be a plain folder name", "got '../up'"),
    ("name=", "name must be a plain folder name", "got ''"),
    ("paths.log_dir=null", "paths.log_dir must be a folder", "got None"),
    ("paths.log_dir=/dev/null/x", "paths.log_dir must be a folder", "/dev/null is a file"),
    ("trainer.max_epochs=1e30", "trainer.max_epochs must be an integer >= 1", "got 1e+30"),
    (f"trainer.max_epochs={2**63}", "trainer.max_epochs must be", f"<= {10**12}"),
    (f"model.optimizer.lr={'9' * 400}", "model.optimizer.lr must be a number > 0", "999"),
    ("threads=1000000", "threads must be an integer >= 1 and <= 1024", "got 1000000"),
    ("trainer.devices=100000", "trainer.devices must be an integer >= 1 and <=", "got 100000"),
    ("+trainer.strategy=ddp_spawn", "trainer.strategy must be auto, ddp", "got 'ddp_spawn'"),
    ("measures.kinds=[batch,batch]", "measures.kinds must hold each kind once"),
    (f"name={'n' * 300}", "name must be a plain folder name of at most 200 bytes"),
    ("hydra.run.dir=/dev/null", "hydra.run.dir must be a folder", "/dev/null is a file"),
    (
        "hydra.run.dir=/proc|storage.on_too_large=warn",
        "hydra.run.dir must be a folder to write into, got /proc",
    ),
    ("hydra.run.dir=", "hydra.run.dir must be a folder, got ''"),
    ("hydra.run.dir=null", "hydra.run.dir=null cannot be set"),
    ("hydra.sweep.dir=x", "hydra.sweep.dir must be left out without --multirun"),
    ("hydra/launcher=slurm", "hydra/launcher must be left out without --multirun"),
    ("hydra.job.chdir=true", "hydra.job.chdir must be false", "got True"),
    ("hydra.output_subdir=../x", "hydra.output_subdir must be a plain folder name", "'../x'"),
]
SCHEDULES = [
    ("schedule.batch=every 0", f"schedule.batch must be {GRAMMAR}", "got 'every 0'"),
    ("schedule.batch=sometimes", f"schedule.batch must be {GRAMMAR}", "got 'sometimes'"),
    ("schedule.factor=at", f"schedule.factor must be {GRAMMAR}", "got 'at'"),
    ("schedule.batch=every 1e30", f"schedule.batch must be {GRAMMAR}", "got 'every 1e30'"),
    (f"schedule.batch=every {10**30}", f"schedule.batch must be {GRAMMAR}", "<= 1000000000000000"),
    ("schedule.batch=log 1000000000", f"schedule.batch must be {GRAMMAR}", "<= 10000"),
    ("schedule.checkpoint=bla", f"schedule.checkpoint must be {GRAMMAR}", "got 'bla'"),
    ("schedule.weight=at 50|trainer.max_epochs=10", "schedule.weight must", "max_epochs=10", "50"),
    ("schedule.checkpoint=at 50|trainer.max_epochs=10", "schedule.checkpoint must", "max_epochs"),
]
NETS = [
    ("net.activation=sextic", "net.activation must be one of relu", "got 'sextic'"),
    ("net.widths=[94]", "net.widths must", "got [94]"),
    ("net.widths=5", "net.widths must", "got 5"),
    ("net.widths=[10,5,3]", "net.widths=[10, 5, 3] must fit the data", "inputs have"),
    ("data.modulus=5|net.widths=[10,9,4]", "net.widths=[10, 9, 4] must fit", "5 classes"),
    ("data.encoding=tokens", "must fit the data", "int64"),
    ("experiment=nanda|net.context=2", "net.context=2 must fit", "3 values (int64, 0 to 113)"),
    ("experiment=levi|model.optimizer.momentum=0.9", "model.optimizer must be SGD", "0.9"),
    ("model.loss=null", "model.loss must build a Loss", "got None"),
    ("experiment=nanda|model.scheduler.steps=0", "model.scheduler.steps must be", "got 0"),
]
ELSEWHERE = [
    ("experiment=omnigrok|data.download=false|data.data_dir=here", FILES, "in here"),
    ("experiment=omnigrok|data.n_train=0", "data.n_train must be an integer >= 1", "got 0."),
    ("ckpt_path=missing.ckpt", "ckpt_path must be 'last' or a checkpoint file", "'missing.ckpt'"),
    ("ckpt_path=best", "ckpt_path must be 'last' or a checkpoint file", "got 'best'"),
    (f"ckpt_path={'x' * 300}", "ckpt_path must be 'last' or a checkpoint file"),
    ("ckpt_path=last", "ckpt_path=last needs a run", "logs/runs/quickstart"),
    ("callbacks.gop=3", "callbacks.gop must have a _target_", "got 3"),
]
SWEEPS = [
    ("--multirun|seed=0,1|data.modulus=1", "data.modulus must be an integer", "got 1."),
    ("--multirun|data.modulus=47,1", "data.modulus must be an integer", "got 1."),
    ("--multirun|net.activation=relu,sextic|seed=0,1", "net.activation must be", "got 'sextic'"),
    ("--multirun|seed=range(0,0)", "seed=range(0,0) holds no value"),
    ("--multirun|seed=0,1|hydra.run.dir=x", "hydra.run.dir must be left out with --multirun"),
    ("--multirun|seed=0,1|hydra.sweep.dir=/dev/null", "hydra.sweep.dir must be a folder"),
    ("--multirun|sede=0,1", "sede is not a setting", "did you mean seed"),
    ("--multirun|experiment=none,nandaa", "experiment must be one of", "'nandaa'"),
]
CASES = MISSPELT + SHAPE + NUMBERS + SCHEDULES + NETS + ELSEWHERE + SWEEPS


def assert_refused(result, *fragments: str, files: set[str] = frozenset()) -> None:
    assert result.err.startswith("error: "), result.err
    assert result.err.endswith("\n")
    assert result.err.count("\n") == 1, result.err
    for fragment in fragments:
        assert fragment in result.err
    assert result.code == 1
    assert result.out == ""
    assert result.files == files


@pytest.mark.parametrize(("arguments", "fragments"), [(c[0], c[1:]) for c in CASES])
def test_a_mistake_is_one_line_and_makes_nothing(command, arguments, fragments):
    words = arguments.split("|") if "|" in arguments else [arguments]
    if words[0].startswith("--multirun "):
        words = words[0].split()
    assert_refused(command("train", *words), *fragments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_named(command):
    assert_refused(command("train", "trainer=gpu"), "trainer.accelerator must be", "got 'gpu'")


def test_wandb_without_a_key_is_refused(command, monkeypatch, tmp_path):
    wandb = pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    result = command("train", "logger=wandb")
    wandb.teardown()  # it keeps settings for the process
    assert_refused(result, "logger.wandb must have an API key", "logger=wandb_offline")


@pytest.mark.parametrize(
    ("script", "arguments", "fragments"),
    [
        ("train", ["data.train_fracton=0.4"], ["did you mean data.train_fraction?"]),
        ("train", ["--multirun", "seed=0,1", "data.modulus=1"], ["data.modulus", "got 1."]),
        ("eval", ["run=nowhere"], ["run must be a run folder, got nowhere"]),
    ],
)
def test_a_real_process_says_one_line(tmp_path, script, arguments, fragments):
    done = subprocess.run(
        [sys.executable, ROOT / "src" / f"{script}.py", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"},
    )
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert all(fragment in done.stderr for fragment in fragments)
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (1, "", [])


def test_a_traceback_comes_when_it_is_asked_for(command, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    result = command("train", "data.modulus=1")
    assert "Traceback" in result.err
    assert "error: data.modulus must be" in result.err.splitlines()[-1]


class Payload:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def _text(path: Path) -> None:
    path.write_text("not a checkpoint\n")


def _tensors(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


def _payload(path: Path) -> None:
    torch.save({"state_dict": Payload()}, path)


def _raw_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload()))


def _cut(path: Path) -> None:
    _tensors(path)
    path.write_bytes(path.read_bytes()[:200])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flipped_bit(path: Path) -> None:
    torch.save({"weight": torch.zeros(1000)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # in the tensor's numbers
    path.write_bytes(content)


def _compressed(path: Path) -> None:
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))


def _class_to_build(path: Path) -> None:
    keys = ("state_dict", "epoch", "global_step", "loops", "optimizer_states")
    torch.save({key: {} for key in keys} | {"hyper_parameters": {"_target_": "os.mkdir"}}, path)


def _other_entries(path: Path) -> None:
    keys = ("state_dict", "epoch", "global_step", "loops", "optimizer_states")
    torch.save(dict.fromkeys(keys, 3), path)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_text, "not one"),
        (_tensors, "no epoch, global_step, loops"),
        (_payload, "more than tensors"),
        (_raw_pickle, "not one"),
        (_cut, "not one"),
        (_empty, "it cannot be read"),
        (_flipped_bit, "its part"),
        (_compressed, "it is compressed"),
        (_class_to_build, "it names a class to build"),
        (_other_entries, "its entries are not those of a run"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_file_that_is_no_checkpoint_is_refused_unexecuted(command, tmp_path, make, why):
    make(tmp_path / "x.ckpt")
    result = command("train", "ckpt_path=x.ckpt")
    assert_refused(
        result, "ckpt_path must be a checkpoint of a run, got x.ckpt", why, files={"x.ckpt"}
    )


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        (
            "net.widths=[14,8,7]",
            ["ckpt_path must hold this network", "layers.0.weight", "(8, 14)"],
        ),
        ("net.bias=true", ["ckpt_path must hold this network", "layers.0.bias has shape none"]),
        ("seed=3", ["seed must stay 0 when ckpt_path goes on with run, got 3"]),
        ("data.train_fraction=0.4", ["data.train_fraction must stay 0.5", "got 0.4"]),
        ("model.optimizer.lr=0.5", ["model.optimizer.lr must stay 0.01", "got 0.5"]),
        ("measures.top_k=3", ["measures.top_k must stay 100", "got 3"]),
        ("measures.kinds=[batch]", ["measures.kinds must stay ['batch', 'weight']", "['batch']"]),
        ("trainer.max_epochs=2", ["trainer.max_epochs must be more than the 2 epochs", "got 2"]),
        ("hydra.run.dir=run|ckpt_path=null", ["hydra.run.dir must not hold another run's rows"]),
    ],
)
def test_a_run_goes_on_only_as_it_began(command, tiny, run, override, fragments):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    settings = ["trainer.max_epochs=4", f"ckpt_path={run}/checkpoints/last.ckpt"]
    result = command("train", *tiny, *settings, *override.split("|"))
    assert_refused(result, *fragments, files=result.files)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def _foreign_target(run: Path) -> None:
    text = (
        (run / "config.yaml").read_text().replace("grokscope.data.ModularDataModule", "os.system")
    )
    (run / "config.yaml").write_text(text)


def _nested_target(run: Path) -> None:
    with (run / "config.yaml").open("a") as file:
        file.write("extra: [{deep: {_target_: os.mkdir, path: executed}}]\n")


def _broken_yaml(run: Path) -> None:
    (run / "config.yaml").write_text("data: [1\n")


def _no_config(run: Path) -> None:
    (run / "config.yaml").unlink()


def _no_data(run: Path) -> None:
    (run / "config.yaml").write_text("seed: 1\n")


@pytest.mark.parametrize(
    ("spoil", "fragments"),
    [
        (_foreign_target, ["data._target_ must name one of our own classes, got 'os.system'"]),
        (_nested_target, ["extra.0.deep._target_ must name one of our own", "'os.mkdir'"]),
        (_broken_yaml, ["run must have a readable config.yaml, got run/config.yaml"]),
        (_no_config, ["run must be a run folder, got run: no config.yaml there"]),
        (_no_data, ["data"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_foreign_run_is_refused_unexecuted(command, run, spoil, fragments):
    spoil(run)
    result = command("eval", f"run={run}")
    assert_refused(result, *fragments, files=result.files)
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ([], ["run must be a run folder: python src/eval.py run="]),
        (["run=run", "hydra.run.dir=/dev/null"], ["hydra.run.dir must be a folder"]),
        (["run=nowhere"], ["run must be a run folder, got nowhere: no config.yaml"]),
        (["runn=nowhere"], ["runn is not a setting; did you mean run?"]),
        (["run=run", "checkpoint=epoch_77"], ["checkpoint must be one of epoch_0", "epoch_77"]),
    ],
)
def test_evaluation_says_what_it_needs(command, run, arguments, fragments):
    result = command("eval", *arguments)
    assert_refused(result, *fragments, files=result.files)


def test_a_split_that_the_data_lack_is_named(command):
    result = command("train", "model.extra_splits=[other]")
    assert result.err == "error: model.extra_splits must be of none here, got 'other'.\n"
    assert result.code == 1
