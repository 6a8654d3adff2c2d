"""What is set before a run begins: in processes of their own, because threads keep settings."""

import subprocess
import sys

import pytest

PROGRAM = """
import torch
from grokscope.app.build import prepare_processor
{before}
denormal = torch.full((1_000_000,), 1e-39)
print(torch.get_num_threads(), int((denormal * 1).count_nonzero()))
"""


def _answer(before: str) -> tuple[int, int]:
    program = PROGRAM.format(before=before)
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    threads, left = map(int, out.split())
    return threads, left


@pytest.mark.parametrize("threads", [1, 2])
def test_denormal_floats_become_zero_on_every_thread(threads: int) -> None:
    assert _answer(f"torch.set_num_threads({threads})") == (threads, 1_000_000)
    assert _answer(f"prepare_processor({threads})") == (threads, 0)


def test_no_wish_leaves_the_number_of_threads() -> None:
    assert _answer("prepare_processor(None)") == (_answer("")[0], 0)
