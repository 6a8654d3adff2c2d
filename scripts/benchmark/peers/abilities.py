"""Which nets each library can do, found by trying."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from peers import nets
from peers.tasks import Task
from peers.ways import WAYS, Way, one_by_one

RIGHT = 1e-8  # relative error in float64 up to which an answer counts as right
WORDS = 60  # characters of an error message


def cell(way: Way, task: Task) -> str:
    """``yes`` and the largest error relative to the largest entry, or what came instead."""
    truth = one_by_one(task)
    try:
        found = way(replace(task, net=copy.deepcopy(task.net)))
    except Exception as error:  # whatever another library raises is the answer sought
        return f"no: {type(error).__name__}: {_first_words(str(error))}"
    relative = float((found - truth).abs().max() / truth.abs().max())
    return f"yes, {relative:.0e}" if relative <= RIGHT else f"WRONG by {relative:.0e}"


def rows() -> list[list[str]]:
    """One row a net, one cell a library; torch's default is float64 as nngeometry needs it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return [[name, *(cell(w, nets.task(name)) for w in WAYS.values())] for name in nets.NETS]
    finally:
        torch.set_default_dtype(before)


def _first_words(message: str) -> str:
    line = " ".join(message.replace("|", "/").split())
    if len(line) <= WORDS:
        return line
    return line[:WORDS].rpartition(" ")[0] + " ..."
