"""What MKL's repeatable modes cost, each beside MKL's own choice.

python scripts/benchmark/determinism.py [--quick]

MKL's mode is fixed for the life of a process, so every mode has a process of its own. They take
turns of a tenth of a second on one core. Time is that of the processor, which other programs on
the machine disturb less than the clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import torch
from timing import milliseconds, table, verdict, write_section
from torch import nn

from grokscope.data import ModularDataModule
from grokscope.models.losses import CrossEntropy, Loss, SquaredError
from grokscope.models.memory import keep_freed_memory
from grokscope.nets import MLP, OneLayerTransformer
from grokscope.processor import REPEATABLE, VARIABLE, mkl_mode

OFF, AGAIN = "MKL's own choice", "the same again"
MODES = {OFF: "", AGAIN: "", REPEATABLE: REPEATABLE, "AVX2,STRICT": "AVX2,STRICT"}
SLICE_SECONDS = 0.1
LIMIT = 1.03
Work = Callable[[], object]
NOTE = (
    "Ratios are medians over turns taken side by side; 'the same again' shows how far chance "
    "alone goes. Modes in effect: {modes}. A processor that is not Intel's has no branch by name."
)


def step(data: ModularDataModule, net: nn.Module, loss: Loss) -> Work:
    """A bare optimizer step on the full batch, as in the table of the training loop."""
    data.setup()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1.0)
    inputs = data.train.inputs
    plan = net.share(inputs)
    targets = loss.prepare(data.train.targets, net(inputs[:1]).shape[1])

    def once() -> None:
        optimizer.zero_grad()
        outputs = net(inputs) if plan is None else net.forward_shared(plan)
        loss.mean(outputs, targets).backward()
        optimizer.step()

    return once


def nanda() -> Work:
    data = ModularDataModule(113, "add", 0.3, "tokens", "python")
    return step(data, OneLayerTransformer(seed=0), CrossEntropy())


def quickstart() -> Work:
    data = ModularDataModule(23, "add", 0.5, "one_hot")
    net = MLP((46, 64, 23), "quadratic", bias=False, init_std=0.2, seed=0)
    return step(data, net, SquaredError())


def product(n: int, dtype: torch.dtype) -> Work:
    matrix = torch.randn(n, n, dtype=dtype)
    return lambda: matrix @ matrix.T


def eigenvalues(n: int) -> Work:
    rows = torch.randn(n, n, dtype=torch.float64)
    gram = rows @ rows.T
    return lambda: torch.linalg.eigvalsh(gram)


WORKS: dict[str, Callable[[], Work]] = {
    "step of the p = 113 transformer": nanda,
    "step of a quadratic MLP, p = 23": quickstart,
    "float32 product, 512": partial(product, 512, torch.float32),
    "float64 product, 512": partial(product, 512, torch.float64),
    "float64 eigenvalues, 128": partial(eigenvalues, 128),
    "float64 eigenvalues, 512": partial(eigenvalues, 512),
}


def serve() -> None:
    """Answer ``name count`` with the seconds that each of ``count`` calls took."""
    torch.set_num_threads(1)
    keep_freed_memory()
    made: dict[str, Work] = {}
    print(json.dumps(mkl_mode()), flush=True)
    for line in sys.stdin:
        name, count = json.loads(line)
        work = made.setdefault(name, made.get(name) or WORKS[name]())
        begun = time.process_time()
        for _ in range(count):
            work()
        print((time.process_time() - begun) / count, flush=True)


class Server:
    """A process that computes in one of the modes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.mode = json.loads(self._answer())

    def seconds(self, name: str, count: int) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([name, count]) + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def server(value: str) -> Iterator[Server]:
    command = [sys.executable, __file__, "--serve"]
    environment = os.environ | {VARIABLE: value, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


def times_of(name: str, servers: dict[str, Server], turns: int) -> dict[str, list[float]]:
    for each in servers.values():
        each.seconds(name, 2)  # warm up
    count = max(1, round(SLICE_SECONDS / servers[OFF].seconds(name, 3)))
    times: dict[str, list[float]] = {mode: [] for mode in servers}
    for _ in range(turns):
        for mode, each in servers.items():
            times[mode].append(each.seconds(name, count))
    return times


def row(name: str, times: dict[str, Sequence[float]]) -> list[str]:
    cells = [name, milliseconds(times[OFF])]
    for mode in list(times)[1:]:
        ratio = statistics.median(a / b for a, b in zip(times[mode], times[OFF], strict=True))
        words = f" ({verdict(ratio, LIMIT)})" if mode == REPEATABLE else ""
        cells.append(f"{ratio:.3f}{words}")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few turns, for a test")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    with suppress(AttributeError):  # not on macOS
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with ExitStack() as stack:
        servers = {mode: stack.enter_context(server(value)) for mode, value in MODES.items()}
        turns = 2 if options.quick else options.turns
        rows = [row(name, times_of(name, servers, turns)) for name in WORKS]
        modes = ", ".join(f"{mode}: `{each.mode}`" for mode, each in servers.items())
    header = ["one thread", f"ms, {OFF} (range)", *(f"{mode}: ratio" for mode in list(MODES)[1:])]
    torch.set_num_threads(1)
    text = f"{table(header, rows)}\n\n{NOTE.format(modes=modes)}"
    write_section("determinism", "Repeatable last digits", text)


if __name__ == "__main__":
    main()
