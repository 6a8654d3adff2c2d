"""What is measured at samples of its own, beside the training step."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from lightning import LightningModule

from grokscope.callbacks.measurement import Measurement
from grokscope.callbacks.probe import Given, find_probe
from grokscope.callbacks.probe_kinds import PROBE_KINDS, InputKind, ProbeKind, SampleKind
from grokscope.callbacks.stopwatch import Stopwatch


class Probing:
    """The kinds that need a probe.

    Args:
        module: What is trained; its probe is found when training begins.
        names: Of all kinds; those that need no probe are left alone.
        given: The probe, as :func:`~grokscope.callbacks.probe.find_probe` takes it.
        settings: ``top_k``, ``rank_threshold`` and ``max_bytes``.
        centered: Of the kind ``sample``.

    Raises:
        ValueError: If the module lacks what a kind needs.
    """

    def __init__(
        self,
        module: LightningModule,
        names: Collection[str],
        given: Given,
        settings: tuple[int, float, int],
        centered: bool,
    ) -> None:
        self._module = module
        make: dict[str, Callable[..., ProbeKind]] = {
            "sample": partial(SampleKind, centered=centered),
            "input": InputKind,
        }
        chosen = [name for name in names if name in PROBE_KINDS]
        probe: Any = find_probe(module, given) if chosen else None
        self.kinds = [make[name](module, probe, *settings) for name in chosen]

    def measure(self, due: Collection[str], clock: Stopwatch) -> dict[str, Measurement]:
        """What is due, at the present weights; processes but the first only take part."""
        found = {}
        for kind in self.kinds:
            if kind.name in due:
                with clock(kind.name):
                    found[kind.name] = kind.measure(self._module)
        return {name: measurement for name, measurement in found.items() if measurement}
