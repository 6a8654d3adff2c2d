"""What tasks over synthetic facts share: tokens, sequences, splits of the facts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grokscope.data.base import Split, TensorDataModule
from grokscope.validation import require_float, require_int

SPECIALS = ("<mask>", "<sep>", "<a>", "</a>", "<q>", "</q>")
PROBES = ("id_atomic", "ood_atomic", "train_inferred", "test_inferred_iid", "test_inferred_ood")
PROBE_SIZE = 3000
TRACED = 300
IGNORED = -100
MAX_TOKENS = 1_000_000
MAX_INFERRED = 50_000_000

Facts = tuple[NDArray, NDArray]
"""Questions (n, k) and answers (n,), as tokens."""

ATOMIC, TRAINED = PROBES[:2], PROBES[:3]


class KnowledgeDataModule(TensorDataModule):
    r"""Atomic facts, and facts inferred from two of them.

    A sample is one sequence: question, answer, ``</a>``. ``inputs`` (n, t) are its tokens but
    the last, ``targets`` (n, t) the next token at the two positions where the answer and
    ``</a>`` follow, -100 elsewhere. Atomic sequences are shorter and end with ``</a>``, which a
    causal model does not see.

    Atomic facts are in-distribution (ID) or out-of-distribution (OOD). All of them train, and
    with them a part of the facts inferred from two ID facts: ``phi`` times the number of ID
    facts. :attr:`extra` has, in random order and at most 3,000 each, ``id_atomic``,
    ``ood_atomic``, ``train_inferred``, ``test_inferred_iid`` (from two ID facts, not trained
    on) and ``test_inferred_ood`` (from two OOD facts). The test split is
    ``test_inferred_iid``: the authors' validation file is the OOD one, which a model of
    composition never learns.

    Attributes:
        recorded_train: At most 3,000 random training samples, of which the training loss and
            accuracy are recorded.
        lens: What a logit lens looks for in the samples of ``train_inferred``: name ->
            (position in the inputs, token of each sample). There after ``setup``.
        perturbed: The first 300 samples of ``train_inferred`` with one token replaced by a
            random one of its kind, so that the answer is another or there is none: name ->
            (position in the inputs, inputs). Where no token does that, it stays. There after
            ``setup``.
        answer_position: Position at which the answer to an inferred question is predicted.

    Args:
        n_tokens: Rows of the vocabulary; None is the task's own. More are never used: the
            authors' tables have 52,464 and 51,368, with GPT-2's own tokens.
        phi: Inferred training facts for each ID atomic fact; None takes all there are. (The
            authors take all, silently, where there are too few.)
        seed: Seeds facts, splits and the order of mini-batches.
        batch_size: Sequences an optimizer step sees.

    Raises:
        ValueError: At construction, for a wrong argument; in ``setup``, for a ``phi`` that
            asks for more facts than there are, or a split that is left without facts.

    Source:
        Wang, Yue, Su, Sun 2024, arXiv:2405.15071; OSU-NLP-Group/GrokkedTransformer,
        ``composition.ipynb`` and ``comparison.ipynb``.
    """

    lens: dict[str, tuple[int, Tensor]]
    perturbed: dict[str, tuple[int, Tensor]]
    answer_position: int
    replaced: Mapping[str, int]
    """Name -> position of the tokens that :attr:`perturbed` replaces."""

    def __init__(
        self, own_tokens: int, n_tokens: int | None, phi: float | None, seed: int, batch_size: int
    ) -> None:
        super().__init__(batch_size, seed)
        self.own_tokens = own_tokens
        self.n_tokens = own_tokens if n_tokens is None else n_tokens
        require_int("n_tokens", self.n_tokens, minimum=own_tokens, maximum=MAX_TOKENS)
        self.phi = None if phi is None else require_float("phi", phi, above=0.0)

    def special(self, token: str) -> int:
        """Id of one of :data:`SPECIALS`, which follow the tokens of the task."""
        return self._first_special + SPECIALS.index(token)

    @property
    def _first_special(self) -> int:
        raise NotImplementedError

    def make_facts(self, rng: np.random.Generator) -> Mapping[str, NDArray]:
        """Every fact of each of :data:`PROBES`, a row each in a form of its own; no ``phi``."""
        raise NotImplementedError

    def spell(self, facts: NDArray, *, atomic: bool) -> Facts:
        """Tokens of facts of :meth:`make_facts`."""
        raise NotImplementedError

    def make_splits(self) -> tuple[Split, Split]:
        """Draw the facts, choose ``phi`` of them, encode; probes are a random choice."""
        rng = np.random.default_rng(self.seed)
        facts = dict(self.make_facts(rng))
        for name, found in facts.items():
            if not len(found):
                raise ValueError(f"data must leave facts in the split {name}, got none.")
        n_inferred = self._n_inferred(len(facts["id_atomic"]), len(facts["train_inferred"]))
        facts["train_inferred"] = _choose(facts["train_inferred"], n_inferred, rng)
        trained = [self._encode(facts[name], name) for name in TRAINED]
        train = Split(
            torch.cat([split.inputs for split in trained]),
            torch.cat([split.targets for split in trained]),
        )
        chosen = {name: _choose(facts[name], PROBE_SIZE, rng) for name in PROBES}
        self.extra = {name: self._encode(rows, name) for name, rows in chosen.items()}
        self.recorded_train = train[torch.from_numpy(rng.permutation(len(train))[:PROBE_SIZE])]
        questions, answers = self.spell(chosen["train_inferred"], atomic=False)
        self.lens = self.make_lens(questions)
        self.perturbed = self._perturb(questions[:TRACED], answers[:TRACED], rng)
        return train, self.extra["test_inferred_iid"]

    def make_lens(self, questions: NDArray) -> dict[str, tuple[int, Tensor]]:
        """:attr:`lens` for these inferred questions (n, k)."""
        raise NotImplementedError

    def alternatives(self, questions: NDArray, position: int) -> Facts:
        """Tokens (n or 1, k) for this place of inferred questions (n, .), and answers (n, k)."""
        raise NotImplementedError

    def _perturb(
        self, questions: NDArray, answers: NDArray, rng: np.random.Generator
    ) -> dict[str, tuple[int, Tensor]]:
        found = {}
        whole = self.extra["train_inferred"].inputs[: len(answers)]
        for name, position in self.replaced.items():
            tokens, theirs = self.alternatives(questions, position)
            others = theirs != answers[:, None]
            pick = (others * rng.random(others.shape)).argmax(1)[:, None]
            token = np.take_along_axis(np.broadcast_to(tokens, others.shape), pick, 1)[:, 0]
            inputs = whole.clone()
            token = np.where(others.any(1), token, questions[:, position])
            inputs[:, position] = torch.from_numpy(token)
            found[name] = (position, inputs)
        return found

    def _n_inferred(self, n_atomic: int, pool: int) -> int:
        wanted = pool if self.phi is None else round(self.phi * n_atomic)
        if not 0 < wanted <= pool:
            raise ValueError(
                f"phi must ask for 1 to {pool} inferred facts, which is at most "
                f"{pool / n_atomic:.3g} for each of the {n_atomic} ID facts here, got {self.phi}."
            )
        return wanted

    def _encode(self, facts: NDArray, name: str) -> Split:
        questions, answers = self.spell(facts, atomic=name in ATOMIC)
        k, end = questions.shape[1], self.special("</a>")
        inputs = np.full((len(answers), self.answer_position + 2), end, dtype=np.int64)
        targets = np.full_like(inputs, IGNORED)
        inputs[:, :k], inputs[:, k] = questions, answers
        targets[:, k - 1], targets[:, k] = answers, end
        return Split(torch.from_numpy(inputs), torch.from_numpy(targets))


def _choose(facts: NDArray, n: int, rng: np.random.Generator) -> NDArray:
    """``n`` of the rows, or all, in random order."""
    return rng.choice(facts, min(n, len(facts)), replace=False)
