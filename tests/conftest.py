from __future__ import annotations

import sys
from pathlib import Path

import pytest

from grokscope.processor import make_products_repeatable

make_products_repeatable()  # as the commands do; the processes of xdist and of tests inherit it

import torch  # noqa: E402

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
sys.path.insert(0, str(Path(__file__).parent))  # for small.py


@pytest.fixture
def shared() -> Path:
    """The folder with other people's data and reference numbers; CI has it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the reference folder {SHARED.name}/ beside the repository")
    return SHARED


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
