"""Comparisons of entities by their attributes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grokscope.data.knowledge import MAX_INFERRED, SPECIALS, Facts, KnowledgeDataModule
from grokscope.validation import require_float, require_int

LABELS = 3  # smaller, equal, larger


class ComparisonDataModule(KnowledgeDataModule):
    r"""Comparison: (e1, a, v1) and (e2, a, v2) give a smaller, equal or larger for e1 and e2.

    Every entity has a value of every attribute, drawn uniformly. For each attribute afresh, a
    share ``id_ratio`` of the entities is ID. Pairs of two ID entities are held out for the test
    with probability ``iid_ratio``, in both orders; pairs of one ID and one OOD entity are
    discarded. Sequences are ``e a v </a>`` and ``a <q> e1 <mask> e2 label </a>``; tokens are
    the entities, the attributes, the values, six special ones, then three labels of each
    attribute.

    Attributes:
        table: (entities, attributes), the values; there after ``setup``.

    Args:
        entities: Number of entities.
        attributes: Number of attributes.
        values: Values of each attribute.
        id_ratio: Share of the entities that is ID.
        iid_ratio: Share of the ID pairs that is held out.
        phi: As in :class:`~grokscope.data.knowledge.KnowledgeDataModule`, like what follows;
            the paper's 3.6, 7.2, 9 and 12.6.
        n_tokens: Rows of the vocabulary.
        seed: Seeds facts, splits and the order of mini-batches.
        batch_size: Sequences an optimizer step sees.

    Source:
        As :class:`~grokscope.data.knowledge.KnowledgeDataModule`. All ordered pairs are listed:
        16 million at the paper's size, a second and some hundred megabytes.
    """

    answer_position = 4
    replaced: Mapping[str, int] = MappingProxyType({"attribute": 0, "entity_1": 2, "entity_2": 4})

    def __init__(
        self,
        entities: int = 1000,
        attributes: int = 20,
        values: int = 20,
        id_ratio: float = 0.9,
        iid_ratio: float = 0.1,
        phi: float | None = 7.2,
        n_tokens: int | None = None,
        seed: int = 0,
        batch_size: int = 512,
    ) -> None:
        self.n_entities = require_int("entities", entities, minimum=4)
        largest = max(1, int(2 * MAX_INFERRED / entities**2))
        self.n_attributes = require_int("attributes", attributes, maximum=largest)
        self.n_values = require_int("values", values)
        self.id_ratio = require_float("id_ratio", id_ratio, above=0.0, below=1.0)
        self.iid_ratio = require_float("iid_ratio", iid_ratio, above=0.0, below=1.0)
        own = entities + values + (1 + LABELS) * attributes + len(SPECIALS)
        super().__init__(own, n_tokens, phi, seed, batch_size)

    @property
    def _first_special(self) -> int:
        return self._first_value + self.n_values

    def make_facts(self, rng: np.random.Generator) -> Mapping[str, NDArray]:
        """Draw the table; rows are (attribute, entity) or (attribute, e1, e2)."""
        shape = (self.n_entities, self.n_attributes)
        self.table = rng.integers(self.n_values, size=shape)
        order = rng.permuted(np.tile(np.arange(self.n_entities), (self.n_attributes, 1)), axis=1)
        n_id = round(self.id_ratio * self.n_entities)
        known, unknown = order[:, :n_id], order[:, n_id:]  # (attributes, entities)
        pairs = _pairs(known)
        held_out = rng.random(len(pairs)) < self.iid_ratio
        return {
            "id_atomic": _listed(known),
            "ood_atomic": _listed(unknown),
            "train_inferred": _both_orders(pairs[~held_out]),
            "test_inferred_iid": _both_orders(pairs[held_out]),
            "test_inferred_ood": _both_orders(_pairs(unknown)),
        }

    def spell(self, facts: NDArray, *, atomic: bool) -> Facts:
        """``e a`` and its value, or ``a <q> e1 <mask> e2`` and its label."""
        facts = facts.astype(np.int64)
        attribute, first = facts[:, 0], facts[:, 1]
        token, value = attribute + self.n_entities, self.table[first, attribute]
        if atomic:
            return np.stack([first, token], axis=1), value + self._first_value
        second = facts[:, 2]
        sign = np.sign(value - self.table[second, attribute]) + 1
        question, mask = (np.full_like(first, self.special(t)) for t in ("<q>", "<mask>"))
        questions = np.stack([token, question, first, mask, second], axis=1)
        return questions, self._first_special + len(SPECIALS) + LABELS * attribute + sign

    @property
    def _first_value(self) -> int:
        return self.n_entities + self.n_attributes

    def alternatives(self, questions: NDArray, position: int) -> Facts:
        """All attributes, or all entities."""
        column = {0: 0, 2: 1, 4: 2}[position]
        k = self.n_attributes if column == 0 else self.n_entities
        facts = np.repeat(questions[:, None, ::2], k, axis=1)  # (n, k, 3)
        facts[..., 0] -= self.n_entities
        facts[..., column] = np.arange(k)
        asked, answers = self.spell(facts.reshape(-1, 3), atomic=False)
        shape = facts.shape[:2]
        return asked[:, position].reshape(shape), answers.reshape(shape)

    def make_lens(self, questions: NDArray) -> dict[str, tuple[int, Tensor]]:
        """The values of both entities, each where its entity stands (paper, section 4)."""
        attribute = questions[:, 0] - self.n_entities
        tokens = [self.table[questions[:, at], attribute] + self._first_value for at in (2, 4)]
        return {
            "value_1": (2, torch.from_numpy(tokens[0])),
            "value_2": (4, torch.from_numpy(tokens[1])),
        }


def _listed(entities: NDArray) -> NDArray:
    """(n, 2) rows attribute, entity of entities (attributes, k)."""
    attributes = np.repeat(np.arange(len(entities)), entities.shape[1])
    return np.stack([attributes, entities.ravel()], axis=1)


def _pairs(entities: NDArray) -> NDArray:
    """(n, 3) rows attribute, e1, e2: all unordered pairs of each attribute's entities (a, k)."""
    i, j = np.triu_indices(entities.shape[1], 1)
    attributes = np.repeat(np.arange(len(entities)), len(i))
    columns = (attributes, entities[:, i].ravel(), entities[:, j].ravel())
    return np.stack([column.astype(np.int32) for column in columns], axis=1)


def _both_orders(pairs: NDArray) -> NDArray:
    return np.concatenate([pairs, pairs[:, [0, 2, 1]]])
