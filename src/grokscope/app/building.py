"""Bounds what a stranger's settings may take, and says in one line why they cannot be built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn.modules import module

from grokscope.app.errors import UserError
from grokscope.store.memory import SHARE, data_bytes, free_memory

MOST_WORDS = 300
MOST_PARTS = 20_000  # modules and parameters of nets: a layer of GPT-2 has about 30


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Whatever fails while a run's settings are built and used is one line: they are to blame.

    On Linux they get no more than the free memory, where the system would else end a process.

    Raises:
        UserError: Naming the run.
    """
    try:
        with _limited(), _counted():
            yield
    except UserError as error:
        if str(folder) in str(error):
            raise
        raise UserError(f"{str(error).rstrip('.')} (settings of {folder}).") from error
    except Exception as error:
        words = " ".join(str(error).split())[:MOST_WORDS] or type(error).__name__
        raise UserError(
            f"run must have settings that can be built here, got {folder}: {words}"
        ) from error


@contextmanager
def _limited() -> Iterator[None]:
    """With a limit on the data of this process: the free memory above what it has."""
    free = free_memory()
    if free is None or torch.cuda.is_available():  # whose driver reserves addresses in plenty
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = data_bytes() + int(SHARE * free)
    known = [each for each in (limit, *before) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(known), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@contextmanager
def _counted() -> Iterator[None]:
    """With a limit on the parts of nets, each of which takes time whatever its size."""
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1
        if count > MOST_PARTS:
            raise ValueError(f"its net has more than {MOST_PARTS:,} modules and parameters")

    with (
        module.register_module_module_registration_hook(note),
        module.register_module_parameter_registration_hook(note),
    ):
        yield
