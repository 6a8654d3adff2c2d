"""Tasks: from a definition to tensors to a LightningDataModule."""

from grokscope.data.base import Split, TensorDataModule
from grokscope.data.comparison import ComparisonDataModule
from grokscope.data.composition import CompositionDataModule
from grokscope.data.corrupted import CorruptedModularDataModule
from grokscope.data.emnist import EMNISTDataModule
from grokscope.data.equations import EquationDataModule
from grokscope.data.imdb import IMDBDataModule
from grokscope.data.linear_teacher import LinearTeacherDataModule, TwoLayerTeacherDataModule
from grokscope.data.mnist import MNISTDataModule
from grokscope.data.modular import ModularDataModule
from grokscope.data.polynomial import PolynomialDataModule
from grokscope.data.qm9 import QM9DataModule
from grokscope.data.quadratic_teacher import QuadraticTeacherDataModule
from grokscope.data.teacher_student import TeacherStudentDataModule
from grokscope.data.toy_groups import ToyGroupDataModule
from grokscope.data.unordered_pairs import UnorderedPairsDataModule

__all__ = [
    "ComparisonDataModule",
    "CompositionDataModule",
    "CorruptedModularDataModule",
    "EMNISTDataModule",
    "EquationDataModule",
    "IMDBDataModule",
    "LinearTeacherDataModule",
    "MNISTDataModule",
    "ModularDataModule",
    "PolynomialDataModule",
    "QM9DataModule",
    "QuadraticTeacherDataModule",
    "Split",
    "TeacherStudentDataModule",
    "TensorDataModule",
    "ToyGroupDataModule",
    "TwoLayerTeacherDataModule",
    "UnorderedPairsDataModule",
]
