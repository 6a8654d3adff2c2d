"""The four parts of gop_sample.py: each returns the text of its section."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version

import torch
from timing import interleaved, median_ratio, milliseconds, table, verdict
from torch import Tensor

from grokscope.gradients import Factors, capture
from grokscope.measures.sample_gop import sample_spectra
from grokscope.models.losses import CrossEntropy
from peers import abilities, alone, tasks, ways
from peers.tasks import Task

GIB = 2**30


def transformer(quick: bool) -> str:
    """Part (a): the p = 113 transformer beside ``torch.func`` and beside a training step."""
    task = tasks.transformer(120 if quick else None)
    gram = ways.ours(task, torch.float64)
    difference = _relative(ways.ours(task), ways.torch_func(task))
    exact = _relative(gram[:100, :100], ways.one_by_one(task.first(100).double()))
    times = _transformer_times(task, gram, repeats=1 if quick else 3)
    peaks = {w: alone.run("gram", way=w, n=task.n) for w in ("grokscope", "torch.func")}
    rows = _transformer_rows(times, {way: found["bytes"] for way, found in peaks.items()})
    return (
        f"{task.m:,} parameters in float32, N = {task.n:,}; eigenvalues in float64. "
        "`torch.func` takes the gradients 64 samples at a time and the products of 16,384 columns "
        "in float32 or float64, adding these up in float64. Each is compared with ours of the "
        "same precision; ours is float64 unless float32 is asked for. Memory is the peak above "
        "the net and its data, each way in a process of its own.\n\n"
        f"{table(['what', 'ms, median (range)', 'peak, GiB', 'limits'], rows)}\n\n"
        f"Relative difference (Frobenius) of the two K by float32 products: {difference:.1e} "
        f"({verdict(difference, 1e-6)}); of ours by float64 products to float64 gradients "
        f"taken one by one, first 100 samples: {exact:.1e}."
    )


def _transformer_times(task: Task, gram: Tensor, repeats: int) -> dict[str, list[float]]:
    runs = {
        "fast step": _fast_step(task),
        "step": _step(task),
        "capture": _timed(partial(_captured, task)),
        "K float32": _timed(partial(ways.ours, task, torch.float32)),
        "K float64": _timed(partial(ways.ours, task, torch.float64)),
        "eigenvalues": _timed(partial(torch.linalg.eigvalsh, gram)),
        "spectra": _timed(partial(_spectra, task)),
        "float32": _timed(partial(ways.torch_func, task)),
        "float64": _timed(partial(ways.torch_func, task, dtype=torch.float64)),
    }
    times = interleaved(runs, repeats)
    for k in ("K float32", "K float64", "float32", "float64"):
        pairs = zip(times[k], times["eigenvalues"], strict=True)
        times[f"{k} and eigenvalues"] = [a + b for a, b in pairs]
    return times


def _transformer_rows(times: dict[str, list[float]], peak: dict[str, float]) -> list[list[str]]:
    less = peak["torch.func"] / max(peak["grokscope"], 1)
    steps, fast = (median_ratio(times, "spectra", name) for name in ("step", "fast step"))
    both = "{} and eigenvalues"
    cells = [
        ("a training step", "step"),
        ("a training step, the net's fast forward", "fast step"),
        ("capture", "capture"),
        ("K, products in float64, capture included", "K float64"),
        ("K, products in float32", "K float32", f"{peak['grokscope'] / GIB:.2f}"),
        ("eigenvalues of K", "eigenvalues"),
        ("K and its eigenvalues, products in float64", "K float64 and eigenvalues"),
        (
            "spectra of the whole and of each layer, capture included",
            "spectra",
            "",
            f"{steps:.0f} training steps (goal {verdict(steps, 40)}), {fast:.0f} fast ones",
        ),
        (
            "`torch.func`: K, products in float32",
            "float32",
            f"{peak['torch.func'] / GIB:.2f}",
            f"{_faster(times, 'float32', 25)}; memory {less:.1f} times ours "
            f"({_at_least(less, 5)})",
        ),
        (
            "the same and eigenvalues",
            both.format("float32"),
            "",
            _faster(times, "float32", 8, both),
        ),
        ("`torch.func`: K, products in float64", "float64", "", _faster(times, "float64", 25)),
        (
            "the same and eigenvalues",
            both.format("float64"),
            "",
            _faster(times, "float64", 8, both),
        ),
    ]
    full = [(*cell, "", "")[:4] for cell in cells]
    return [[what, milliseconds(times[name]), *rest] for what, name, *rest in full]


def _faster(times: dict[str, list[float]], name: str, limit: float, what: str = "{}") -> str:
    ratio = median_ratio(times, what.format(name), what.format(f"K {name}"))
    return f"{ratio:.1f} times ours ({_at_least(ratio, limit)})"


def mlp(quick: bool) -> str:
    """Part (b): an MLP beside all the others, and what each of them can do at all."""
    widths, n = ((20, 16, 16, 5), 50) if quick else ((784, 200, 200, 10), 1000)
    task = tasks.mlp(widths, n)
    truth = ways.one_by_one(task.double())
    rows = [row for each in (task, task.double()) for row in _mlp_rows(each, truth, quick)]
    header = ["dtype", "library", "ms for K, median (range)", "largest error", "against ours"]
    able = table(["net", *ways.WAYS], abilities.rows())
    packages = ("opacus", "backpack-for-pytorch", "nngeometry", "curvlinops-for-pytorch")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"K of the MLP {'-'.join(map(str, widths))}, N = {n:,}, from the net to K. The error is "
        "relative to the largest entry of the K of float64 gradients taken one by one.\n\n"
        f"{table(header, rows)}\n\n{versions}. "
        "`nngeometry` takes the structured way for Linear layers without further positions. "
        "`curvlinops` has no Gram matrix; its Jacobian and transpose are applied to unit "
        "vectors, timed once.\n\n"
        "What each library can do at all: found by running it in float64 on small nets, with "
        f"the largest error relative to the largest entry of K; up to {abilities.RIGHT:g} "
        f"counts as right.\n\n{able}"
    )


def _mlp_rows(task: Task, truth: Tensor, quick: bool) -> list[list[str]]:
    runs = {name: _timed(partial(way, task)) for name, way in ways.WAYS.items()}
    close = interleaved({k: runs[k] for k in ("grokscope", "nngeometry")}, 1 if quick else 25)
    far = interleaved(
        {k: runs[k] for k in ("grokscope", "torch.func", "opacus", "backpack")}, 1 if quick else 5
    )
    once = interleaved({"curvlinops": runs["curvlinops"]}, 1)
    ratios = {k: median_ratio(far, k, "grokscope") for k in far}
    structured = median_ratio(close, "grokscope", "nngeometry")
    last = once["curvlinops"][0] / statistics.median(close["grokscope"])
    notes = {k: f"{r:.1f} times ours ({_at_least(r, 30)})" for k, r in ratios.items()}
    notes |= {
        "grokscope": "",
        "nngeometry": f"ours / it = {structured:.2f} ({verdict(structured, 1)})",
        "curvlinops": f"{last:.0f} times ours",
    }
    times = far | close | once
    dtype = str(task.parameters[0].dtype).removeprefix("torch.")
    errors = {k: (way(task) - truth).abs().max() / truth.max() for k, way in ways.WAYS.items()}
    return [
        [dtype, k, milliseconds(times[k]), f"{float(errors[k]):.0e}", notes[k]] for k in ways.WAYS
    ]


def growth(quick: bool) -> str:
    """Part (c): the time of K by the number of samples and of parameters."""
    samples = (50, 100, 200) if quick else (500, 1000, 2000, 4000, 8000)
    sizes = (10**4, 10**5) if quick else (10**4, 10**5, 10**6, 10**7, 10**8)
    whole = tasks.transformer(samples[-1])
    by_n = {f"{n:,}": whole.first(n) for n in samples}
    by_m = {}
    for size in sizes:
        width = round((size / 3) ** 0.5)
        task = tasks.mlp((width,) * 4, 32 if quick else 256)
        by_m[f"{task.m:,} (width {width:,})"] = task
    n_table = _growth_table(by_n, samples, quick)
    m_table = _growth_table(by_m, [task.m for task in by_m.values()], quick)
    return (
        f"K, capture included. The p = 113 transformer by its samples:\n\n{n_table}\n\n"
        f"An MLP of three square layers by its parameters, N = {task.n}:\n\n{m_table}"
    )


def _growth_table(by_size: dict[str, Task], sizes: Sequence[int], quick: bool) -> str:
    runs = {name: _timed(partial(ways.ours, task)) for name, task in by_size.items()}
    times = interleaved(runs, 1 if quick else 5)
    middle = [statistics.median(seconds) for seconds in times.values()]
    steps = ["", *(f"{_slope(sizes[i : i + 2], middle[i : i + 2]):.2f}" for i in _before(sizes))]
    rows = [[k, milliseconds(v), step] for (k, v), step in zip(times.items(), steps, strict=True)]
    text = table(["size", "ms, median (range)", "exponent since the last"], rows)
    return (
        f"{text}\n\nFitted exponent, least squares of the logarithms: {_slope(sizes, middle):.2f}."
    )


def gpt2(quick: bool) -> str:
    """Part (d): a net of GPT-2's shape."""
    sizes = {"n": 16, "width": 48, "heads": 4, "layers": 2} if quick else {}
    found = alone.run("gpt2", **sizes)
    task = {"n": 512, "width": 768, "layers": 8, **sizes}
    rows = [
        ["K, capture included", f"{found['k_seconds']:.1f} s", ""],
        [
            "exact spectrum",
            f"{found['seconds']:.1f} s",
            f"seconds {verdict(found['seconds'], 180)}",
        ],
        [
            "peak memory of the whole process",
            f"{found['bytes'] / 1e9:.2f} GB",
            f"GB {verdict(found['bytes'] / 1e9, 8)}",
        ],
        ["relative error of K, first 3 samples", f"{found['error']:.0e}", ""],
        ["rank at 1e-6", f"{found['rank']:,}", ""],
    ]
    return (
        f"{task['layers']} layers of width {task['width']}, {found['m']:,} parameters, N = "
        f"{task['n']} sequences of 5 tokens, the loss at all positions averaged; float32, K and "
        "eigenvalues in float64. Once, in a process of its own.\n\n"
        + table(["what", "found", "limits"], rows)
    )


