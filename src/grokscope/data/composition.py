"""Two-hop facts of a random knowledge graph."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grokscope.data.knowledge import MAX_INFERRED, SPECIALS, Facts, KnowledgeDataModule
from grokscope.validation import require_float, require_int


class CompositionDataModule(KnowledgeDataModule):
    r"""Composition: (h, r1, b) and (b, r2, t) give (h, r1, r2, t).

    Each entity has ``out_degree`` distinct relations, each to a tail drawn from all entities.
    A share ``ood_ratio`` of these facts is OOD. Two-hop facts of two ID facts are held out
    for the test with probability ``iid_ratio``; those of one ID and one OOD fact are discarded.
    Sequences are ``h r t </a>`` and ``h r1 r2 t </a>``; tokens are the entities, the relations,
    then six special ones.

    Attributes:
        relations: (entities, out_degree), relation tokens of each entity; there after
            ``setup``.
        tails: (entities, out_degree), where they lead.

    Args:
        entities: Number of entities, |E| in the paper.
        relations: Number of relations.
        out_degree: Facts about each entity.
        ood_ratio: Share of the atomic facts that is OOD.
        iid_ratio: Share of the ID two-hop facts that is held out.
        phi: As in :class:`~grokscope.data.knowledge.KnowledgeDataModule`, like what follows;
            the paper's 3.6, 5.4, 7.2, 9, 12.6 and 18.
        n_tokens: Rows of the vocabulary.
        seed: Seeds facts, splits and the order of mini-batches.
        batch_size: Sequences an optimizer step sees.

    Source:
        As :class:`~grokscope.data.knowledge.KnowledgeDataModule`. Memory and time grow as
        entities * out_degree^2: 800,000 two-hop facts at the paper's size, in a second.
    """

    answer_position = 2
    replaced: Mapping[str, int] = MappingProxyType({"head": 0, "relation_1": 1, "relation_2": 2})

    def __init__(
        self,
        entities: int = 2000,
        relations: int = 200,
        out_degree: int = 20,
        ood_ratio: float = 0.05,
        iid_ratio: float = 0.005,
        phi: float | None = 7.2,
        n_tokens: int | None = None,
        seed: int = 0,
        batch_size: int = 512,
    ) -> None:
        self.n_entities = require_int("entities", entities, minimum=2)
        self.n_relations = require_int("relations", relations)
        require_int("out_degree", out_degree, maximum=self.n_relations)
        self.out_degree = require_int(
            "out_degree", out_degree, maximum=int((MAX_INFERRED / entities) ** 0.5)
        )
        self.ood_ratio = require_float("ood_ratio", ood_ratio, above=0.0, below=1.0)
        self.iid_ratio = require_float("iid_ratio", iid_ratio, above=0.0, below=1.0)
        super().__init__(entities + relations + len(SPECIALS), n_tokens, phi, seed, batch_size)

    @property
    def _first_special(self) -> int:
        return self.n_entities + self.n_relations

    def make_facts(self, rng: np.random.Generator) -> Mapping[str, NDArray]:
        """Draw the graph; rows are sequences h r t or h r1 r2 t."""
        shape = (self.n_entities, self.out_degree)
        shuffled = rng.permuted(np.tile(np.arange(self.n_relations), (self.n_entities, 1)), axis=1)
        self.relations = self.n_entities + shuffled[:, : self.out_degree]
        self.tails = rng.integers(self.n_entities, size=shape)
        ood = np.zeros(self.tails.size, dtype=bool)
        ood[rng.permutation(ood.size)[: round(self.ood_ratio * ood.size)]] = True
        atomic = _rows(shape, np.arange(self.n_entities)[:, None], self.relations, self.tails)
        inferred, first, second = self._two_hops(ood.reshape(shape))
        held_out = rng.random(len(inferred)) < self.iid_ratio
        both_id = ~first & ~second
        return {
            "id_atomic": atomic[~ood],
            "ood_atomic": atomic[ood],
            "train_inferred": inferred[both_id & ~held_out],
            "test_inferred_iid": inferred[both_id & held_out],
            "test_inferred_ood": inferred[first & second],
        }

    def spell(self, facts: NDArray, *, atomic: bool) -> Facts:
        """The last token is the answer."""
        return facts[:, :-1], facts[:, -1]

    def _two_hops(self, ood: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """All sequences h r1 r2 t, and whether their first and second fact is OOD."""
        bridges = self.tails  # (entities, out_degree), then one more axis for the second hop
        shape = (*bridges.shape, self.out_degree)
        heads = np.arange(self.n_entities)[:, None, None]
        second = self.relations[bridges], self.tails[bridges]
        inferred = _rows(shape, heads, self.relations[:, :, None], *second)
        first_ood = np.broadcast_to(ood[:, :, None], shape).ravel()
        return inferred, first_ood, ood[bridges].ravel()

    def follow(self, heads: NDArray, relations: NDArray) -> NDArray:
        """Tails (n,) of entities (n,) by relation tokens (n,); -1 where there is no such fact."""
        match = self.relations[heads] == relations[:, None]
        found = np.take_along_axis(self.tails[heads], match.argmax(1)[:, None], 1)[:, 0]
        return np.where(match.any(1), found, -1)

    def alternatives(self, questions: NDArray, position: int) -> Facts:
        """All heads; or the relations of the head; or those of the bridge."""
        n, (heads, first, second) = len(questions), questions.T
        if position == 0:
            tokens = np.arange(self.n_entities)[None]
        else:
            owners = heads if position == 1 else self.follow(heads, first)
            tokens = self.relations[owners]
        k = tokens.shape[1]
        hops = [np.repeat(column[:, None], k, axis=1) for column in (heads, first, second)]
        hops[position] = np.broadcast_to(tokens, (n, k))
        head, relation_1, relation_2 = (hop.ravel() for hop in hops)
        bridges = self.follow(head, relation_1)
        answers = np.where(bridges < 0, -1, self.follow(bridges, relation_2))
        return tokens, answers.reshape(n, k)

    def make_lens(self, questions: NDArray) -> dict[str, tuple[int, Tensor]]:
        """The bridge entity at r1, and r2 where it stands itself (paper, figure 4)."""
        bridges = self.follow(questions[:, 0], questions[:, 1])
        return {
            "bridge": (1, torch.from_numpy(bridges)),
            "relation": (2, torch.from_numpy(questions[:, 2].copy())),
        }


def _rows(shape: tuple[int, ...], *columns: NDArray) -> NDArray:
    """Columns that broadcast to ``shape``, side by side: (n, number of columns)."""
    return np.stack([np.broadcast_to(c, shape).ravel() for c in columns], axis=1)
