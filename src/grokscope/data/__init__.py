"""Tasks: from a definition to tensors to a LightningDataModule."""

from grokscope.data.base import Split, TensorDataModule
from grokscope.data.linear_teacher import LinearTeacherDataModule
from grokscope.data.mnist import MNISTDataModule
from grokscope.data.modular import ModularDataModule

__all__ = [
    "LinearTeacherDataModule",
    "MNISTDataModule",
    "ModularDataModule",
    "Split",
    "TensorDataModule",
]
