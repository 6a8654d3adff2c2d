"""Two processes give the matrices of one."""

from __future__ import annotations

import socket

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from grokscope.gradients import capture, gather
from grokscope.measures.sample_gop import sample_gop
from grokscope.nets import OneLayerTransformer

N = 23


def cross_entropy(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


def problem():
    net = OneLayerTransformer(11, 3, 16, 2, 8, 20, seed=0).double()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(11, (N, 3), generator=generator)
    return net, inputs, torch.randint(11, (N,), generator=generator)


def worker(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    net, inputs, targets = problem()
    rows = slice(0, 9) if rank == 0 else slice(9, N)  # not the same number
    factors = gather(
        capture(DistributedDataParallel(net), cross_entropy, inputs[rows], targets[rows])
    )
    found = [factors.gram(), factors.gram("attention.key", centered=True)]
    found += [factors.mean_gradient(), torch.from_numpy(sample_gop(factors).eigenvalues)]
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path) -> None:
    multiprocessing.spawn(worker, (free_port(), str(tmp_path)), nprocs=2)
    factors = capture(problem()[0], cross_entropy, *problem()[1:])
    true = [factors.gram(), factors.gram("attention.key", centered=True)]
    true += [factors.mean_gradient(), torch.from_numpy(sample_gop(factors).eigenvalues)]
    for rank in (0, 1):
        for a, b in zip(torch.load(tmp_path / f"{rank}.pt"), true, strict=True):
            assert torch.linalg.vector_norm(a - b) <= 1e-10 * torch.linalg.vector_norm(b)


def test_without_a_distributed_run_nothing_is_gathered() -> None:
    net, inputs, targets = problem()
    factors = capture(net, cross_entropy, inputs, targets)
    assert gather(factors) is factors
    assert isinstance(net, nn.Module)
