"""Humayun, Balestriero, Baraniuk 2024, arXiv 2402.15555: local complexity and robustness."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from grokscope.measures.local_complexity import local_complexity
from grokscope.nets import MLP
from replications._series import Runs, curve, final, value_at
from replications.claims import SEEDS, Claim, NeedsGPU, Replication, between

PAPER = "Humayun et al. 2024"
LC, ATTACKED = "local_complexity/train", "adversarial/accuracy"
SCALE = "; laptop scale: 30,000 steps, images of the test file"
STEPS = 5  # of an epoch
RADII, DIRECTIONS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0), (2, 25, 200)
WIDTHS = (784, *[400] * 50)


def share_found(_: Runs) -> float:
    """Least share of hyperplanes through the origin that are found, over r, P and seeds."""
    return min(found(seed, r, p) for seed in SEEDS for r in RADII for p in DIRECTIONS)


def found(seed: int, radius: float, n_directions: int) -> float:
    net = MLP(WIDTHS, "identity", bias=False, seed=seed).double()
    origin = torch.zeros(1, 784, dtype=torch.float64)
    counted = local_complexity(net, origin, radius=radius, n_directions=n_directions, seed=seed)
    return float((counted.counts[0] / counted.units).min())


def turns(runs: Runs, run: str) -> tuple[int, int]:
    """Rows of the peak after the first fall, and of the least value before that peak."""
    _, complexity = curve(runs[run], LC)
    start = int(np.argmin(complexity[: len(complexity) // 2]))
    peak = start + int(np.argmax(complexity[start:]))
    return peak, int(np.argmin(complexity[: peak + 1]))


def ratio(runs: Runs, run: str, above: str, below: str) -> float:
    """Of the complexities at two of: start, low, peak, end."""
    _, complexity = curve(runs[run], LC)
    peak, low = turns(runs, run)
    rows = {"start": 0, "low": low, "peak": peak, "end": -1}
    return float(complexity[rows[above]] / complexity[rows[below]])


def peak_epoch(runs: Runs) -> float:
    epochs, _ = curve(runs["MNIST"], LC)
    return float(epochs[turns(runs, "MNIST")[0]])


def second_fall(runs: Runs) -> float:
    """Last step at which the complexity is 3/4 of its peak: the peak itself is flat and noisy."""
    epochs, complexity = curve(runs["MNIST"], LC)
    return float(STEPS * epochs[np.flatnonzero(complexity >= 0.75 * complexity.max())[-1]])


def train_over_test(runs: Runs) -> float:
    """Complexity around training points over that around test points, at the peak."""
    run, epoch = runs["MNIST"], peak_epoch(runs)
    return value_at(run, LC, epoch) / value_at(run, "local_complexity/test", epoch)


def robust(runs: Runs, run: str) -> np.ndarray:
    """Adversarial accuracy at the largest epsilon."""
    return np.asarray(runs[run].metrics[ATTACKED][:, -1])


def robust_from(runs: Runs, run: str, gain: float = 0.05) -> float | None:
    """Step at which it is this much above its least value since the net memorised.

    Before, it rises with the clean accuracy and falls again.
    """
    epochs, accuracy = runs[run].metrics["adversarial/epoch"], robust(runs, run)
    memorised = runs[run].grokking().memorised
    if memorised is None:
        return None
    epochs, accuracy = epochs[epochs >= memorised], accuracy[epochs >= memorised]
    low = int(np.argmin(accuracy))
    above = accuracy[low:] >= accuracy[low] + gain
    return float(STEPS * epochs[low + np.argmax(above)]) if above.any() else None


def gain(runs: Runs, run: str) -> float:
    """Adversarial accuracy at the end less the least one."""
    return float(robust(runs, run)[-1] - robust(runs, run).min())


def late_rise(runs: Runs, run: str, step: int = 1000) -> float:
    """Test accuracy at the end less that at a step."""
    return final(runs[run], "test_acc") - value_at(runs[run], "test_acc", step / STEPS)


MNIST = ("experiment=humayun_small", "data.train_images=t10k")
REPLICATIONS = [
    Replication(
        "humayun_theory",
        {},
        (
            Claim(
                "linear net of 50 layers, no biases: least share of hyperplanes found around 0",
                f"{PAPER}, App. A: r of 1e-4 to 10, P of 2 to 200",
                "1",
                share_found,
                lambda value: value == 1,
                "exactly",
            ),
        ),
        minutes=1,
    ),
    Replication(
        "humayun",
        {"MNIST": MNIST, "scale 8": (*MNIST, "net.scale=8")},
        (
            Claim(
                "first fall: local complexity of the start over the least before the peak",
                f"{PAPER}, Fig. 2{SCALE}",
                "falls",
                partial(ratio, run="MNIST", above="start", below="low"),
                lambda value: value >= 1.2,
                ">= 1.2",
            ),
            Claim(
                "rise: peak over that least",
                f"{PAPER}, Fig. 2{SCALE}",
                "rises",
                partial(ratio, run="MNIST", above="peak", below="low"),
                lambda value: value >= 1.2,
                ">= 1.2",
            ),
            Claim(
                "second fall: peak over the end",
                f"{PAPER}, Fig. 2{SCALE}",
                "falls again",
                partial(ratio, run="MNIST", above="peak", below="end"),
                lambda value: value >= 1.2,
                ">= 1.2",
            ),
            Claim(
                "step at which the second fall begins: last of 3/4 of the peak",
                f"{PAPER}, Fig. 2{SCALE}",
                "about 1e4",
                second_fall,
                between(3_000, 30_000),
                "within a factor of 3",
            ),
            Claim(
                "at the peak: complexity around training over that around test points",
                f"{PAPER}, Fig. 2{SCALE}",
                "> 1",
                train_over_test,
                lambda value: value > 1,
                "> 1",
            ),
            Claim(
                "step at which the adversarial accuracy (0.1) is 0.05 above its least, since the "
                "net memorised",
                f"{PAPER}, Fig. 2{SCALE}",
                "begins to rise at about 1e4",
                partial(robust_from, run="MNIST"),
                between(3_000, 30_000),
                "within a factor of 3",
            ),
            Claim(
                "scale 8: complexity of the start over the least before the peak",
                f"{PAPER}, Fig. 7{SCALE}",
                "no first fall",
                partial(ratio, run="scale 8", above="start", below="low"),
                lambda value: value <= 1.1,
                "<= 1.1",
            ),
            Claim(
                "scale 8: gain of test accuracy after 1,000 steps",
                f"{PAPER}, Fig. 7{SCALE}",
                "rises late",
                partial(late_rise, run="scale 8"),
                lambda value: value >= 0.1,
                ">= 0.1",
            ),
            Claim(
                "scale 8: gain of adversarial accuracy (0.1) over its least",
                f"{PAPER}, Fig. 7{SCALE}",
                "rises late",
                partial(gain, run="scale 8"),
                lambda value: value >= 0.05,
                ">= 0.05",
                "at 30,000 steps test accuracy is only at about 0.6; robustness comes after it",
            ),
        ),
        minutes=16,
    ),
    NeedsGPU(
        "humayun_cifar10",
        "ResNet-18 without batch norm: adversarial accuracy reaches the clean one",
        f"{PAPER}, Fig. 1",
        "rises from about 1e4 steps on, about the clean accuracy after 2e5",
        ("python src/train.py experiment=humayun_cifar10 trainer=gpu",),
    ),
]
