"""Minegishi et al. 2023, arXiv 2310.19470: other masks, and other nets."""

from __future__ import annotations

from functools import partial

from replications._series import RECORD_NOTHING
from replications._tickets import (
    DENSE,
    FAST,
    PAPER,
    compared,
    less_than,
    slower,
    ticket,
)
from replications.claims import Claim, Replication

IMAGES = ("experiment=minegishi_mnist", "data.train_images=t10k", *FAST)
MASKS = ("random", "snip", "grasp", "synflow")
REPLICATIONS = [
    Replication(
        "minegishi_masks",
        {
            "dense": (*DENSE, RECORD_NOTHING),
            **{name: ticket(f"ticket.method={name}", "ticket.epoch=0") for name in MASKS},
        },
        tuple(
            slower(f"{name} mask (0.6 pruned) over dense net", "Fig. 5", name, "dense")
            for name in MASKS
        ),
        minutes=9,
    ),
    Replication(
        "minegishi_transformer",
        {
            "dense": ("experiment=minegishi_transformer", *FAST),
            "ticket": ticket("ticket=subnetwork", experiment="minegishi_transformer"),
        },
        (
            Claim(
                "ticket: epochs to generalise over those of the dense net",
                f"{PAPER}, Fig. 2",
                "the delay vanishes",
                partial(compared, above="ticket", below="dense"),
                *less_than(0.5),
            ),
        ),
        minutes=20,
        slow=True,
    ),
    Replication(
        "minegishi_mnist",
        {
            "dense": IMAGES,
            "ticket": (*IMAGES, "ticket=subnetwork", 'ticket.run="{dense}"'),
        },
        (
            Claim(
                "ticket over dense net: epochs to test accuracy 0.75 (images of the test file)",
                f"{PAPER}, Fig. 2",
                "the delay vanishes",
                partial(compared, above="ticket", below="dense", test=0.75),
                *less_than(0.5),
            ),
        ),
        minutes=70,
        slow=True,
    ),
]
