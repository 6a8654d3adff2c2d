"""LightningModules: loss, accuracy, optimizer, and the training loop of small models."""

from grokscope.models.constraints import FixedNorm
from grokscope.models.eigenvector import EigenvectorModule
from grokscope.models.grokking import GrokkingModule
from grokscope.models.linear import LinearEstimatorModule, TwoLayerEstimatorModule
from grokscope.models.penalty import MeanAbsPenaltyModule

__all__ = [
    "EigenvectorModule",
    "FixedNorm",
    "GrokkingModule",
    "LinearEstimatorModule",
    "MeanAbsPenaltyModule",
    "TwoLayerEstimatorModule",
]
