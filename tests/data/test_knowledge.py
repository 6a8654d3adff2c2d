"""Both tasks over facts: published sizes, and every sample against the graph it came from."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from grokscope.data import ComparisonDataModule, CompositionDataModule
from grokscope.data.knowledge import PROBES

SMALL = {"entities": 40, "relations": 12, "out_degree": 6, "iid_ratio": 0.1, "phi": 3.0}
FEW = {"entities": 40, "attributes": 5, "values": 4, "phi": 6.0}


def composition(**settings) -> CompositionDataModule:
    task = CompositionDataModule(**(SMALL | settings))
    task.setup()
    return task


def comparison(**settings) -> ComparisonDataModule:
    task = ComparisonDataModule(**(FEW | settings))
    task.setup()
    return task


def rows(split) -> list[tuple[int, ...]]:
    return [tuple(row) for row in split.inputs.tolist()]


def by_length(split, end: int) -> tuple[list, list]:
    """Atomic and inferred sequences, without what pads them."""
    found: tuple[list, list] = ([], [])
    for inputs, targets in zip(split.inputs.tolist(), split.targets.tolist(), strict=True):
        k = next(i for i, t in enumerate(targets) if t >= 0)
        assert targets[k : k + 2] == [inputs[k + 1], end]
        assert targets[:k] + targets[k + 2 :] == [-100] * (len(targets) - 2)
        assert inputs[k + 2 :] == [end] * (len(inputs) - k - 2)
        found[k > 1].append(tuple(inputs[: k + 2]))
    return found


@pytest.fixture(scope="module")
def published() -> CompositionDataModule:
    task = CompositionDataModule()
    task.setup()
    return task


def test_composition_has_the_published_sizes(published) -> None:
    assert published.n_tokens == 2206
    assert len(published.train) == 40_000 + round(7.2 * 38_000)
    sizes = {name: len(published.extra[name]) for name in PROBES}
    assert sizes["ood_atomic"] == 2000
    assert [sizes[n] for n in PROBES if "ood" not in n] == [3000, 3000, 3000]
    assert 1700 < sizes["test_inferred_ood"] < 2300
    assert published.steps_per_epoch == 613
    assert published.train.inputs.shape[1] == 4


def test_composition_leaves_the_published_pool_of_two_hop_facts() -> None:
    """0.995 * 0.95^2 * 800,000 of them, 18.9 for each ID fact: the largest phi."""
    everything = CompositionDataModule(phi=None)
    everything.setup()
    inferred = len(everything.train) - 40_000
    assert abs(inferred / 718_000 - 1) < 0.01


def test_comparison_has_the_published_sizes() -> None:
    task = ComparisonDataModule()
    facts = task.make_facts(np.random.default_rng(0))
    sizes = {name: len(found) for name, found in facts.items()}
    assert task.n_tokens == 1106
    assert (sizes["id_atomic"], sizes["ood_atomic"]) == (18_000, 2000)
    assert sizes["test_inferred_ood"] == 198_000
    pool = 20 * 900 * 899  # ordered pairs of ID entities
    assert sizes["train_inferred"] + sizes["test_inferred_iid"] == pool
    assert abs(sizes["test_inferred_iid"] / pool - 0.1) < 0.001


def test_the_graph_is_regular_without_repeated_relations() -> None:
    task = composition()
    assert task.relations.shape == task.tails.shape == (40, 6)
    assert all(len(set(row)) == 6 for row in task.relations.tolist())
    assert set(task.relations.ravel()) == set(range(40, 52))
    assert task.tails.min() >= 0
    assert task.tails.max() < 40


def test_every_composition_follows_from_the_graph() -> None:
    task = composition()
    end = task.special("</a>")
    graph = {
        (h, int(r)): int(t)
        for h in range(40)
        for r, t in zip(task.relations[h], task.tails[h], strict=True)
    }
    ood, nothing = by_length(task.extra["ood_atomic"], end)
    ood_facts = {(h, r) for h, r, _ in ood}
    assert not nothing
    assert len(ood_facts) == round(0.05 * 240)
    atomic, inferred = by_length(task.train, end)
    assert sorted(atomic) == sorted((h, r, t) for (h, r), t in graph.items())
    assert len(inferred) == len(set(inferred)) == round(3.0 * 228)
    splits = {n: by_length(task.extra[n], end)[1] for n in PROBES[3:]}
    for name, found in {"train": inferred, **splits}.items():
        for h, r1, r2, t in found:
            b = graph[h, r1]
            assert graph[b, r2] == t
            count = ((h, r1) in ood_facts) + ((b, r2) in ood_facts)
            assert count == (2 if name == "test_inferred_ood" else 0)
    assert not set(inferred) & set(splits["test_inferred_iid"])
    assert set(rows(task.extra["train_inferred"])) <= set(rows(task.train))


def test_the_test_split_is_the_held_out_id_one_and_the_recorded_train_split_a_subset() -> None:
    task = composition()
    assert rows(task.test) == rows(task.extra["test_inferred_iid"])
    assert Counter(rows(task.recorded_train)) == Counter(rows(task.train))  # fewer than 3,000
    assert not torch.equal(task.recorded_train.inputs, task.train.inputs)


def test_recorded_training_samples_are_3000_of_many(published) -> None:
    assert len(published.recorded_train) == 3000
    assert len(set(rows(published.recorded_train))) == 3000
    atomic = (published.recorded_train.targets[:, 1] >= 0) & (
        published.recorded_train.targets[:, 2] == published.special("</a>")
    )
    assert abs(atomic.double().mean() - 40_000 / 313_600) < 0.03


def test_the_lens_looks_for_the_bridge_and_the_second_relation() -> None:
    task = composition()
    inferred = task.extra["train_inferred"].inputs
    assert task.lens["bridge"][0] == 1
    for row, bridge in zip(inferred.tolist(), task.lens["bridge"][1].tolist(), strict=True):
        at = task.relations[row[0]].tolist().index(row[1])
        assert task.tails[row[0], at] == bridge
    assert task.lens["relation"][0] == 2
    assert torch.equal(task.lens["relation"][1], inferred[:, 2])


def test_a_perturbed_composition_differs_in_one_token_of_its_kind_and_in_its_answer() -> None:
    task = composition()
    inputs = task.extra["train_inferred"].inputs[:300]
    answers = inputs[:, 3]
    for name, place in {"head": 0, "relation_1": 1, "relation_2": 2}.items():
        position, others = task.perturbed[name]
        assert position == place
        same = others == inputs
        assert same[:, [i for i in range(4) if i != place]].all()
        assert (~same[:, place]).double().mean() > 0.95
        low, high = (0, 40) if name == "head" else (40, 52)
        assert ((others[:, place] >= low) & (others[:, place] < high)).all()
        head, first, second = others[:, :3].numpy().T
        bridges = task.follow(head, first)
        found = np.where(bridges < 0, -1, task.follow(bridges, second))
        moved = ~same[:, place].numpy()
        assert (found != answers.numpy())[moved].all()
        if name == "relation_1":
            assert (bridges >= 0).all()
        if name == "relation_2":
            assert (found >= 0).all()


def test_every_comparison_follows_from_the_table() -> None:
    task = comparison()
    end, question, mask = (task.special(t) for t in ("</a>", "<q>", "<mask>"))
    id_atomic, _ = by_length(task.extra["id_atomic"], end)
    ood_atomic, _ = by_length(task.extra["ood_atomic"], end)
    assert (len(id_atomic), len(ood_atomic)) == (5 * 36, 5 * 4)
    for e, a, v in id_atomic + ood_atomic:
        assert task.table[e, a - 40] == v - 45
    known = {(e, a) for e, a, _ in id_atomic}
    atomic, inferred = by_length(task.train, end)
    assert sorted(atomic) == sorted(id_atomic + ood_atomic)
    assert len(inferred) == len(set(inferred)) == round(6.0 * 180)
    splits = {n: by_length(task.extra[n], end)[1] for n in PROBES[3:]}
    for name, found in {"train": inferred, **splits}.items():
        for a, q, e1, m, e2, label in found:
            assert (q, m) == (question, mask)
            v1, v2 = task.table[e1, a - 40], task.table[e2, a - 40]
            expected = 0 if v1 < v2 else 1 if v1 == v2 else 2
            assert label == 49 + 6 + 3 * (a - 40) + expected
            assert label < task.n_tokens
            is_known = {(e1, a) in known, (e2, a) in known}
            assert is_known == {name != "test_inferred_ood"}
    held_out = splits["test_inferred_iid"]
    assert {(a, e2, e1) for a, _, e1, _, e2, _ in held_out} == {
        (a, e1, e2) for a, _, e1, _, e2, _ in held_out
    }
    assert not {row[:5] for row in inferred} & {row[:5] for row in held_out}


def test_a_perturbed_comparison_has_another_label() -> None:
    task = comparison()
    inputs = task.extra["train_inferred"].inputs[:300]
    for name, place in {"attribute": 0, "entity_1": 2, "entity_2": 4}.items():
        position, others = task.perturbed[name]
        assert position == place
        moved = others[:, place] != inputs[:, place]
        assert moved.double().mean() > 0.9
        rest = [i for i in range(6) if i != place]
        assert torch.equal(others[:, rest], inputs[:, rest])
        facts = np.stack([others[:, 0].numpy() - 40, *others[:, [2, 4]].numpy().T], axis=1)
        labels = task.spell(facts, atomic=False)[1]
        assert (labels != inputs[:, 5].numpy())[moved.numpy()].all()


def test_the_lens_looks_for_both_values() -> None:
    task = comparison()
    inferred = task.extra["train_inferred"].inputs.numpy()
    for name, place in (("value_1", 2), ("value_2", 4)):
        position, tokens = task.lens[name]
        assert position == place
        expected = task.table[inferred[:, place], inferred[:, 0] - 40] + 45
        assert (tokens.numpy() == expected).all()


@pytest.mark.parametrize("make", [composition, comparison])
def test_the_seed_decides_everything_and_leaves_global_states_alone(make) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = make(seed=1), make(seed=1), make(seed=2)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()
    assert torch.equal(first.train.inputs, again.train.inputs)
    for name in PROBES:
        assert torch.equal(first.extra[name].inputs, again.extra[name].inputs)
    assert not torch.equal(first.train.inputs, other.train.inputs)


def test_a_larger_table_changes_nothing_but_its_size() -> None:
    small, large = composition(), composition(n_tokens=52_464)
    assert (small.n_tokens, large.n_tokens) == (58, 52_464)
    assert torch.equal(small.train.inputs, large.train.inputs)


@pytest.mark.parametrize("phi", [0.5, 3.0, None])
def test_phi_counts_inferred_facts_for_each_id_fact(phi) -> None:
    task = composition(phi=phi)
    _, inferred = by_length(task.train, task.special("</a>"))
    pool = task.make_facts(np.random.default_rng(0))["train_inferred"]
    assert len(inferred) == (len(pool) if phi is None else round(phi * 228))


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (composition, {"entities": 1}, "entities must be an integer >= 2"),
        (composition, {"relations": 0}, "relations must be an integer >= 1"),
        (composition, {"out_degree": 13}, "out_degree must be an integer >= 1 and <= 12, got 13"),
        (composition, {"ood_ratio": 0.0}, "ood_ratio must be a number > 0 and < 1, got 0.0"),
        (composition, {"iid_ratio": 1.0}, "iid_ratio must be a number > 0 and < 1, got 1.0"),
        (composition, {"phi": 0}, "phi must be a number > 0, got 0"),
        (composition, {"phi": 60.0}, "phi must ask for 1 to .* ID facts here, got 60.0"),
        (composition, {"n_tokens": 57}, "n_tokens must be an integer >= 58 .*, got 57"),
        (
            composition,
            {"ood_ratio": 0.004},
            "data must leave facts in the split test_inferred_ood",
        ),
        (composition, {"batch_size": 0}, "batch_size must be an integer >= 1"),
        (composition, {"seed": -1}, "seed must be an integer >= 0"),
        (comparison, {"entities": 3}, "entities must be an integer >= 4"),
        (comparison, {"attributes": 0}, "attributes must be an integer >= 1"),
        (comparison, {"attributes": 100_000}, "attributes must be an integer >= 1 and <= 62500"),
        (comparison, {"values": 0}, "values must be an integer >= 1"),
        (comparison, {"id_ratio": 1.0}, "id_ratio must be a number > 0 and < 1"),
        (comparison, {"id_ratio": 0.99}, "data must leave facts in the split ood_atomic"),
        (comparison, {"phi": 1000.0}, "phi must ask for 1 to "),
    ],
)
def test_wrong_settings_are_refused(make, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)
