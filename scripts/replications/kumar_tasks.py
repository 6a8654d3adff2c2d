"""Kumar et al. 2023, arXiv 2310.06110: labels from the kernel, modular addition and images."""

from __future__ import annotations

from functools import partial

from replications._committee import PAPER, committee, growth
from replications._series import RECORD_NOTHING, Runs, delay, final, quotient, value_at
from replications.claims import Claim, Replication, between, first_above, first_below

OUR_READING = (
    "initial weights and squared error of the paper are not known; its rate is read as that for "
    "a sum over outputs"
)
UNKNOWN_SIZES = "the figure's D, P and epsilon are not known; here they are those of kumar_small"
NORM = (
    "callbacks.gop.progress={norm:{_target_:grokscope.callbacks.families.norm.NetNorm,"
    "schedule:log 20}}"
)
MODADD = ("experiment=kumar_modadd", "measures=none", "schedule.metrics=every 10", NORM)


def of_eigenvector(runs: Runs, run: str, loss: float = 0.5) -> float | None:
    """Epochs to a test loss over epochs to the same training loss."""
    learned = first_below(runs[run], "train_loss", loss)
    return quotient(first_below(runs[run], "test_loss", loss), learned)


def lateness(runs: Runs) -> float | None:
    return quotient(of_eigenvector(runs, "70"), of_eigenvector(runs, "1"))


def modadd(runs: Runs, column: str) -> float | None:
    return first_above(runs["p 23"], column, 0.999)


def memorised_loss(runs: Runs) -> float | None:
    epoch = modadd(runs, "train_acc")
    return None if epoch is None else value_at(runs["p 23"], "train_loss", epoch)


def image_delays(runs: Runs) -> float | None:
    """Delay of the lazy net over that of the rich one."""
    delays = [delay(runs, name, 0.95, 0.75) for name in ("alpha 0.5", "alpha 0.001")]
    return quotient(*delays)


IMAGES = ("experiment=kumar_mnist_small", "data.train_images=t10k", "measures=none")
REPLICATIONS = [
    Replication(
        "kumar_eigenvector",
        {
            str(j): committee("centred_committee", "model=eigenvector", f"model.eigenvector={j}")
            for j in (1, 70, 100)
        },
        (
            Claim(
                "label eigenvector 1: test over training epochs to half of the labels' square",
                f"{PAPER}, labels from the kernel",
                "at once",
                partial(of_eigenvector, run="1"),
                lambda value: value <= 2,
                "<= 2",
            ),
            Claim(
                "delay with eigenvector 70 over that with 1",
                f"{PAPER}, labels from the kernel",
                "late",
                lateness,
                lambda value: value >= 2,
                ">= 2",
                UNKNOWN_SIZES,
            ),
            Claim(
                "label eigenvector 100: test loss at the end over that with 70",
                f"{PAPER}, labels from the kernel",
                "never generalises",
                lambda runs: final(runs["100"], "test_loss") / final(runs["70"], "test_loss"),
                lambda value: value > 1,
                "> 1; laptop scale: order only",
                UNKNOWN_SIZES,
            ),
        ),
        minutes=2,
    ),
    Replication(
        "kumar_modadd",
        {
            "p 23": (
                "experiment=kumar_modadd",
                "measures=none",
                "schedule.metrics=every 10",
                NORM,
            )
        },
        (
            Claim(
                "epoch at which all training pairs are right",
                PAPER,
                "about 2,000",
                partial(modadd, column="train_acc"),
                between(1000, 4000),
                "within a factor of 2",
                OUR_READING,
            ),
            Claim(
                "training loss at that epoch",
                PAPER,
                "about 0.06",
                memorised_loss,
                between(0.03, 0.12),
                "within a factor of 2",
                OUR_READING,
            ),
            Claim(
                "epoch at which all test pairs are right",
                PAPER,
                "3,000 to 4,000",
                partial(modadd, column="test_acc"),
                between(1500, 8000),
                "within a factor of 2",
                OUR_READING,
            ),
            Claim(
                "the one over the other",
                PAPER,
                "1.5 to 2",
                lambda runs: delay(runs, "p 23", 0.999, 0.999),
                between(1.2, 3),
                "1.2 to 3",
            ),
            Claim(
                "weight norm at the end over that of the start",
                PAPER,
                "rises",
                partial(growth, run="p 23", column="norm/norm"),
                lambda value: value > 1,
                "> 1",
            ),
        ),
        minutes=1,
    ),
    Replication(
        "kumar_mnist",
        {
            f"alpha {alpha}": (*IMAGES, f"net.output_scale={alpha}", RECORD_NOTHING)
            for alpha in (0.5, 0.001)
        },
        (
            Claim(
                "delay at alpha 0.5 over that at 0.001 (test accuracy 0.75 over train 0.95)",
                f"{PAPER}; laptop scale: order only, images of the test file",
                "the delay vanishes as alpha falls",
                image_delays,
                lambda value: value > 1,
                "> 1",
            ),
        ),
        minutes=3,
    ),
]
