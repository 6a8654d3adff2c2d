"""Thilak et al. 2022, arXiv 2206.04817: slingshots, counted by this project's definition."""

from __future__ import annotations

from functools import partial

from grokscope import Run
from grokscope.measures.slingshot import slingshots_of
from replications._steps import step_of
from replications.claims import Claim, NeedsGPU, Replication, between, last

SMALL = (
    "experiment=thilak_small",
    "trainer.max_epochs=6000",
    "measures=none",
    "~measures.progress.slingshot",
    "schedule.checkpoint=log 2",
    "threads=1",
)
FULL = ("experiment=thilak", "trainer.max_epochs=60", "measures=none", "callbacks.gop.progress={}")
SCALE = "laptop scale, 6e3 steps of a small net"
LATER = "others: arXiv 2605.06152, 2501.04697"


def cycles(runs: dict[str, Run], run: str) -> float:
    return float(len(slingshots_of(runs[run])))


def fewer(runs: dict[str, Run], than: str, run: str) -> float:
    return cycles(runs, than) - cycles(runs, run)


def norms(runs: dict[str, Run]) -> float:
    large, small = (last(runs[run], "last_layer/norm") for run in ("eps 1e-8", "eps 1e-5"))
    return large / small


def none_at(run: str, source: str, published: str) -> Claim:
    """No slingshot in a run."""
    return Claim(
        f"{run}: slingshots",
        source,
        published,
        partial(cycles, run=run),
        lambda number: number == 0,
        f"none ({SCALE})",
    )


CLAIMS = (
    Claim(
        "full size: steps to train accuracy 0.99",
        "Fig. 2, division",
        "about 100 % at about 300",
        lambda runs: step_of(runs["full size"], "train_acc", 0.99),
        between(150, 600),
        "a factor of 2",
    ),
    Claim(
        "eps 1e-8: slingshots",
        "Fig. 4",
        "several",
        partial(cycles, run="eps 1e-8"),
        lambda number: number >= 2,
        f"at least 2 ({SCALE})",
    ),
    Claim(
        "slingshots at eps 1e-8 less those at 1e-7",
        "Fig. 4",
        "fewer, and later, at 1e-7",
        partial(fewer, than="eps 1e-8", run="eps 1e-7"),
        lambda number: number >= 1,
        f"at least 1 ({SCALE})",
    ),
    none_at("eps 1e-5", "Fig. 4", "none within 5e5 steps"),
    none_at("float64 loss", LATER, "none when the loss is computed in float64"),
    none_at("weight decay 1", "sweep of weight decay, 0 to 1", "vanish as weight decay grows"),
    none_at("unit head", "their alternative, features and head of norm 1", "stable"),
    Claim(
        "last layer's norm at the end: eps 1e-8 over 1e-5",
        "Fig. 4",
        "axes up to about 2.0 and 0.16",
        norms,
        lambda ratio: ratio > 1,
        f"ordering only, above 1 ({SCALE})",
    ),
)
REPLICATIONS = [
    Replication(
        "thilak",
        {
            "full size": (*FULL, "schedule.metrics=every 2"),
            "eps 1e-8": SMALL,
            "eps 1e-7": (*SMALL, "model.optimizer.eps=1e-7"),
            "eps 1e-5": (*SMALL, "model.optimizer.eps=1e-5"),
            "float64 loss": (*SMALL, "model.loss.precision=float64"),
            "weight decay 1": (*SMALL, "model.optimizer.weight_decay=1"),
            "unit head": (*SMALL, "net.unit_head=true"),
        },
        CLAIMS,
        minutes=20,
    ),
    NeedsGPU(
        "thilak_full",
        "division: steps to where test accuracy rises, and slingshots, by eps",
        "Figs. 2 and 4",
        "about 1e5 at eps 1e-8; fewer slingshots, later, at 1e-7; neither at 1e-5 in 5e5 steps",
        (
            "python src/train.py --multirun experiment=thilak trainer=gpu measures.kinds=[] "
            "model.optimizer.eps=1e-8,1e-7,1e-5 seed=0,1,2",
        ),
    ),
]
