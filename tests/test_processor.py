"""What is bit-equal, on any x86 processor: by our commands all, in library use the training."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from grokscope import processor
from grokscope.app.sweeps.slurm import SlurmTask
from grokscope.processor import (
    REPEATABLE,
    VARIABLE,
    arithmetic,
    make_products_repeatable,
    mkl_mode,
)

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "src").glob("*.py"))
MKL = torch.backends.mkl.is_available() and mkl_mode() is not None
needs_mkl = pytest.mark.skipif(not MKL, reason="this torch multiplies without MKL, or hides it")
x86 = pytest.mark.skipif(platform.machine().lower() not in processor.X86, reason="needs x86")


def python(*arguments: str, **variables: str) -> str:
    """What a fresh process prints, with ``MKL_CBWR`` as given or absent."""
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE} | variables
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- who sets it --------------------------------------------------------------------------------

WATCH_FOR_TORCH = """
import os, runpy, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            end("loads torch")

def end(how):
    sys.stderr.write(repr((os.environ.get("MKL_CBWR"), how)))
    sys.stderr.flush()
    os._exit(0)

sys.meta_path.insert(0, Watch())
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    end("never loads it")
"""


def set_by(script: Path, **variables: str) -> str | None:
    """``MKL_CBWR`` in a command at the moment when it loads torch."""
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE} | variables
    command = [sys.executable, "-c", WATCH_FOR_TORCH, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    value, how = eval(done.stderr)
    assert script.name == "report.py" or how == "loads torch"
    return value


@x86
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_command_sets_it_before_it_loads_torch(script: Path) -> None:
    assert set_by(script) == REPEATABLE


@pytest.mark.parametrize("value", ["", "COMPATIBLE"])
def test_a_value_of_the_user_stays(value: str, monkeypatch) -> None:
    assert set_by(SCRIPTS[-1], **{VARIABLE: value}) == value
    monkeypatch.setenv(VARIABLE, value)
    make_products_repeatable()
    assert os.environ[VARIABLE] == value


def test_no_other_processor_gets_it(monkeypatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    make_products_repeatable()
    assert VARIABLE not in os.environ


@x86
def test_a_slurm_job_sets_it_that_has_not_inherited_it(monkeypatch) -> None:
    """As with ``--export=NONE``."""
    monkeypatch.delenv(VARIABLE, raising=False)
    seen: list[str | None] = []
    work: Any = SimpleNamespace(do=lambda run: seen.append(os.environ.get(VARIABLE)))
    threads = torch.get_num_threads()
    SlurmTask(work, at_once=1)([object()])  # type: ignore[list-item]
    torch.set_num_threads(threads)
    assert seen == [REPEATABLE]


def test_importing_grokscope_leaves_the_environment_alone() -> None:
    rooms = sorted(p.name for p in (ROOT / "src" / "grokscope").iterdir() if p.suffix == "")
    modules = [f"grokscope.{room}" for room in rooms if room != "__pycache__"]
    code = f"""
import os, torch, lightning, hydra, numba, h5py, importlib
before = dict(os.environ)
import grokscope, grokscope.processor
for name in {[*modules, "grokscope.app.cli", "grokscope.app.training"]}:
    importlib.import_module(name)
assert grokscope.GOPCallback and grokscope.Run
print(sorted(name for name, _ in set(before.items()) ^ set(os.environ.items())))
"""
    assert python("-c", code).strip() == "[]"


# -- what holds then ----------------------------------------------------------------------------

COMMAND = "from grokscope.processor import make_products_repeatable as m; m(); import runpy; "


def measured(*command: str, **variables: str) -> tuple[str | None, dict[str, float]]:
    found = json.loads(python(*command, **variables))
    return found["mode"], found["apart"]


@needs_mkl
def test_by_our_commands_nothing_depends_on_its_place_in_memory() -> None:
    run = f"runpy.run_path({str(ROOT / 'tests' / 'alignment.py')!r}, run_name='__main__')"
    mode, apart = measured("-c", COMMAND + run)
    assert mode == REPEATABLE
    assert [name for name, difference in apart.items() if difference] == []


@needs_mkl
@pytest.mark.parametrize(
    "value",
    [
        "AVX2,STRICT",
        *(pytest.param(v, marks=pytest.mark.slow) for v in ("AUTO", "AVX2", "AVX512,STRICT")),
    ],
)
def test_nor_with_another_mode_of_mkl(value: str) -> None:
    """On a processor that has no such branch it is AUTO, which the mode in effect shows."""
    mode, apart = measured(str(ROOT / "tests" / "alignment.py"), MKL_CBWR=value)
    branch, *strict = value.split(",")
    assert mode in {",".join([name, *strict]) for name in ("AUTO", branch)}
    assert [name for name, difference in apart.items() if difference] == []


@needs_mkl
@pytest.mark.parametrize(
    "variables",
    [pytest.param({}, id="absent"), pytest.param({VARIABLE: ""}, marks=pytest.mark.slow)],
)
def test_without_a_mode_results_differ_by_rounding_at_most(variables: dict[str, str]) -> None:
    """The weaker promise of library use; eigenvectors of close eigenvalues amplify it."""
    mode, apart = measured(str(ROOT / "tests" / "alignment.py"), **variables)
    assert mode == "off"
    for name, difference in apart.items():
        eps = 2.0**-23 if name.endswith("float32") else 2.0**-52
        assert difference < (3e4 if name.startswith("eigh") else 300) * eps, name


TRAINING = """
import sys, lightning, torch
from torch.utils.data import DataLoader, TensorDataset
from grokscope import GOPCallback, Run
from grokscope.models import GrokkingModule

