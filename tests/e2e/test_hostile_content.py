"""What a stranger's run says in its files: one line that names the file, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

MORE = ("trainer.max_epochs=4", "report=false", "run=run")


def assert_one_line(done, *words: str) -> None:
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert "traceback" not in done.err
    for word in words:
        assert word in done.err


def change(content: dict[str, Any], key: str, value: Any) -> None:
    *names, last = key.split(".")
    node: Any = content
    for name in names:
        node = node[int(name) if name.isdecimal() else name]
    node[int(last) if last.isdecimal() else last] = value


CHANGES = {
    "optimizer_states.0": "x",
    "optimizer_states": [{}],
    "optimizer_states.0.param_groups": [],
    "optimizer_states.0.param_groups.0.lr": "x",
    "optimizer_states.0.param_groups.0.betas": 3,
    "optimizer_states.0.param_groups.0.amsgrad": True,
    "optimizer_states.0.state.0.exp_avg": torch.zeros(3),
    "optimizer_states.0.state.0.step": "x",
    "optimizer_states.0.state": "x",
    "lr_schedulers": None,
    "callbacks": "x",
    "pytorch-lightning_version": None,
    "loops.fit_loop.state_dict": "x",
}


@pytest.mark.refusal
@pytest.mark.parametrize("key", CHANGES)
def test_a_checkpoint_with_other_entries_is_named(command, tiny, run, key):
    path = run / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    change(content, key, CHANGES[key])
    torch.save(content, path)
    for other in path.parent.glob("epoch_*"):
        other.unlink()
    assert_one_line(command("train", *tiny, *MORE), "ckpt_path must be a checkpoint", "last.ckpt")


@pytest.mark.refusal
def test_a_mistake_of_the_user_is_not_blamed_on_the_checkpoint(command, tiny, run, monkeypatch):
    monkeypatch.syspath_prepend(Path.cwd())
    Path("mine_fails.py").write_text(
        "from lightning import Callback\n"
        "class Fails(Callback):\n"
        "    def on_train_start(self, trainer, module):\n"
        "        raise KeyError('mine')\n"
    )
    done = command("train", *tiny, *MORE, "+callbacks.mine={_target_:mine_fails.Fails}")
    assert done.code == 1
    assert done.err.startswith("error: KeyError: 'mine' (")
    assert "ckpt_path" not in done.err


@pytest.mark.refusal
@pytest.mark.parametrize("option", ["--config-dir", "--config-path", "searchpath"])
@pytest.mark.parametrize("below", ["", ".hydra", "configs/deep"])
@pytest.mark.parametrize("script", ["eval", "train"])
def test_a_run_s_folder_is_no_folder_of_configurations(command, tiny, run, script, option, below):
    folder = (run / below).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    evil = "net: {init_std: {_target_: numpy.savetxt, fname: written, X: [1.0]}}\n"
    (folder / "evil.yaml").write_text(evil)
    typed = f"hydra.searchpath=[file://{folder}]"
    options = [typed] if option == "searchpath" else [option, str(folder)]
    more = (f"run={run}",) if script == "eval" else (*tiny, "trainer.max_epochs=1")
    assert_one_line(command(script, *options, *more), "must", str(folder), "a run's")
    assert not Path("written").exists()


def test_a_folder_beside_runs_may_have_configurations(command, tiny, run):
    Path("mine/experiment").mkdir(parents=True)
    Path("mine/experiment/small.yaml").write_text("# @package _global_\nseed: 3\n")
    more = ("trainer.max_epochs=1", "report=false", "measures=none")
    done = command("train", "--config-dir", "mine", *tiny[1:], "experiment=small", *more)
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a[/b]c", "[red]x", "\u202ex"])
def test_the_name_of_a_run_commands_no_terminal(command, run, name):
    Path(name).parent.mkdir(exist_ok=True)
    run.rename(name)
    done = command("eval", f"run='{name}'")
    assert (done.code, done.err) == (0, "")
    page = command("report", f"run='{name}'")
    assert (page.code, page.err) == (0, "")
    for said in (done.out, page.out):
        assert "\x1b" not in said
        assert "\u202e" not in said
    assert name.isprintable() is (name in done.out)
    assert Path(name, "report.html").exists()


@pytest.mark.refusal
@pytest.mark.parametrize("output", ["[a,b]", "{a:b}", "3"])
def test_an_output_is_the_name_of_a_file(command, run, output):
    before = set(os.listdir())
    assert_one_line(command("report", f"run={run}", f"output={output}"), "output must be")
    assert set(os.listdir()) == before


@pytest.mark.refusal
def test_settings_that_cannot_be_built_name_the_run(command, run):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text("data: x\n" + text.partition("\ndata:")[0])
    assert_one_line(command("eval", f"run={run}"), str(run))


def test_a_table_of_zeros_without_end_is_not_read(command, tiny, run):
    path = run / "metrics.csv"
    os.truncate(path, 2**40)
    done = command("train", *tiny, *MORE)
    assert (done.code, done.err) == (0, "")
    assert path.stat().st_size < 10_000
    assert [line.split(",")[0] for line in path.read_text().splitlines()][1:] == list("01234")
