"""Features of modular arithmetic: kernel machines and quadratic nets (Mallinar et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning import LightningModule
from torch import Tensor

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.feature_ansatz import feature_ansatz, psd_power
from grokscope.measures.input_gop import input_gop
from grokscope.measures.rfm import OPERATIONS, feature_deviation, two_layer_agop
from grokscope.validation import require_bool

WRONG = {
    "add": "subtract",
    "subtract": "add",
    "multiply": "divide",
    "divide": "multiply",
}


class MachineFeatures(ProgressMeasure):
    """The feature matrix M of a kernel machine; the row of epoch e has it after e iterations.

    Columns: ``matrix`` (d, d), from which ``grokscope.measures.rfm.agop_alignment`` makes the
    alignment with the last one; ``deviation`` D of its lower left block, in [0, 1], and
    ``deviation_mean`` = D / p as in the paper's figures; ``wrong_deviation``, D along the other
    diagonals, which stays near 1. All three are NaN at M = I.

    Args:
        schedule: When.
        matrix: Whether the matrix itself is stored, 8 d² bytes a row.
    """

    def __init__(self, schedule: Any = "every 1", matrix: bool = True) -> None:
        super().__init__(schedule)
        self.matrix = require_bool("matrix", matrix)

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        names: dict[str, tuple[int, ...]] = dict.fromkeys(
            ("deviation", "deviation_mean", "wrong_deviation"), ()
        )
        shape = tuple(_features(module).shape)
        return names | ({"matrix": shape} if self.matrix else {})

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present features."""
        features, operation = _features(module).detach().cpu().clone(), _operation(module)
        found: dict[str, Any] = {
            "deviation": feature_deviation(features, operation),
            "deviation_mean": feature_deviation(features, operation, "mean"),
            "wrong_deviation": feature_deviation(features, WRONG[operation]),
        }
        return found | ({"matrix": features.numpy()} if self.matrix else {})


class NeuralFeatures(ProgressMeasure):
    """Weight Gram matrix (NFM) and input AGOP of a net, and the neural feature ansatz.

    Columns: ``nfa``, Pearson correlation of W₁ᵀW₁ and the square root of the AGOP at the training
    samples, and ``nfa_off_diagonal`` with both diagonals set to zero; ``trace`` of the AGOP;
    ``deviation`` D of the NFM's lower left block and ``agop_deviation`` of the AGOP root's;
    with ``matrix``, ``nfm`` and ``agop_root`` (d, d).

    Args:
        schedule: When.
        matrix: Whether the matrices are stored, 16 d² bytes a row.
    """

    def __init__(self, schedule: Any = "log 20", matrix: bool = False) -> None:
        super().__init__(schedule)
        self.matrix = require_bool("matrix", matrix)

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        single = ("nfa", "nfa_off_diagonal", "trace", "deviation", "agop_deviation")
        d = _first_weight(module).shape[1]
        matrices = {"nfm": (d, d), "agop_root": (d, d)} if self.matrix else {}
        return dict.fromkeys(single, ()) | matrices

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights and the training samples."""
        weight, operation = _first_weight(module).detach().double(), _operation(module)
        agop = _agop(module).double()
        root, nfm = psd_power(agop, 0.5), weight.T @ weight
        found: dict[str, Any] = {
            "nfa": feature_ansatz(weight, root, 1.0, similarity="pearson"),
            "nfa_off_diagonal": feature_ansatz(
                weight, root, 1.0, similarity="pearson_off_diagonal"
            ),
            "trace": float(agop.trace()),
            "deviation": feature_deviation(nfm, operation),
            "agop_deviation": feature_deviation(root, operation),
        }
        matrices = {"nfm": nfm.cpu().numpy(), "agop_root": root.cpu().numpy()}
        return found | (matrices if self.matrix else {})


def _features(module: Any) -> Tensor:
    features = getattr(module.net, "features", None)
    if not isinstance(features, Tensor):
        raise ValueError("progress needs a kernel machine with features, got another net.")
    return features


def _first_weight(module: Any) -> Tensor:
    layers = getattr(module.net, "layers", None)
    if not layers:
        raise ValueError("progress needs a net with linear layers, got another one.")
    return layers[0].weight


def _operation(module: Any) -> str:
    operation = getattr(module.data, "operation", None)
    if operation not in OPERATIONS:
        raise ValueError(
            f"data.operation must be one of {', '.join(OPERATIONS)} for this measure, "
            f"got {operation!r}."
        )
    return str(operation)


def _agop(module: Any) -> Tensor:
    """In closed form where the net knows its slopes, by autograd else."""
    net, inputs = module.net, module.training_samples()[0]
    if not hasattr(net, "slopes"):
        return input_gop(net, inputs).dense()
    first, second = (layer.weight.detach() for layer in net.layers)
    return two_layer_agop(first, second, net.slopes(inputs).detach())
