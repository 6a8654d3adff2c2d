"""The examples in the documentation are true."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
from pathlib import Path

import entry
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OWN = "extending.md"  # its experiment is the reader's: tests/test_extending.py runs it
TRAIN = re.compile(r"python src/train\.py ([^`#\n]*)")
REPORT = re.compile(r"python src/report\.py ([^`#\n]*)")


def code(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[str]:
    pages = (page.read_text(encoding="utf-8") for page in PAGES if page.name != OWN)
    found = map(TRAIN.findall, pages)
    return sorted({c.strip() for group in found for c in group if "..." not in c})


def test_the_library_example_runs_as_printed(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    script, probe = code(ROOT / "docs" / "library.md")
    assert len(script.splitlines()) <= 35
    names: dict[str, object] = {}
    exec(compile(script.replace("Trainer(", "Trainer(accelerator='cpu', "), "docs", "exec"), names)
    exec(compile(probe, "docs", "exec"), names)
    out = capsys.readouterr().out
    assert "(321, 321)" in out
    assert "log 10" in out


def test_the_gradients_example_runs_as_printed(capsys) -> None:
    (script,) = code(ROOT / "docs" / "gradients.md")
    exec(compile(script, "docs", "exec"), {})
    assert "torch.Size([200, 200]) torch.Size([30, 30])" in capsys.readouterr().out


def test_the_delays_example_runs_as_printed(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        settings = ("data.modulus=7", "net.widths=[14,16,7]", "trainer.max_epochs=5")
        entry.train(tmp_path / "logs/multiruns/nanda", *settings, "measures=none", f"seed={seed}")
    capsys.readouterr()
    script = next(text for text in code(ROOT / "docs" / "measures.md") if "delays" in text)
    exec(compile(script, "docs", "exec"), {})
    assert capsys.readouterr().out.startswith("{} 0 of 2 ")


def test_the_capacity_example_runs_as_printed(capsys) -> None:
    script = next(text for text in code(ROOT / "docs" / "measures.md") if "capacity" in text)
    exec(compile(script, "docs", "exec"), {})
    wide, narrow = (float(line.split()[0]) for line in capsys.readouterr().out.splitlines())
    assert wide > narrow > 0


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory) -> Path:
    """A folder with ``logs`` of two tiny runs."""
    folder = tmp_path_factory.mktemp("looking")
    for seed in (0, 1):
        settings = ("data.modulus=7", "net.widths=[14,16,7]", "trainer.max_epochs=5")
        where = f"hydra.run.dir={folder / 'logs' / 'runs' / f'seed_{seed}'}"
        entry.call("train", *settings, f"seed={seed}", where)
    return folder


@pytest.mark.parametrize("number", [0, 1])
def test_the_looking_examples_run_as_printed(two_seeds, monkeypatch, capsys, number) -> None:
    monkeypatch.chdir(two_seeds)
    script = code(ROOT / "docs" / "looking.md")[number]
    exec(compile(script, "docs", "exec"), {})
    if number == 0:
        assert " 2 " in capsys.readouterr().out.splitlines()[0]
    else:
        assert (two_seeds / "loss.pdf").stat().st_size > 5000


def reports() -> list[str]:
    found = (REPORT.findall(page.read_text(encoding="utf-8")) for page in PAGES)
    return sorted({c.strip() for group in found for c in group if "live" not in c})


@pytest.mark.parametrize("command", reports())
def test_every_report_is_written(command: str, two_seeds, monkeypatch, capsys) -> None:
    """With the two runs in place of the folders that it names."""
    monkeypatch.chdir(two_seeds)
    words = [re.sub(r"^run=.*", "run=logs/runs/seed_0", word) for word in shlex.split(command)]
    words = [re.sub(r"^runs=\[.*", "runs=[logs/runs/seed_0,logs/runs/seed_1]", w) for w in words]
    words = [re.sub(r"^runs=logs/multi.*", "runs=logs/runs", word) for word in words]
    entry.call("report", *words)
    assert all(Path(line).exists() for line in capsys.readouterr().out.splitlines()[:1])


@pytest.mark.parametrize("command", commands())
def test_every_command_line_composes(command: str) -> None:
    overrides = [word for word in shlex.split(command) if "=" in word]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        compose("train", overrides=[re.sub(r"=([\w.-]+),.*", r"=\1", word) for word in overrides])


def modules() -> list[str]:
    package = ROOT / "src" / "grokscope"
    named = (path.relative_to(package.parent).with_suffix("") for path in package.rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in named)


@pytest.mark.parametrize("name", modules())
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    import torch

    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0


def test_every_setting_in_the_table_of_running_exists() -> None:
    text = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    text = text.partition("## Settings")[2].partition("##")[0]
    overrides = re.findall(r"(?<![\w.])([\w.@]+)=('[^']*'|\[[^\]]*\]|[\w.+-]+)(?![\w.])", text)
    settings = [f"{key}={value.strip(chr(39))}" for key, value in overrides if key[0].islower()]
    settings = [s for s in settings if not s.startswith(("ckpt_path", "hydra.", "experiment"))]
    assert len(settings) > 15
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for setting in settings:
            compose("train", overrides=[setting])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_experiments_of_the_readme_are_those_that_exist() -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("| experiment |")[2]
    named = set(re.findall(r"`(\w+)`", table.partition("\n\n")[0]))
    there = {path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml")} - {"none"}
    assert named <= there
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    told = named | set(re.findall(r"`(\w+)`", page))
    assert {name.removesuffix("_small") for name in there} <= told
