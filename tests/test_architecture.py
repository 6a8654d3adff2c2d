"""Who may import whom, and what a fresh process loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "grokscope"
STDLIB = sys.stdlib_module_names

ALLOWED = {
    "gradients": {"torch"},
    "measures": {"torch", "numpy", "scipy", "numba", "grokscope.gradients"},
    "store": {"h5py", "numpy"},
    "nets": {"torch"},
    "data": {"torch", "lightning", "numpy", "pooch", "requests", "grokscope.store"},
    "models": {"torch", "lightning", "grokscope.data", "grokscope.measures"},
    "callbacks": {
        "torch",
        "lightning",
        "numpy",
        "rich",
        "grokscope.gradients",
        "grokscope.measures",
        "grokscope.store",
    },
    "analysis": {"numpy", "scipy", "rich", "yaml", "matplotlib", "PIL", "grokscope.store"},
}
EVERYWHERE = {"grokscope.arithmetic", "grokscope.processor", "grokscope.validation"}


def room(name: str) -> str:
    """``grokscope.store.writer`` -> ``grokscope.store``; ``torch.nn`` -> ``torch``."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "grokscope" else parts[0]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (room(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield room(node.module or "")


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("name", ALLOWED)
def test_a_room_imports_only_what_it_may(name: str) -> None:
    allowed = ALLOWED[name] | {f"grokscope.{name}", *EVERYWHERE}
    found = {
        (path.name, imported)
        for path in (PACKAGE / name).rglob("*.py")
        for imported in imports(path)
        if imported not in STDLIB and imported not in allowed
    }
    assert not found


def test_nothing_imports_the_app_and_hydra_stays_there() -> None:
    for path in files():
        outside = "app" not in path.relative_to(PACKAGE).parts
        found = set(imports(path))
        if outside:
            assert not found & {"grokscope.app", "hydra", "omegaconf"}, path
        assert "src" not in found


def test_every_room_has_a_rule() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert rooms - {"app"} == set(ALLOWED)


def test_rooms_have_no_cycle() -> None:
    edges = {
        name: {
            imported.split(".")[1]
            for path in (PACKAGE / name).rglob("*.py")
            for imported in imports(path)
            if imported.startswith("grokscope.") and imported != f"grokscope.{name}"
        }
        - {name.split(".")[1] for name in EVERYWHERE}
        for name in ALLOWED
    }
    done: list[str] = []
    while len(done) < len(edges):
        free = [n for n in edges if n not in done and edges[n] <= set(done)]
        assert free, {n: edges[n] - set(done) for n in edges if n not in done}
        done += free


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(*[m.split('.')[0] for m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_reading_a_run_loads_neither_torch_nor_lightning() -> None:
    loaded = modules_after("from grokscope import Run, runs; import grokscope.store")
    assert not loaded & {"torch", "lightning", "hydra", "matplotlib"}


def test_the_callback_loads_neither_hydra_nor_matplotlib_nor_our_tasks() -> None:
    loaded = modules_after(
        "from grokscope import GOPCallback\nimport sys\n"
        "assert not [m for m in sys.modules if m.startswith('grokscope.data')]"
    )
    by_lightning = modules_after("import lightning")  # which itself looks for some of these
    assert not (loaded - by_lightning) & {"hydra", "omegaconf", "matplotlib", "wandb"}


def test_pure_rooms_do_not_load_lightning() -> None:
    assert "lightning" not in modules_after("import grokscope.gradients, grokscope.measures.gop")


@pytest.mark.parametrize("path", sorted((ROOT / "src").glob("*.py")), ids=lambda p: p.name)
def test_an_entry_point_is_thin(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
