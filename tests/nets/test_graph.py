"""Bond convolutions beside a double loop over atoms and bonds."""

from __future__ import annotations

import pytest
import supplied
import torch
from torch import nn

from grokscope.data import QM9DataModule
from grokscope.nets import MoleculeNet
from grokscope.nets.graph import BondConvolution


def double_loop(layer: BondConvolution, x, bonds):
    """NNConv as its formula says: h evaluated at every edge, messages added one by one."""
    out = torch.stack([layer.root(row) for row in x]) + layer.bias
    for i in range(len(x)):
        for j in range(len(x)):
            if bonds[i, j].any():
                matrix = layer.edges(bonds[j, i]).view(layer.d_in, layer.d_out)
                out[i] = out[i] + x[j] @ matrix
    return out


def random_bonds(n, generator, kinds=4):
    kind = torch.randint(0, kinds + 1, (n, n), generator=generator).triu(1)
    kind = kind + kind.T
    return nn.functional.one_hot(kind, kinds + 1)[..., 1:].double()


def test_a_convolution_is_the_double_loop(generator):
    layer = BondConvolution(5, 3).double()
    x = torch.randn(4, 7, 5, dtype=torch.float64, generator=generator)
    bonds = torch.stack([random_bonds(7, generator) for _ in range(4)])
    wanted = torch.stack([double_loop(layer, *graph) for graph in zip(x, bonds, strict=True)])
    torch.testing.assert_close(layer(x, bonds), wanted, rtol=1e-12, atol=1e-12)


def plain(net: MoleculeNet, features, bonds):
    """The released net on one graph without padding."""
    x = torch.relu(double_loop(net.first, features, bonds))
    x = torch.relu(double_loop(net.second, x, bonds))
    return net.out(torch.relu(net.hidden(x.sum(dim=0))))


def graphs(tmp_path, scale=1.0):
    supplied.write_qm9(tmp_path, 12, skipped=())
    data = QM9DataModule(tmp_path, 12, skip_uncharacterized=False)
    data.setup()
    return MoleculeNet(scale=scale, seed=0).double(), data.train.inputs.double()


def test_the_net_is_the_released_one_and_padding_changes_nothing(tmp_path):
    net, packed = graphs(tmp_path, scale=3.0)
    atoms = packed.shape[1]
    for row, output in zip(packed, net(packed), strict=True):
        n = int(row[:, 11].sum())
        bonds = row[:, 12:].view(atoms, atoms, 4)[:n, :n]
        torch.testing.assert_close(output, plain(net, row[:n, :11], bonds), rtol=1e-10, atol=1e-10)
    assert len({int(row[:, 11].sum()) for row in packed}) > 1


def test_the_order_of_the_atoms_does_not_matter(tmp_path, generator):
    net, packed = graphs(tmp_path)
    n, atoms, _ = packed.shape
    order = torch.randperm(atoms, generator=generator)
    bonds = packed[..., 12:].view(n, atoms, atoms, 4)[:, order][:, :, order]
    mixed = torch.cat([packed[:, order, :12], bonds.flatten(2)], dim=2)
    torch.testing.assert_close(net(mixed), net(packed))


def test_parameters_scale_and_seed():
    net, scaled = MoleculeNet(seed=0), MoleculeNet(scale=3.0, seed=0)
    assert sum(p.numel() for p in net.parameters()) == 30321
    for a, b in zip(net.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(3 * a, b)


@pytest.mark.refusal
def test_wrong_arguments_and_inputs_are_refused():
    with pytest.raises(ValueError, match=r"^d_out must be"):
        MoleculeNet(d_out=0)
    with pytest.raises(ValueError, match=r"^scale must be"):
        MoleculeNet(scale=0)
    with pytest.raises(ValueError, match=r"^inputs must be \(n, atoms, 12 \+ 4 atoms\)"):
        MoleculeNet()(torch.zeros(2, 5, 31))
