"""Wang, Yue, Su, Sun 2024, arXiv 2405.15071: two-hop facts, at laptop scale and sizes of nets."""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from grokscope import Run
from grokscope.nets import GPT2
from replications.claims import SEEDS, Claim, NeedsGPU, Replication, between, within

FIG_1 = "Fig. 1, composition (2,000 entities, phi = 7.2)"
FIG_4 = "Fig. 4, circuit of composition"
LAPTOP = "; laptop scale: 50 entities, phi = 6"
CODE = "shapes of the official code"
COMPOSITION, COMPARISON = 52_464, 51_368  # rows of the vocabulary, with GPT-2's own tokens
MEMORISED, GENERALISED = 0.99, 0.9


def accuracy(run: Run, split: str) -> np.ndarray:
    return np.asarray(run.metrics[f"{split}_acc"])


def memorised(run: Run) -> int | None:
    """First row at which atomic and inferred training facts are known."""
    worse = np.minimum(accuracy(run, "id_atomic"), accuracy(run, "train_inferred"))
    return int(np.argmax(worse > MEMORISED)) if (worse > MEMORISED).any() else None


def memorised_step(runs: dict[str, Run]) -> float | None:
    run = runs["composition"]
    row = memorised(run)
    return None if row is None else float(run.metrics["step"][row])


def memorised_share(runs: dict[str, Run]) -> float | None:
    """Of all steps."""
    step = memorised_step(runs)
    return None if step is None else step / float(runs["composition"].metrics["step"][-1])


def best_before(runs: dict[str, Run]) -> float | None:
    """Best accuracy on ID test facts up to that row."""
    run = runs["composition"]
    row = memorised(run)
    return None if row is None else float(accuracy(run, "test_inferred_iid")[: row + 1].max())


def at_the_end(runs: dict[str, Run], split: str) -> float:
    """Mean of the last five rows: single ones vary."""
    return float(accuracy(runs["composition"], split)[-5:].mean())


def largest(runs: dict[str, Run], split: str) -> float:
    return float(accuracy(runs["composition"], split).max())


def delay(runs: dict[str, Run]) -> float | None:
    """Steps to ID test accuracy 0.9 over steps to known training facts."""
    run, start = runs["composition"], memorised_step(runs)
    reached = accuracy(run, "test_inferred_iid") >= GENERALISED
    if start is None or not reached.any():
        return None
    return float(run.metrics["step"][np.argmax(reached)]) / start


def lens(runs: dict[str, Run], name: str) -> np.ndarray:
    """Mean reciprocal rank of a token in the stream between the two blocks."""
    return np.asarray(runs["composition"].metrics[f"lens/{name}"][:, 1])


def lens_at_the_end(runs: dict[str, Run], name: str) -> float:
    return float(lens(runs, name)[-1])


def lens_gain(runs: dict[str, Run], name: str) -> float | None:
    """At the end less that when the training facts are known."""
    known = memorised_step(runs)
    if known is None:
        return None
    row = np.argmin(np.abs(runs["composition"].metrics["lens/step"] - known))
    return float(lens(runs, name)[-1] - lens(runs, name)[row])


@cache
def parameters(n_tokens: int, *, blocks: bool = False) -> float:
    """Millions of parameters of the published shape, or of its blocks and last norm alone."""
    net = GPT2(n_tokens=n_tokens, seed=0)
    tables = sum(table.weight.numel() for table in (net.embed, net.position))
    return (sum(p.numel() for p in net.parameters()) - blocks * tables) / 1e6


def size(says: str, published: float, n_tokens: int, *, blocks: bool = False) -> Claim:
    return Claim(
        f"{says}: millions of parameters",
        CODE,
        f"{published:g}",
        lambda _: parameters(n_tokens, blocks=blocks),
        within(published, 0.001),
        "within 0.1 %",
    )


def on_a_gpu(name: str, experiment: str, says: str, source: str, published: str) -> NeedsGPU:
    commands = tuple(
        f"python src/train.py experiment={experiment} trainer=gpu data.phi=7.2 seed={seed}"
        for seed in SEEDS
    )
    return NeedsGPU(name, says, source, published, commands)


REPLICATIONS = [
    Replication(
        "wang",
        {
            "composition": (
                "experiment=wang_small",
                "~measures.progress.tracing",
                "schedule.checkpoint=log 2",
            )
        },
        (
            Claim(
                f"training accuracies > 0.99, atomic and inferred: share of all steps{LAPTOP}",
                FIG_1,
                "early: 14,000 of 1.5M steps, 0.01",
                memorised_share,
                between(0, 0.2),
                "laptop scale: at most 0.2",
            ),
            Claim(
                f"best accuracy on ID test facts up to then{LAPTOP}",
                FIG_1,
                "0.092",
                best_before,
                between(0, 0.2),
                "laptop scale: at most 0.2",
                "training accuracy wavers at 0.99 while that on test facts rises already",
            ),
            Claim(
                f"steps to ID test accuracy 0.9 over those to known training facts{LAPTOP}",
                FIG_1,
                "about 50 (to near 1)",
                delay,
                lambda times: times >= 5,
                "laptop scale: at least 5",
            ),
            Claim(
                f"accuracy on ID test facts at the end{LAPTOP}",
                FIG_1,
                "near 1",
                partial(at_the_end, split="test_inferred_iid"),
                between(0.9, 1),
                "laptop scale: at least 0.9",
                "every seed reaches 0.97 and loses it again in spikes of the training loss",
            ),
            Claim(
                f"largest accuracy on OOD test facts, of which there are about 50{LAPTOP}",
                FIG_1,
                "near 0 up to 2M steps",
                partial(largest, split="test_inferred_ood"),
                between(0, 0.1),
                "at most 0.1",
            ),
            Claim(
                f"reciprocal rank of the bridge at r1 between the blocks, at the end{LAPTOP}",
                FIG_4,
                "b stands at r1 below the upper layers",
                partial(lens_at_the_end, name="bridge"),
                between(0.5, 1),
                "at least 0.5",
            ),
            Claim(
                f"reciprocal rank of r2 at r2 between the blocks: gain since memorised{LAPTOP}",
                FIG_4,
                "r2 stands at r2 below the upper layers, once it generalises",
                partial(lens_gain, name="relation"),
                lambda value: value > 0.1,
                "laptop scale: ordering only, above 0.1",
            ),
        ),
        minutes=25,
    ),
    Replication(
        "wang_sizes",
        {},
        (
            size("composition, with GPT-2's vocabulary", 97.8, COMPOSITION),
            size("composition, own 2,206 tokens", 59.2, 2206),
            size("comparison, with GPT-2's vocabulary", 96.9, COMPARISON),
            size("composition, without embeddings", 56.7, 2206, blocks=True),
        ),
    ),
    on_a_gpu(
        "wang_composition",
        "wang",
        "composition, 2,000 entities: steps to training accuracies > 0.99, best ID test accuracy "
        "up to then, ID test accuracy at the end, OOD test accuracy",
        FIG_1,
        "14,000; 0.092; near 1 after about 50 times as many steps; near 0 up to 2M steps",
    ),
    on_a_gpu(
        "wang_comparison",
        "wang_comparison",
        "comparison, 1,000 entities: ID and OOD test accuracy at the end",
        "Fig. 1, comparison (phi = 7.2)",
        "both near 1, after the training accuracies",
    ),
]