def _captured(task: Task) -> Factors:
    return capture(task.net, task.loss, task.inputs, task.targets)


def _spectra(task: Task) -> object:
    """Eigenvalues of the `sample` GOP, of the whole net and of each layer."""
    return sample_spectra(_captured(task))


def _step(task: Task) -> Callable[[], float]:
    return _stepping(task, lambda: task.net(task.inputs))


def _fast_step(task: Task) -> Callable[[], float]:
    plan = task.net.share(task.inputs)
    return _stepping(task, lambda: task.net.forward_shared(plan))


def _stepping(task: Task, forward: Callable[[], Tensor], steps: int = 10) -> Callable[[], float]:
    """Seconds of a step: forward, loss, backward, AdamW with learning rate zero."""
    optimizer, loss = torch.optim.AdamW(task.net.parameters(), lr=0.0), CrossEntropy()

    def run() -> float:
        begun = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad()
            loss.mean(forward(), task.targets).backward()
            optimizer.step()
        return (time.perf_counter() - begun) / steps

    return run


def _timed(call: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        begun = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - begun
        del result
        return seconds

    return run


def _at_least(value: float, limit: float) -> str:
    return verdict(value, limit, at_most=False)


def _relative(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm())


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least squares of log y on log x."""
    a, b = (torch.tensor(v, dtype=torch.float64).log() for v in (x, y))
    a, b = a - a.mean(), b - b.mean()
    return float((a @ b) / (a @ a))


def _before(sizes: Sequence[int]) -> range:
    return range(len(sizes) - 1)
