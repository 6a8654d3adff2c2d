"""LightningModules: loss, accuracy, optimizer, and the training loop of small models."""

from grokscope.models.grokking import GrokkingModule
from grokscope.models.linear import LinearEstimatorModule

__all__ = ["GrokkingModule", "LinearEstimatorModule"]
