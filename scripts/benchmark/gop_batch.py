"""Time and bytes of the `batch` GOP with all its metrics, by the size of the network.

python scripts/benchmark/gop_batch.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from timing import table, verdict, write_section

from grokscope.callbacks.batch_kind import BatchKind
from grokscope.callbacks.recorder import Found, Pass, Recorder
from grokscope.callbacks.schedule import every
from grokscope.gradients.layout import flatten, gradient_layout, gradients_of
from grokscope.nets import MLP, OneLayerTransformer

OLDER = {1_000: ("3,200", "7,900,000")}  # the older framework, two cores (README, gop.md)


def networks() -> dict[str, torch.nn.Module]:
    """Networks of about 1,000, 10,000, 226,816 and 10 million parameters."""
    return {
        "MLP 20-25-20": MLP((20, 25, 20), bias=False, seed=0),
        "MLP 50-100-50": MLP((50, 100, 50), bias=False, seed=0),
        "p = 113 transformer": OneLayerTransformer(seed=0),
        "MLP 1600-2500-2400": MLP((1600, 2500, 2400), bias=False, seed=0),
    }


def measure(net: torch.nn.Module, epochs: int) -> tuple[int, list[float], float]:
    """Parameters, seconds of each epoch, and bytes of the files an epoch (not compressed)."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    layout = gradient_layout(net.named_parameters())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kind = BatchKind(layout, n_rows=1, top_k=100, rank_threshold=1e-6)
        recorder = Recorder(
            folder,
            [kind],
            dict.fromkeys(("metrics", "batch", "factor"), every(1)),
            layout,
            n_rows=1,
            dtype=torch.float32,
            extra=(),
            start=0,
            stop=epochs,
            resume=False,
        )
        seconds = [_epoch(net, kind, recorder, epoch) for epoch in range(epochs)]
        recorder.writer.close()
        used = sum(file.stat().st_size for file in folder.iterdir())
    return layout.size, seconds, used / epochs


def _epoch(net: torch.nn.Module, kind: BatchKind, recorder: Recorder, epoch: int) -> float:
    begun = time.perf_counter()
    gradients = flatten(gradients_of(net.parameters()))[None]
    found = {"batch": Found([0], kind.measure([gradients]))}
    losses = dict.fromkeys(("train_loss", "test_loss", "train_acc", "test_acc"), 0.5)
    recorder.write([Pass(epoch, epoch, losses, gradients)], found)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repeats, for a test")
    epochs = 5 if parser.parse_args().quick else 400
    rows = []
    for name, net in networks().items():
        size, seconds, used = measure(net, min(epochs, 40) if "1600" in name else epochs)
        middle = 1e3 * statistics.median(seconds[1:])
        checks = ""
        if size == 1_000:
            checks = f"{verdict(middle, 1)} ms; {verdict(used, 5_000)} bytes"
        older = OLDER.get(size, ("", ""))
        rows.append([f"{size:,} ({name})", f"{middle:.3g}", f"{used:,.0f}", *older, checks])
    header = ["parameters", "ms an epoch, median", "bytes an epoch", "older: ms", "older: bytes"]
    text = table([*header, "limits"], rows)
    note = (
        "Gradient copied, all metrics of the whole and of each layer, overlap with the last "
        "epoch, and the row with losses and the gradient itself written to disk. "
        "The gradient is 4 bytes a parameter; the older framework stored the dense matrix."
    )
    write_section("gop_batch", "The `batch` gradient outer product", f"{note}\n\n{text}")


if __name__ == "__main__":
    main()
