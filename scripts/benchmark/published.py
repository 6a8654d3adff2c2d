"""The loop of Nanda et al. 2023 in the manner in which they published it.

After the description of the authors' notebook: full attention over all positions and heads,
every position through MLP and unembedding, the float64 loss of both splits at every epoch with
an autograd graph for each, and labels made anew from the list of pairs at each call.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from grokscope.data import ModularDataModule
from grokscope.nets import OneLayerTransformer


class PublishedTransformer(nn.Module):
    """The same weights as :class:`OneLayerTransformer`, applied position by position."""

    def __init__(self, net: OneLayerTransformer) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mask", torch.tril(torch.ones(3, 3)))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (n, 3, n_tokens)."""
        net, heads = self.net, self.net.attention.n_heads
        x = net.embed.weight[tokens] + net.position.weight
        q, k, v = (
            torch.einsum("hid,bpd->bhpi", part.weight.unflatten(0, (heads, -1)), x)
            for part in (net.attention.query, net.attention.key, net.attention.value)
        )
        scores = torch.einsum("bhqi,bhpi->bhqp", q, k)
        masked = torch.tril(scores) - 1e10 * (1 - self.mask)
        pattern = torch.softmax(masked / net.attention.d_head**0.5, dim=-1)
        z = torch.einsum("bhpi,bhqp->bqhi", v, pattern).flatten(2)
        x = x + torch.einsum("df,bqf->bqd", net.attention.output.weight, z)
        hidden = torch.relu(torch.einsum("md,bpd->bpm", net.mlp.up.weight, x) + net.mlp.up.bias)
        x = x + torch.einsum("dm,bpm->bpd", net.mlp.down.weight, hidden) + net.mlp.down.bias
        return torch.einsum("vd,bpd->bpv", net.unembed.weight, x)


class PublishedLoop:
    """One epoch a call of :meth:`epoch`."""

    def __init__(self, data: ModularDataModule, net: OneLayerTransformer) -> None:
        self.model = PublishedTransformer(net)
        self.train, self.test = (s.inputs.tolist() for s in (data.train, data.test))
        self.modulus = data.modulus
        self.optimizer = torch.optim.AdamW(
            net.parameters(), lr=1e-3, weight_decay=1.0, betas=(0.9, 0.98)
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(step / 10, 1)
        )

    def _loss(self, pairs: list[list[int]]) -> Tensor:
        logits = self.model(torch.tensor(pairs))[:, -1]
        labels = torch.tensor([(i + j) % self.modulus for i, j, _ in pairs])
        log_probabilities = nn.functional.log_softmax(logits.to(torch.float64), dim=-1)
        return -log_probabilities.gather(-1, labels[:, None]).mean()

    def epoch(self) -> tuple[float, float]:
        """Both losses, then the update."""
        train, test = self._loss(self.train), self._loss(self.test)
        losses = train.item(), test.item()
        train.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return losses
