"""Loss and accuracy at target tokens, by hand and as the causal language model's mean."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from grokscope.models.sequence_losses import TargetCrossEntropy, TargetsAccuracy

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(5, 4, 7, dtype=torch.float64, generator=GENERATOR)
TARGETS = torch.tensor([[-100, 1, 2, -100], [-100, -100, 3, 3]] * 2 + [[0, 6, -100, -100]])


def test_each_sample_is_the_mean_of_its_target_tokens() -> None:
    found = TargetCrossEntropy()(LOGITS, TARGETS)
    for logits, targets, loss in zip(LOGITS, TARGETS, found, strict=True):
        terms = [
            logits[i].exp().sum().log() - logits[i, t]
            for i, t in enumerate(targets.tolist())
            if t >= 0
        ]
        torch.testing.assert_close(loss, sum(terms) / len(terms))


def test_the_mean_is_that_over_all_target_tokens() -> None:
    flat = F.cross_entropy(LOGITS.flatten(0, 1), TARGETS.flatten())
    torch.testing.assert_close(TargetCrossEntropy().mean(LOGITS, TARGETS), flat)


def test_half_precision_logits_are_summed_in_float32() -> None:
    loss = TargetCrossEntropy()(LOGITS.bfloat16(), TARGETS)
    assert loss.dtype == torch.float32
    expected = TargetCrossEntropy()(LOGITS.bfloat16().double(), TARGETS)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=1e-6)


def greedy(next_token, question: list[int], end: int, longest: int) -> list[int]:
    """What a model says after a question, up to ``end``."""
    said: list[int] = []
    while len(said) < longest and end not in said:
        said.append(next_token([*question, *said]))
    return said


@pytest.mark.parametrize("seed", range(40))
def test_right_is_an_exact_match_of_greedy_decoding(seed: int) -> None:
    """A random causal model: the next token is any function of the tokens so far."""
    end, size = 3, 4
    table: dict[tuple[int, ...], torch.Tensor] = {}
    generator = torch.Generator().manual_seed(seed)

    def logits(tokens: list[int]) -> torch.Tensor:
        return table.setdefault(tuple(tokens), torch.randn(size, generator=generator))

    for answer in range(3):
        question = [0, 1, 2]
        inputs, targets = [*question, answer], torch.tensor([[-100, -100, answer, end]])
        outputs = torch.stack([logits(inputs[: i + 1]) for i in range(4)])[None]
        said = greedy(lambda tokens: int(logits(tokens).argmax()), question, end, 5)
        assert bool(TargetsAccuracy()(outputs, targets)) == (said == [answer, end])
