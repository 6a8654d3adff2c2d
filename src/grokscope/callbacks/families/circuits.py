"""The circuit that a net of modular addition builds, in Fourier terms, while it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.func import functional_call

from grokscope.callbacks.progress_measures import ProgressMeasure
from grokscope.measures.fourier_basis import require_frequencies, require_odd
from grokscope.measures.fourier_grid import (
    explained_variance,
    key_frequencies,
    neuron_frequencies,
)
from grokscope.measures.fourier_waves import dominant_frequencies
from grokscope.measures.nanda import neuron_measures, weight_measures
from grokscope.measures.nanda_logits import logit_measures
from grokscope.measures.nanda_transformer import SHAPES, TransformerWeights, activations

OUR_NAMES = {
    "embed.W_E": "embed.weight",
    "pos_embed.W_pos": "position.weight",
    "blocks.0.attn.W_K": "attention.key.weight",
    "blocks.0.attn.W_Q": "attention.query.weight",
    "blocks.0.attn.W_V": "attention.value.weight",
    "blocks.0.attn.W_O": "attention.output.weight",
    "blocks.0.mlp.W_in": "mlp.up.weight",
    "blocks.0.mlp.b_in": "mlp.up.bias",
    "blocks.0.mlp.W_out": "mlp.down.weight",
    "blocks.0.mlp.b_out": "mlp.down.bias",
    "unembed.W_U": "unembed.weight",
}
"""Names of Nanda et al. -> names of :class:`~grokscope.nets.OneLayerTransformer`."""

TRANSPOSED = ("embed.W_E", "unembed.W_U")
CHUNK = 2048  # inputs at once

_SPLIT = ("loss", "acc", "restricted_loss", "restricted_acc", "restricted_loss_nobias")
_LOGIT_SCALARS = (
    *(f"{name}_{split}" for name in _SPLIT for split in ("all", "train", "test")),
    *(f"excluded_{s}_{d}_train_all_key" for s in ("loss", "acc") for d in ("2d", "3d")),
    *("excluded_loss_2d_all_all_key", "excluded_loss_2d_test_all_key"),
    *(f"cos_terms_fve_key_{name}" for name in ("raw", "centred", "double_centred")),
    *("logits_norm", "logits_centred_norm", "logits_double_centred_norm"),
    *("cos_sim_trig_vs_logits", "cos_sim_trig_biascorr_vs_logits"),
    *("cos_sim_trig_vs_centred_logits", "cos_sim_cos3d_vs_logits"),
    "cos_sim_cos3d_vs_centred_logits",
)
_LOGIT_BY_FREQUENCY = (
    "key_frequencies",
    *(f"excluded_{s}_{d}_train_by_freq" for s in ("loss", "acc") for d in ("2d", "3d")),
    *("ablate_freq_loss_all", "ablate_freq_loss_test"),
    *("cos_coeffs_by_freq", "cos_sim_by_freq"),
    *(f"logits_{name}_fve_by_freq" for name in ("deg2", "quad", "xpy")),
)
_GINI = (
    "norms_all_p_components",
    "norms_without_const",
    "norms_per_frequency",
    "squared_norms_per_frequency",
)
_TRANSFORMER_SCALARS = (
    *("loss_train_with_eq_logit", "loss_test_with_eq_logit"),
    *("W_L_frob", "W_E_key_fraction_of_sq_norm", "W_L_key_fraction_of_sq_norm"),
    *(f"gini_{matrix}_{name}" for matrix in ("W_E", "W_L") for name in _GINI),
    *("sum_sq_weights_total", "neurons_frac_ge_085"),
)


class CircuitProgress(ProgressMeasure):
    """The progress measures of Nanda et al. 2023, for a net that learns (a + b) mod p.

    For any net with a logit for each class: those of the logits,
    :func:`grokscope.measures.nanda_logits.logit_measures`. For
    :class:`~grokscope.nets.OneLayerTransformer` on (a, b, =) with the plain softmax also those of
    weights, neurons and attention, but the vectors with one number a neuron. Columns have the
    names of :func:`grokscope.measures.nanda.nanda_measures`, variants of the Gini coefficient by
    ``_``; further ``key_frequencies`` ((p - 1) / 2,), 1 where a frequency is one, and for the
    transformer ``neurons_by_freq``, how many neurons have each frequency. The parameter names of
    ``sum_sq_weights_by_param`` are an attribute. Losses are cross entropies with the true sums,
    also where training labels are corrupted or the net is trained on another loss.

    Args:
        modulus: p, odd.
        schedule: When. A row at p = 113 takes about a second.
        key_frequencies: Those of restricted and excluded losses, best taken from an earlier,
            finished run of the same seed: the paper finds them at the end. None finds them anew
            at each row, for the transformer by its neurons
            (:func:`~grokscope.measures.fourier_grid.key_frequencies`) and else by its logits
            (:func:`~grokscope.measures.fourier_waves.dominant_frequencies`). Then rows cannot be
            compared: early in training most frequencies are found, and the restricted loss of
            these is low for a net that only memorises.

    Raises:
        ValueError: For an argument out of range; at the first row, for a net or a task of
            another kind.

    Source:
        Nanda et al. 2023, arXiv:2301.05217.
    """

    def __init__(
        self,
        modulus: int,
        schedule: Any = "log 20",
        key_frequencies: Sequence[int] | None = None,
    ) -> None:
        super().__init__(schedule)
        self.modulus = require_odd(modulus)
        given = key_frequencies
        self.key_frequencies = None if given is None else require_frequencies(given, modulus)

    def check_data(self, data: Any) -> None:
        """Refuse any task but the addition of all ordered pairs."""
        all_pairs(data.train, data.test, self.modulus)

    def columns(self, module: LightningModule) -> Mapping[str, tuple[int, ...]]:
        """As the class says."""
        net, p = cast(Any, module).net, self.modulus
        by_frequency = ((p - 1) // 2,)
        found: dict[str, tuple[int, ...]] = dict.fromkeys(_LOGIT_SCALARS, ())
        found |= dict.fromkeys(_LOGIT_BY_FREQUENCY, by_frequency)
        if not is_addition_transformer(net, p):
            return found
        heads = net.attention.n_heads
        return {
            **found,
            **dict.fromkeys(_TRANSFORMER_SCALARS, ()),
            **dict.fromkeys(("neurons_by_freq", "neurons_pooled_fve_by_freq"), by_frequency),
            **dict.fromkeys(("W_E_fourier_norms", "W_L_fourier_norms"), (p,)),
            **dict.fromkeys(("attn_mean_by_head_pos", "attn_std_by_head_pos"), (heads, 2)),
            "W_attn_fourier": (heads, p),
            "sum_sq_weights_by_param": (len(SHAPES),),
        }

    def attributes(self, module: LightningModule) -> Mapping[str, Any]:
        """The modulus, whether frequencies are fixed, and names of the transformer's weights."""
        found = {"modulus": self.modulus, "fixed_frequencies": self.key_frequencies is not None}
        if is_addition_transformer(cast(Any, module).net, self.modulus):
            return {**found, "parameters": list(SHAPES)}
        return found

    def measure(self, module: LightningModule) -> Mapping[str, Any]:
        """At the present weights."""
        net = cast(Any, module).net
        own = cast(Any, module)
        splits = own.train_batch.split, own.test_batch.split
        inputs, train_mask = all_pairs(*splits, self.modulus)
        with torch.no_grad():
            if is_addition_transformer(net, self.modulus):
                return self._of_transformer(net, train_mask)
            return self._of_logits(_logits(net, inputs, self.modulus), train_mask)

    def _of_transformer(self, net: nn.Module, train_mask: Tensor) -> dict[str, Any]:
        w = TransformerWeights.of(authors_weights(net), self.modulus)
        found = activations(w, self.modulus)
        explained = explained_variance(found.neurons)
        keys = self.key_frequencies
        keys = key_frequencies(explained) if keys is None else keys
        last = len(explained) + 1
        counts = torch.bincount(neuron_frequencies(explained), minlength=last)[1:]
        measured = {
            **weight_measures(w, keys),
            **neuron_measures(found, explained),
            **logit_measures(found.logits, train_mask, keys),
            "neurons_by_freq": counts.cpu().numpy(),
            "key_frequencies": self._flags(keys),
        }
        for matrix in ("W_E", "W_L"):
            variants = measured.pop(f"gini_{matrix}")
            measured |= {f"gini_{matrix}_{name}": value for name, value in variants.items()}
        return {
            n: v
            for n, v in measured.items()
            if n not in ("neuron_frac_explained", "neuron_norms_sq")
        }

    def _of_logits(self, logits: Tensor, train_mask: Tensor) -> dict[str, Any]:
        keys = self.key_frequencies
        keys = dominant_frequencies(logits) if keys is None else keys
        measured = logit_measures(logits, train_mask, keys)
        return {**measured, "key_frequencies": self._flags(keys)}

    def _flags(self, frequencies: Sequence[int]) -> list[bool]:
        return [k in frequencies for k in range(1, (self.modulus + 1) // 2)]


def is_addition_transformer(net: nn.Module, modulus: int) -> bool:
    """Whether the weights of a net are those that the authors' formulas take."""
    names = {name for name, _ in net.named_parameters()}
    if names != set(OUR_NAMES.values()):
        return False
    own: Any = net
    sizes = own.n_tokens == modulus + 1 and own.context == 3
    return bool(sizes and own.attention.softmax == "softmax")


def authors_weights(net: nn.Module) -> dict[str, Tensor]:
    """Weights of a ``OneLayerTransformer`` under the names and shapes of Nanda et al."""
    own = dict(net.named_parameters())
    attention: Any = cast(Any, net).attention
    found = {theirs: own[ours].detach() for theirs, ours in OUR_NAMES.items()}
    for name in TRANSPOSED:
        found[name] = found[name].t()
    for name in ("W_K", "W_Q", "W_V"):
        full = f"blocks.0.attn.{name}"
        found[full] = found[full].unflatten(0, (attention.n_heads, attention.d_head))
    return found


def all_pairs(train: Any, test: Any, modulus: int) -> tuple[Tensor, Tensor]:
    """Inputs of all pairs (a, b), in rows a p + b, and which of them train: (p^2,) bool.

    Raises:
        ValueError: If the splits are not, together, every ordered pair once, or the test targets
            are not (a + b) mod p.
    """
    p = modulus
    inputs = torch.cat([train.inputs, test.inputs])
    rows = _rows(inputs, p)
    order = rows.argsort()
    if not torch.equal(rows[order], torch.arange(p * p, device=rows.device)):
        raise ValueError(
            f"circuit measures need every ordered pair of {p} numbers in one of the splits, got "
            f"{len(rows)} inputs of which {len(rows.unique())} differ."
        )
    tested = rows[len(train) :]
    if not torch.equal((tested // p + tested) % p, test.targets.flatten()):
        raise ValueError(f"circuit measures need the targets (a + b) mod {p}.")
    return inputs[order], order < len(train)


def _rows(inputs: Tensor, p: int) -> Tensor:
    """Number a p + b of each input: tokens with a and b first, or two one-hot blocks."""
    if inputs.ndim == 2 and inputs.is_floating_point() and inputs.shape[1] == 2 * p:
        a, b = (block.argmax(1) for block in inputs.split(p, 1))
    elif inputs.ndim == 2 and not inputs.is_floating_point() and inputs.shape[1] in (2, 3):
        a, b = inputs[:, 0], inputs[:, 1]
    else:
        raise ValueError(
            f"circuit measures need inputs of tokens (n, 2) or (n, 3), or one-hot (n, {2 * p}), "
            f"got {tuple(inputs.shape)} of {inputs.dtype}."
        )
    return a * p + b


def _logits(net: nn.Module, inputs: Tensor, p: int) -> Tensor:
    """Those of the p classes in float64, (n, p)."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    double = {n: t.double() if t.is_floating_point() else t for n, t in tensors.items()}
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    outputs = torch.cat([functional_call(net, double, (x,)) for x in inputs.split(CHUNK)])
    if outputs.ndim != 2 or outputs.shape[1] < p:
        raise ValueError(
            f"circuit measures need a net with a logit for each of {p} classes, "
            f"got outputs {tuple(outputs.shape)}."
        )
    return outputs[:, :p]
