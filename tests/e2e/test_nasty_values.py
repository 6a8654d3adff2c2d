"""Any value for any setting: it is taken, or refused in one line that names a key."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from entry import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from grokscope.app.errors import leaves

VALUES = (
    *("null", "''", "' '", "true", "-1", "0", "2.5", "nan", "inf", "-inf", "1e30", "1e-400"),
    *(str(2**63), "9" * 400, "9" * 5000, "abc", "'a b'", "'\u00e4\u4e2d'", "'" + "x" * 300 + "'"),
    *("[]", "[1,abc]", "{}", "{a:1}", "~/x", "/dev/null", "/proc/x", "'../up'", "'a\x01b'"),
)
SECONDS = 30.0  # on a busy machine; most take a tenth of one
SEED, SAMPLE = 7, 40
SMALL = ("experiment=none", "data.modulus=7", "net.widths=[14,16,7]", "trainer.max_epochs=2")
BASES = {  # what is typed besides; nothing is trained, and no page is served
    "train": (*SMALL, "report=false", "threads=1", "storage.predict_only=true"),
    "measure": ("run=run", "measures=gop", "replace=true"),
    "eval": ("run=run",),
    "report": ("run=run",),
}
LEFT_OUT = ("storage.predict_only", "live", "host", "port")


def keys(script: str) -> Iterator[str]:
    """Every setting that has a value of its own."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        plain = OmegaConf.to_container(compose(script, []), resolve=False)
    assert isinstance(plain, dict)
    for key in leaves(plain):
        node = plain
        for part in key.split("."):
            node = node[part]
        if not isinstance(node, dict) and key not in LEFT_OUT and "_target_" not in key:
            yield key


def cases() -> list[tuple[str, str, str]]:
    """In an order that is always the same, but mixed."""
    every = [(s, key, value) for s in BASES for key in keys(s) for value in VALUES]
    random.Random(SEED).shuffle(every)
    return every


def check(command, script: str, key: str, value: str) -> None:
    typed = f"{key}={value}"
    began = time.monotonic()
    result = command(script, *BASES[script], typed)
    assert time.monotonic() - began < SECONDS, typed
    assert "Traceback" not in result.err + result.out, typed
    if result.code == 0:
        assert "error:" not in result.err, typed
        return
    assert result.code == 1, typed
    assert result.err.startswith("error: "), (typed, result.err)
    assert result.err.count("\n") == 1, (typed, result.err)
    assert len(result.err) < 5000, typed
    assert "HYDRA_FULL_ERROR" not in result.err, (typed, result.err)  # nobody has foreseen it
    first, _, last = key.rpartition(".")
    assert last in result.err or (first and first in result.err), (typed, result.err)


@pytest.mark.refusal
@pytest.mark.filterwarnings("ignore")
def test_any_value_is_taken_or_refused_in_one_line(command, run, monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    for case in cases()[:SAMPLE]:
        check(command, *case)


@pytest.mark.slow
@pytest.mark.refusal
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(20))
def test_every_value_is_taken_or_refused_in_one_line(command, run, monkeypatch, part):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    wrong = []
    for case in cases()[part::20]:
        try:
            check(command, *case)
        except (AssertionError, Exception) as error:
            wrong.append((case, str(error)[:600]))
    assert wrong == []
