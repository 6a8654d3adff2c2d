"""CKA between the layers of a net at many checkpoints, beside its definition pair by pair.

python scripts/benchmark/kernels.py [--quick]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product

import torch
from timing import interleaved, median_ratio, milliseconds, table, verdict, write_section
from torch import Tensor

from grokscope.measures.kernels import cka_matrix

WIDTHS = (128, 128, 256, 256, 384, 384, 512, 512)
TITLE = "CKA between all layers"
OURS, PLAIN, KEPT = "ours, all pairs at once", "pair by pair", "pair by pair, kernels kept"
SAMPLED = 60


def activations(n: int, widths: tuple[int, ...], checkpoints: int) -> list[list[Tensor]]:
    """For each checkpoint the float32 activations of every layer, which share some structure."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(n, 20, generator=generator)
    return [
        [
            torch.relu(common @ torch.randn(20, d, generator=generator) / (1 + layer))
            + torch.randn(n, d, generator=generator)
            for layer, d in enumerate(widths)
        ]
        for _ in range(checkpoints)
    ]


def centred_kernel(features: Tensor) -> Tensor:
    X = features.double()
    K = X @ X.t()
    return K - K.mean(0) - K.mean(1, keepdim=True) + K.mean()


def cosine(K: Tensor, L: Tensor) -> float:
    return float((K * L).sum() / (K.norm() * L.norm()))


def pair_by_pair(layers: list[Tensor]) -> Tensor:
    """The definition, for each pair; of (a, b) and (b, a) one."""
    found = torch.eye(len(layers), dtype=torch.float64)
    for i, j in product(range(len(layers)), repeat=2):
        if i < j:
            value = cosine(centred_kernel(layers[i]), centred_kernel(layers[j]))
            found[i, j] = found[j, i] = value
    return found


def kernels_kept(layers: list[Tensor]) -> Tensor:
    """The same with each kernel made once."""
    kernels = [centred_kernel(features) for features in layers]
    found = torch.eye(len(layers), dtype=torch.float64)
    for i, j in product(range(len(layers)), repeat=2):
        if i < j:
            found[i, j] = found[j, i] = cosine(kernels[i], kernels[j])
    return found


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def at_each_checkpoint(checkpoints: list[list[Tensor]]) -> str:
    """All layer pairs within a checkpoint; each repeat takes the next one."""
    ways = {PLAIN: pair_by_pair, KEPT: kernels_kept, OURS: cka_matrix}
    difference = float((cka_matrix(checkpoints[0]) - pair_by_pair(checkpoints[0])).abs().max())
    turns = {name: iter([checkpoints[0], *checkpoints]) for name in ways}  # the first warms up

    def run(name: str) -> float:
        layers = next(turns[name])
        return seconds(lambda: ways[name](layers))

    times = interleaved({name: (lambda name=name: run(name)) for name in ways}, len(checkpoints))
    rows = []
    for name in ways:
        ratio = median_ratio(times, name, OURS)
        told = "" if name == OURS else f"{ratio:.1f}"
        rows.append([name, milliseconds(times[name]), f"{sum(times[name]):.2f}", told])
    rows[-1][-1] = f"largest difference {difference:.1g}; {verdict(difference, 1e-9)}"
    header = ["way", "ms a checkpoint, median (range)", "s, all checkpoints", "times ours"]
    return table(header, rows)


def all_at_once(checkpoints: list[list[Tensor]]) -> str:
    """Between all layers of all checkpoints; pair by pair is measured on some pairs."""
    layers = [features for checkpoint in checkpoints for features in checkpoint]
    pairs = len(layers) * (len(layers) - 1) // 2
    chosen = torch.randint(len(layers), (SAMPLED, 2), generator=torch.Generator().manual_seed(0))
    some = [(layers[i], layers[j]) for i, j in chosen.tolist()]
    plain = seconds(lambda: [cosine(centred_kernel(a), centred_kernel(b)) for a, b in some])
    ours = seconds(lambda: cka_matrix(layers))
    estimate = plain / SAMPLED * pairs
    rows = [
        [f"{PLAIN}, estimated from {SAMPLED} pairs", f"{estimate:.4g}", f"{estimate / ours:.0f}"],
        [OURS, f"{ours:.3g}", ""],
    ]
    return f"Between all {len(layers)} representations, {pairs:,} pairs, once:\n\n" + table(
        ["way", "s", "times ours"], rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, prints only, for a test")
    quick = parser.parse_args().quick
    n, widths, count = (60, (16, 32, 64), 3) if quick else (1_000, WIDTHS, 30)
    checkpoints = activations(n, widths, count)
    told = (
        f"{len(widths)} layers of width {min(widths)} to {max(widths)}, {n:,} samples, "
        f"{count} checkpoints; activations float32, kernels float64. Pair by pair is the "
        "definition, with the centred kernels made anew for every pair, or kept. "
        "All layer pairs at each checkpoint:"
    )
    text = f"{told}\n\n{at_each_checkpoint(checkpoints)}\n\n{all_at_once(checkpoints)}"
    if quick:
        print(f"{TITLE} (tiny: the numbers mean nothing)\n\n{text}")
    else:
        write_section("kernels", TITLE, text)


if __name__ == "__main__":
    main()