class Regression(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = [torch.nn.Linear(7, 31), torch.nn.Tanh(), torch.nn.Linear(31, 3)]
        self.net = torch.nn.Sequential(*layers).double()
    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())

def weights(*callbacks):
    data = TensorDataset(x, x[:, :3])
    trainer = lightning.Trainer(
        max_epochs=8, callbacks=list(callbacks), logger=False, enable_checkpointing=False,
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
    )
    model = Regression()
    trainer.fit(model, DataLoader(data, batch_size=9))
    return [p.detach() for p in model.parameters()]

x = torch.randn(30, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
plain = weights()
for name in ("one", "two"):
    observed = weights(GOPCallback(output_dir=f"{sys.argv[1]}/{name}"))
    assert all(map(torch.equal, plain, observed))
one, two = (Run.open(f"{sys.argv[1]}/{name}").metrics for name in ("one", "two"))
for name in ("gop/weight/eigenvalues_top_k", "gop_trace"):
    pair = map(torch.as_tensor, (one[name], two[name]))
    torch.testing.assert_close(*pair, rtol=1e-11, atol=1e-13)
"""


def test_in_library_use_training_is_bit_equal_and_measures_are_up_to_rounding(tmp_path) -> None:
    python("-W", "ignore", "-c", TRAINING, str(tmp_path))


# -- what is recorded ---------------------------------------------------------------------------


@needs_mkl
def test_the_tests_of_bit_equality_run_as_the_commands_do() -> None:
    """pytest's own process, where no variable of the user says otherwise."""
    expected = {"": "off", REPEATABLE: REPEATABLE}
    asked = os.environ[VARIABLE]
    assert mkl_mode() == expected.get(asked, mkl_mode())


def test_the_values_in_effect_are_told(monkeypatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    found = arithmetic()
    assert found["environment"]["OPENBLAS_CORETYPE"] == "Haswell"
    assert "ONEDNN_MAX_CPU_ISA" not in found["environment"]
    assert found["vectors"] == torch.backends.cpu.get_cpu_capability()
    assert found["threads"] == torch.get_num_threads()
    assert found["processor"]
    json.dumps(found)


def test_they_are_told_without_loading_torch() -> None:
    code = (
        "import sys; from grokscope.processor import arithmetic; found = arithmetic(); "
        "assert 'torch' not in sys.modules; print(sorted(found))"
    )
    assert python("-c", code).strip() == "['environment', 'processor']"


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (1, "off"),
        (0x10002, "AUTO,STRICT"),
        (10, "AVX2"),
        (0x1000E, "AVX512_E1,STRICT"),
        (-2, None),
    ],
)
def test_a_mode_is_named_as_mkl_names_it(mode: int, words: str | None) -> None:
    assert processor._in_words(mode) == words


def test_a_torch_that_hides_its_mkl_is_no_error(monkeypatch) -> None:
    monkeypatch.setattr(processor, "_torch_library", lambda package: package / "none.so")
    assert mkl_mode() is None


def recorded(log_dir: Path) -> list[str | None]:
    infos = sorted(log_dir.rglob("run.json"))
    return [json.loads(path.read_text())["arithmetic"]["mkl"] for path in infos]


SMALL = ("data.modulus=5", "net.widths=[10,4,5]", "trainer.max_epochs=2", "threads=1")


@needs_mkl
def test_every_process_of_a_sweep_computes_in_that_mode(tmp_path) -> None:
    """run.json has it, of MKL itself: two runs side by side, in processes of their own."""
    train = (str(ROOT / "src" / "train.py"), "experiment=quickstart", *SMALL)
    where = (f"paths.log_dir={tmp_path}", "--multirun", "seed=0,1")
    python(*train, *where, "hydra.launcher.runs_at_once=2")
    assert recorded(tmp_path) == [REPEATABLE] * 2
