"""Launchers of sweeps; Hydra looks for them in packages of this name only.

Hydra loads this file at every start, so it imports what they need when a sweep begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class _SweepLauncher(Launcher):
    """Keeps what Hydra hands over until there are runs."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra once a sweep."""
        self.parts = hydra_context, task_function, config


class LocalLauncher(_SweepLauncher):
    """Runs on this machine: one after the other, or several at once in processes."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Called by Hydra for the runs of a sweep, or for the next few of them."""
        from grokscope.app.sweeps.launching import launch
        from grokscope.app.sweeps.local import run_here

        return launch(self.parts, self.settings, job_overrides, run_here)


class SlurmLauncher(_SweepLauncher):
    """Runs in Slurm jobs."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Called by Hydra for the runs of a sweep, or for the next few of them."""
        from grokscope.app.sweeps.launching import launch
        from grokscope.app.sweeps.slurm import run_on_slurm

        return launch(self.parts, self.settings, job_overrides, run_on_slurm)
