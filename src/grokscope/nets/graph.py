"""Convolutions on molecules whose weights depend on the bond."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from grokscope.nets.initialise import drawing_from
from grokscope.validation import require_float, require_int


class BondConvolution(nn.Module):
    r"""Edge-conditioned convolution for edges of a few kinds.

    .. math:: x'_i = W x_i + b + \sum_{j} h(e_{ij})\, x_j

    with h a net 4-32-(d_in d_out), ReLU, whose outputs are a matrix. An edge carries a one-hot
    code, so h is evaluated once for each kind instead of once for each edge, and the sum is one
    product of the adjacency matrix for each kind. It is PyTorch Geometric's ``NNConv`` with
    ``aggr="add"``, its initial draw included (W and h as ``nn.Linear``, W without bias, b zero).

    Args:
        d_in: Features of an atom.
        d_out: Features after it.
        n_kinds: Kinds of bonds.
        d_edge: Hidden units of h.

    Source:
        Gilmer et al. 2017, arXiv:1704.01212; Simonovsky and Komodakis 2017, arXiv:1704.02901.
    """

    def __init__(self, d_in: int, d_out: int, n_kinds: int = 4, d_edge: int = 32) -> None:
        super().__init__()
        self.d_in, self.d_out = d_in, d_out
        self.edges = nn.Sequential(
            nn.Linear(n_kinds, d_edge), nn.ReLU(), nn.Linear(d_edge, d_in * d_out)
        )
        self.root = nn.Linear(d_in, d_out, bias=False)
        nn.init.uniform_(self.root.weight, -1 / math.sqrt(d_in), 1 / math.sqrt(d_in))
        self.bias = nn.Parameter(torch.zeros(d_out))

    def forward(self, x: Tensor, bonds: Tensor) -> Tensor:
        """New features (n, atoms, d_out).

        Args:
            x: (n, atoms, d_in).
            bonds: (n, atoms, atoms, n_kinds), one-hot or zero where there is no bond.
        """
        kinds = torch.eye(bonds.shape[-1], dtype=x.dtype, device=x.device)
        matrices = self.edges(kinds).view(-1, self.d_in, self.d_out)
        sent = torch.einsum("nif,kfg->nikg", x, matrices)
        return torch.einsum("nijk,njkg->nig", bonds, sent) + self.root(x) + self.bias


class MoleculeNet(nn.Module):
    """Two bond convolutions, the sum over atoms, and two linear layers, ReLU between them.

    Args:
        d_features: Features of an atom.
        n_kinds: Kinds of bonds.
        d_out: Outputs.
        scale: Multiplies every initial parameter (alpha in Omnigrok).
        seed: Seeds a private draw; None draws from torch's global generator.

    Source:
        Liu et al. 2023 (Omnigrok), arXiv:2210.01117; KindXiaoming/Omnigrok:qm9/grokking:
        11-32, 32-16, sum, 16-32-1; 30,321 parameters.
    """

    def __init__(
        self,
        d_features: int = 11,
        n_kinds: int = 4,
        d_out: int = 1,
        scale: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("d_features", d_features), ("n_kinds", n_kinds), ("d_out", d_out)):
            require_int(name, value)
        require_float("scale", scale, above=0)
        self.d_features, self.n_kinds = d_features, n_kinds
        with torch.no_grad(), drawing_from(seed):
            self.first = BondConvolution(d_features, 32, n_kinds)
            self.second = BondConvolution(32, 16, n_kinds)
            self.hidden, self.out = nn.Linear(16, 32), nn.Linear(32, d_out)
            for parameter in self.parameters():
                parameter.mul_(scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (n, d_out) of graphs packed in (n, atoms, d_features + 1 + n_kinds atoms)."""
        n, atoms, width = inputs.shape
        if width != self.d_features + 1 + self.n_kinds * atoms:
            raise ValueError(
                f"inputs must be (n, atoms, {self.d_features + 1} + {self.n_kinds} atoms), "
                f"got {tuple(inputs.shape)}."
            )
        x, exists = inputs[..., : self.d_features], inputs[..., self.d_features, None]
        bonds = inputs[..., self.d_features + 1 :].view(n, atoms, atoms, self.n_kinds)
        x = torch.relu(self.first(x, bonds))
        x = torch.relu(self.second(x, bonds))
        return self.out(torch.relu(self.hidden((x * exists).sum(dim=1))))
